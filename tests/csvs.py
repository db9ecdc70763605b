"""CSV files for plots."""

from pathlib import Path
from typing import Any

import pandas as pd

#: A row of summary.csv with the columns that plots need.
ROW = {
    "case_id": "a",
    "variant": "owt",
    "framework": "torch",
    "mode": "eager",
    "device": "cpu",
    "batch": 8,
    "pass": "forward",
    "mean_ms": 12.5,
    "stddev_ms": 1.0,
    "device_name": "a CPU",
}
SAMPLE = {"case_id": "a", "round": 0, "phase": "sample", "start_ns": 10**15, "duration_ns": 1250, "valid": True}
LAYER = {"variant": "owt", "layer": "conv1", "kind": "conv", "framework": "torch", "mode": "eager", "pass": "forward"}


def csv(folder: Path, *rows: dict[str, Any], name: str = "summary.csv", **options: Any) -> Path:
    """Write these rows to a CSV; options are those of ``DataFrame.to_csv``."""
    path = folder / name
    pd.DataFrame(list(rows)).to_csv(path, index=False, **options)
    return path
