"""How an option is declared: once, as a field of a request, with its default, its help and the parser of its text."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Parser = Callable[[str, str], Any]  # (option as it is written, text) -> value; UsageError for a mistake
T = TypeVar("T")


def parse_text(what: str, text: str) -> str:
    return text


def parse_path(what: str, text: str) -> Path:
    return Path(text)


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """How an option is written; ``environment``: a variable can give it too."""

    metavar: str = ""
    help: str = ""
    default: str | None = None
    """As text; parsed, it is the field's default."""
    parse: Parser = parse_text
    environment: bool = True
    repeated: bool = False
    required: bool = False
    flag: bool = False
    argument: bool = False
    """A path that has no option's name before it."""


def option(metavar: str, help: str, parse: Parser = parse_text, default: str | None = None, **more: Any) -> Any:
    """A field that ``--<name>`` gives: None, or () where it is ``repeated``, if there is no default."""
    return _field(Declaration(metavar=metavar, help=help, default=default, parse=parse, **more))


def flag(help: str, *, environment: bool = True) -> Any:
    """A field that is True where ``--<name>`` is written."""
    return _field(Declaration(help=help, flag=True, environment=environment))


def argument(metavar: str, *, repeated: bool = False, required: bool = False) -> Any:
    """A field that a path gives, or several."""
    return _field(Declaration(metavar=metavar, parse=parse_path, repeated=repeated, required=required, argument=True))


def _field(declared: Declaration) -> Any:
    """The default is parsed when a request is made, not for --help."""
    default: dict[str, Any] = {"default": False if declared.flag else () if declared.repeated else None}
    if declared.default is not None:
        text, parse = declared.default, declared.parse
        default = {"default_factory": lambda: parse("default", text)}
    return dataclasses.field(metadata={"declaration": declared}, kw_only=True, **{} if declared.required else default)


def declarations(request: type) -> dict[str, Declaration]:
    """Every option of a command, by its field."""
    return {field.name: field.metadata["declaration"] for field in dataclasses.fields(request)}


def convert(request: Any, target: type[T], **changes: Any) -> T:
    """A request of another command: the fields that both have, and these changes."""
    names = {field.name for field in dataclasses.fields(target)}  # type: ignore[arg-type]
    shared = {field.name: getattr(request, field.name) for field in dataclasses.fields(request) if field.name in names}
    return target(**{**shared, **changes})
