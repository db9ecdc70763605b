"""Render the report: one self-contained HTML file that runs only its own script."""

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.stats.verdict import Word

#: Content security policy: only inline style, the script with this hash, and embedded images.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def render(**content: Any) -> str:
    """Return the page; all text is escaped unless it is Markup."""
    script = _data("report.js")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    style = _data("report.css") + "".join(f".{word} {{ color: var(--{word.color}); }}\n" for word in Word)
    return _environment().get_template("report.html").render(
        policy=POLICY.format(hashed), script=Markup(script), style=Markup(style), **content
    )  # fmt: skip


def prose(text: str) -> Markup:
    """Mark up commands in backticks as code, and keep numbers on one line with their units and intervals."""
    held = re.sub(r"(?<=\d) (?=%|ms\b|Rounds?\b|\[\d)|(?<=\d,) (?=\d[\d.]*\])", "\u00a0", text)
    return Markup(re.sub(r"`((?:alexnet-bench|make) [\w ,.-]+)`", r"<code>\1</code>", str(escape(held))))


def names(text: str) -> Markup:
    """Allow a line break after each underscore, so that the name of a flag breaks between its words."""
    return Markup(str(escape(text)).replace("_", "_<wbr>"))


def options(line: str) -> Markup:
    """Allow line breaks in a command only before options."""
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in re.split(r" (?=--)", line))


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FunctionLoader(_data),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"plot": Markup, "prose": prose, "names": names, "options": options}  # svg.inline sanitizes
    return environment


def _data(name: str) -> str:
    return resources.files("bench.output.page").joinpath(name).read_text(encoding="utf-8")
