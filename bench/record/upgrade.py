"""Events of schema 4 that schema 5 has otherwise; a Run of schema 4 is read, and never gone on with."""

from typing import Any

#: Settings that schema 4 had beside those that every framework has.
SWITCHES = ("flush_denormal", "reorder_for_peak_memory")


def upgrade(event: dict[str, Any]) -> dict[str, Any]:
    """The same event in schema 5, whose fields nobody has checked yet."""
    if event.get("event") == "round" and "spoilt" in event:
        return event | {"disturbed": event["spoilt"]}
    if event.get("event") == "worker" and isinstance(conditions := event.get("conditions"), dict):
        switches = {name: conditions[name] for name in SWITCHES if name in conditions}
        return event | {"conditions": {"bf16": None, "filled": [], "switches": switches} | conditions}
    return event
