"""The latest results of `selftest`, stored in the folder of Runs."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import bench
from bench import UsageError
from bench.machine import host
from impls.files import open_whole

STORED = "selftest.json"


class SelfTest(Struct, frozen=True):
    """The latest result of a part of `selftest` in the folder of Runs."""

    made: str | None
    alexnet_bench: str | None
    host: str | None
    ok: bool | None


def store(out: Path, what: str, ok: bool, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Store the latest result of a part of `selftest` (harness, aa, power) and return the path of the file.

    Raises UsageError if it cannot be written.
    """
    path = out / STORED
    made = datetime.now(UTC).isoformat(timespec="seconds")
    facts = {"made": made, "alexnet_bench": bench.__version__, "host": host.fingerprint().host, "ok": ok}
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(stored(out) | {what: {**facts, "checks": list(rows)}}, indent=1) + "\n"
        with open_whole(path, "w") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder with --out") from error
    return path


def stored(out: Path) -> dict[str, Any]:
    """Everything in the file by part; empty if it cannot be read."""
    try:
        parts = json.loads((out / STORED).read_text())
    except (OSError, ValueError):
        return {}
    return parts if isinstance(parts, dict) else {}


def latest(out: Path) -> dict[str, SelfTest]:
    """The latest result of each part, for the header of a Run."""
    results = {}
    for what, part in stored(out).items():
        with contextlib.suppress(msgspec.ValidationError):
            results[what] = msgspec.convert(part, SelfTest)
    return results
