"""Lines of run.jsonl parsed into events; those of the schema before are upgraded, and never written."""

from typing import Any

import msgspec
from msgspec import Struct

from bench.record.events import EVENTS, SCHEMA, AnyEvent, Event

#: The oldest schema that is read.
OLDEST = 4
#: Settings that schema 4 had beside those that every framework has.
SWITCHES = ("flush_denormal", "reorder_for_peak_memory")
_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(AnyEvent)


class Foreign(Exception):
    """A line that is not one of our events; the message says what is wrong with it."""


class _Versioned(Struct, tag_field="event", tag="run"):
    schema: int


class _Named(Struct):
    event: Any = None


def schema_of(line: bytes) -> int | None:
    """The schema that a line says as the header of a Run; None where it is no header."""
    try:
        return msgspec.json.decode(line, type=_Versioned).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def parse_event(line: bytes, schema: int = SCHEMA) -> Event:
    """The event of a line; Foreign where it is none, or not whole. ``schema`` is that of its Run."""
    try:
        text = line.decode()  # msgspec does not look at the bytes of a field that it does not know
        try:
            return _DECODER.decode(text)
        except msgspec.ValidationError:
            if schema == SCHEMA:
                raise
            event: Event = msgspec.convert(upgrade(msgspec.json.decode(text, type=dict[str, Any])), AnyEvent)
            return event
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Foreign(_why(line, error)) from error


def _why(line: bytes, error: Exception) -> str:
    try:
        name = msgspec.json.decode(line.decode(), type=_Named).event
    except (msgspec.DecodeError, UnicodeDecodeError) as not_json:
        return f"not a JSON object ({not_json})"
    except RecursionError:
        return "not a JSON object of ours: nested too deep"
    if not isinstance(name, str) or name not in EVENTS:
        return f"expected an event of a Run, found {str(name)[:40]!r}" if name else "expected an event, found none"
    return f"a {name} event that is not whole ({error})"


def upgrade(event: dict[str, Any]) -> dict[str, Any]:
    """The same event in schema 5, whose fields nobody has checked yet."""
    if event.get("event") == "round" and "spoilt" in event:
        return event | {"disturbed": event["spoilt"]}
    if event.get("event") == "worker" and isinstance(conditions := event.get("conditions"), dict):
        switches = {name: conditions[name] for name in SWITCHES if name in conditions}
        return event | {"conditions": {"bf16": None, "filled": [], "switches": switches} | conditions}
    return event
