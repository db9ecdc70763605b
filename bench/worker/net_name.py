"""NetName: what ``--net`` is given, ``FILE.py:NAME`` or ``package.module:NAME``, with or without arguments."""

import ast
import re
from dataclasses import dataclass
from typing import Any

from bench import UsageError
from impls.text import quoted

WRITTEN = "FILE.py:NAME or package.module:NAME"


@dataclass(frozen=True)
class NetName:
    """``module`` is empty for a file, ``arguments`` where NAME has no parentheses."""

    file: str
    module: str
    name: str
    arguments: str


def parse_net_name(text: str) -> NetName:
    """Raises UsageError for what names no net, or has arguments that are not literals."""
    found = re.fullmatch(r"(.+?):([\w.]+)(\(.*\))?", text.strip(), re.DOTALL)
    file, name, arguments = found.groups() if found else (text, "", None)
    module = "" if file.endswith(".py") else file
    if not all(part.isidentifier() for part in [*name.split("."), *(module.split(".") if module else [])]):
        raise UsageError(f"--net: expected {WRITTEN}, found {quoted(text)}")
    return NetName(file, module, name, written(arguments, name) if arguments else "")


def written(arguments: str, name: str) -> str:
    """Arguments in parentheses as Python writes them, ``(weights=None)``. Raises UsageError unless all are literals."""
    try:
        values(arguments)
        call = ast.parse(f"f{arguments}", mode="eval").body
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise UsageError(
            f"--net: {name}{quoted(arguments)[1:-1]}: expected arguments that are numbers, strings, True, False, None, "
            "or tuples, lists and dicts of them, such as (weights=None)"
        ) from None
    return ast.unparse(call)[1:]


def values(arguments: str) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments; none of an empty text. Raises ValueError unless all are literals."""
    call = ast.parse(f"f{arguments or '()'}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError("not one call")
    named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg}
    if len(named) < len(call.keywords):
        raise ValueError("** is no literal")
    return [ast.literal_eval(argument) for argument in call.args], named


def split_names(text: str) -> list[str]:
    """Split at the commas that are outside of parentheses, brackets and strings."""
    parts, depth, string = [""], 0, ""
    for letter in text:
        if string or letter in "'\"":
            string = "" if letter == string else string or letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not string:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
