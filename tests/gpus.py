"""Cards of a stand-in for NVML, for a command in a child process."""

import json
import os
from pathlib import Path
from typing import Any

CARD = {
    "uuid": "GPU-aaaa-1",
    "name": "NVIDIA H200",
    "sm_mhz": 1980,
    "watts": 400.0,
    "temp_c": 50,
    "reasons": 0,
    "pids": ["own"],
    "memory": 139 * 2**30,
    "mig": 0,
    "mode": 0,
    "ecc": 0,
}


def card(**facts: Any) -> dict[str, Any]:
    """A card that is well, but for ``facts``."""
    return CARD | facts


def with_cards(folder: Path, *cards: dict[str, Any], **state: Any) -> dict[str, str]:
    """Variables under which a command finds these cards; ``state``: other keys of tests/stand_ins/pynvml.py."""
    file = folder / "nvml.json"
    file.write_text(json.dumps({"driver": "580.95.05", "cuda": 13000, "cards": cards or (CARD,)} | state))
    paths = [str(Path(__file__).parent / "stand_ins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"NVML_STAND_IN": str(file), "PYTHONPATH": os.pathsep.join(paths)}
