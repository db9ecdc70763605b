"""Words: the command line that a request is parsed from."""

from pathlib import Path
from typing import Any

from bench.cases.parse import option_name, parse_percent
from bench.commands.options import Declaration, declarations


def words_of(request: Any) -> list[str]:
    """The options of a request that are not at their default, for a command without required ones.

    Each is one word, so that no value is taken for an option.
    """
    usual, words = type(request)(), list[str]()
    for field, declared in declarations(type(request)).items():
        value = getattr(request, field)
        if value == getattr(usual, field):
            continue
        if declared.flag:
            words.append(option_name(field))
            continue
        words += [f"{option_name(field)}={text}" for text in texts_of(declared, value)]
    return words


def texts_of(declared: Declaration, value: Any) -> list[str]:
    """The texts that an option is given with, several if it may be repeated."""
    if declared.repeated:
        return ["=".join(each) if isinstance(each, tuple) else str(each) for each in value]
    if isinstance(value, tuple):
        return [",".join("=".join(each) if isinstance(each, tuple) else str(each) for each in value)]
    if isinstance(value, float):
        return [f"{value * 100:.15g}" if declared.parse is parse_percent else repr(value)]
    return [str(value) if isinstance(value, Path) else f"{value}"]
