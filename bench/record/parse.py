"""Parse lines of run.jsonl into events; those of an older schema are upgraded in memory."""

from typing import Any

import msgspec
from msgspec import Struct

from bench.record.events import EVENTS, SCHEMA, AnyEvent, Event
from impls.text import quoted

#: The oldest schema that is read.
OLDEST = 4
#: Settings of a framework that schema 4 had next to those of all.
SWITCHES = ("flush_denormal", "reorder_for_peak_memory")
_DECODER: msgspec.json.Decoder[Event] = msgspec.json.Decoder(AnyEvent)


class Foreign(Exception):
    """A line is not an event; the message says why."""


class _Versioned(Struct, tag_field="event", tag="run"):
    schema: int


class _Named(Struct):
    event: Any = None


def schema_of(line: bytes) -> int | None:
    """The schema of a header line; None if the line is not a header."""
    try:
        return msgspec.json.decode(line, type=_Versioned).schema
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def parse_event(line: bytes, schema: int = SCHEMA) -> Event:
    """Parse a line into an event. ``schema`` is that of its Run. Raises Foreign if the line is not a valid event."""
    try:
        text = line.decode()  # msgspec does not check the bytes of unknown fields
        try:
            if schema == SCHEMA or b'"block"' not in line:
                return _DECODER.decode(text)
            raise msgspec.ValidationError  # a block of schema 4 has a field that must not be ignored
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
        return "JSON nested too deeply"
    if not isinstance(name, str) or name not in EVENTS:
        return f"expected an event of a Run, found {quoted(str(name))}" if name else "expected an event, found none"
    return f"an invalid {name} event ({error})"


def upgrade(event: dict[str, Any]) -> dict[str, Any]:
    """Convert an event of schema 4 to schema 5, without validation."""
    if event.get("event") == "round" and "spoilt" in event:
        return event | {"disturbed": event["spoilt"]}
    if event.get("event") == "block" and event.get("fault"):
        reason = f"after it was timed it {event['fault']}"
        return {"event": "failed", "case_id": event.get("case_id"), "reason": reason}
    if event.get("event") == "worker" and isinstance(conditions := event.get("conditions"), dict):
        switches = {name: conditions[name] for name in SWITCHES if name in conditions}
        return event | {"conditions": {"bf16": None, "filled": [], "switches": switches} | conditions}
    return event
