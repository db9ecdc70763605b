"""Files as pytest-benchmark stores them."""

import json
from pathlib import Path
from typing import Any

MACHINE = {"node": "n", "system": "Linux", "release": "6", "machine": "x86_64", "python_version": "3.12.1"}


def stored(
    folder: Path,
    name: str,
    *benchmarks: tuple[str, list[float], dict[str, Any]],
    when: str | None = "2026-01-01T00:00:00",
    machine: dict[str, Any] = MACHINE,
    **more: Any,
) -> Path:
    """A file of benchmarks: (name, samples in seconds, what else it says of a benchmark)."""
    made = [
        {"name": name, "fullname": f"t.py::{name}", "stats": {"data": data}, **said} for name, data, said in benchmarks
    ]
    path = folder / name
    path.write_text(
        json.dumps({"machine_info": machine, "datetime": when, "version": "5.3.1", "benchmarks": made} | more)
    )
    return path
