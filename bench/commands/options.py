"""Option declarations: each option is a field of a request, with its default, help text and parser."""

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from bench import UsageError
from bench.cases.parse import option_name, parse_path

Parser = Callable[[str, str], Any]  # (option name, text) -> value; raises UsageError
T = TypeVar("T")


def parse_text(what: str, text: str) -> str:
    return text


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """How an option is given; ``environment``: also by a variable."""

    metavar: str = ""
    help: str = ""
    default: str | None = None
    """As text; the field's default is this text parsed."""
    parse: Parser = parse_text
    environment: bool = True
    repeated: bool = False
    required: bool = False
    flag: bool = False
    argument: bool = False
    """A positional path."""


def option(metavar: str, help: str, parse: Parser = parse_text, default: str | None = None, **more: Any) -> Any:
    """A field given by ``--<name>``; without a default it is None, or () if ``repeated``."""
    return _field(Declaration(metavar=metavar, help=help, default=default, parse=parse, **more))


def flag(help: str, *, environment: bool = True) -> Any:
    """A field that is True if ``--<name>`` is given."""
    return _field(Declaration(help=help, flag=True, environment=environment))


def argument(metavar: str, *, repeated: bool = False, required: bool = False) -> Any:
    """A field given by a positional path, or by several."""
    return _field(Declaration(metavar=metavar, parse=parse_path, repeated=repeated, required=required, argument=True))


def _field(declared: Declaration) -> Any:
    """The default is parsed when a request is created, not for --help."""
    default: dict[str, Any] = {"default": False if declared.flag else () if declared.repeated else None}
    if declared.default is not None:
        text, parse = declared.default, declared.parse
        default = {"default_factory": lambda: parse("default", text)}
    return dataclasses.field(metadata={"declaration": declared}, kw_only=True, **{} if declared.required else default)


def declarations(request: type) -> dict[str, Declaration]:
    """The declarations of a request, by field name."""
    return {field.name: field.metadata["declaration"] for field in dataclasses.fields(request)}


def convert(request: Any, target: type[T], **changes: Any) -> T:
    """Convert a request to another class: copy the fields that both have, then apply ``changes``."""
    names = {field.name for field in dataclasses.fields(target)}  # type: ignore[arg-type]
    shared = {field.name: getattr(request, field.name) for field in dataclasses.fields(request) if field.name in names}
    return target(**{**shared, **changes})


def refuse_others(taken: Collection[str], why: str) -> None:
    """UsageError for an option on the command line other than the fields ``taken``; variables are ignored."""
    context = click.get_current_context(silent=True)
    for field in sorted(context.params.keys() - set(taken)) if context else ():
        if context and context.get_parameter_source(field) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{why}; leave out {option_name(field)}")
