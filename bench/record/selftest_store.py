"""The latest results of `selftest`, kept beside the Runs."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import bench
from bench import UsageError
from bench.machine import host
from bench.record.events import SelfTest

STORED = "selftest.json"


def store(out: Path, what: str, ok: bool, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Keep the latest result of a part where Runs are made: of the harness, of --aa, of --power."""
    path = out / STORED
    made = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"made": made, "alexnet_bench": bench.__version__, "host": host.fingerprint().host, "ok": ok}
    try:
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stored(out) | {what: {**facts, "checks": list(rows)}}, indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    return path


def stored(out: Path) -> dict[str, Any]:
    """All that is kept there; nothing where it cannot be read."""
    try:
        found = json.loads((out / STORED).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def latest(out: Path) -> dict[str, SelfTest]:
    """What the last self-tests beside these Runs found, for their headers: each part's facts without its rows."""
    found = {}
    for what, part in stored(out).items():
        with contextlib.suppress(msgspec.ValidationError):
            found[what] = msgspec.convert(part, SelfTest)
    return found
