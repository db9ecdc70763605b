"""Page: one HTML file from a template, that loads nothing and runs nothing but the script it is delivered with."""

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from bench.stats.verdict import Word

#: Nothing from anywhere, but what stands in the page: its style, its one script by hash, its pictures.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)


def render(**content: Any) -> str:
    """The page. All text is escaped but what is Markup."""
    script = _data("report.js")
    hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    style = _data("report.css") + "".join(f".{word} {{ color: var(--{word.color}); }}\n" for word in Word)
    return _environment().get_template("report.html").render(
        policy=POLICY.format(hashed), script=Markup(script), style=Markup(style), **content
    )  # fmt: skip


def prose(text: str) -> Markup:
    """Text with our commands in backticks as code, and no line between a number and its unit or its interval."""
    held = re.sub(r"(?<=\d) (?=%|ms\b|Rounds?\b|\[\d)|(?<=\d,) (?=\d[\d.]*\])", "\u00a0", text)
    return Markup(re.sub(r"`((?:alexnet-bench|make) [\w ,.-]+)`", r"<code>\1</code>", str(escape(held))))


def options(line: str) -> Markup:
    """A command whose lines break between its options."""
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in re.split(r" (?=--)", line))


def _environment() -> Environment:
    made = Environment(
        autoescape=True,
        loader=FunctionLoader(_data),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"plot": Markup, "prose": prose, "options": options}  # of a plot what svg.inline let through
    return made


def _data(name: str) -> str:
    return resources.files("bench.output.page").joinpath(name).read_text(encoding="utf-8")
