"""Time every cheating net beside an honest one and say what came of it: `make cheats [FRAMEWORK=torch]`."""

import ast
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.record.run import Run

NETS = Path(__file__).with_name("nets.py")
#: Names of all cheating nets; ``build`` is the honest one.
CHEATS = [
    node.name for node in ast.parse(NETS.read_text()).body if isinstance(node, ast.FunctionDef) and node.name != "build"
]
SETTINGS = (
    *("--variant", "half_width", "--size", "67", "--batch", "4", "--threads", "1"),
    *("--rounds", "1", "--iterations", "10", "--burn-in", "4", "--no-gate"),
)
HARMLESS = 0.7  # of the honest net's time: no gain that a machine's noise could not make


class Outcome(NamedTuple):
    """What became of a net: ``caught`` with the reason, ``harmless`` (as slow as the honest one) or ``missed``."""

    word: str
    reason: str


def outcomes(names: list[str], framework: str, folder: Path) -> dict[str, Outcome]:
    """Outcomes by name, of one Run with the honest net among them."""
    nets = [word for name in ("build", *names) for word in ("--net", f"{NETS}:{name}")]
    command = [sys.executable, "-m", "bench", "run", *SETTINGS, "--framework", framework, *nets, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=NETS.parents[2])
    (made,) = folder.iterdir()
    rows: dict[str, list[dict[str, object]]] = {}
    for row in Run(made).rows():
        rows.setdefault(str(row["net"] or ""), []).append(row)
    honest = rows["nets"]
    assert all(row["valid"] for row in honest), (honest, done.stderr)
    return {name: _outcome(rows[f"nets.{name}"], honest) for name in names}


def _outcome(rows: list[dict[str, object]], honest: list[dict[str, object]]) -> Outcome:
    if reasons := [str(row["invalid_reason"]) for row in rows if not row["valid"]]:
        return Outcome("caught", reasons[0])
    ratios = [
        float(str(row["median_ms"])) / float(str(own["median_ms"])) for row, own in zip(rows, honest, strict=True)
    ]
    return Outcome("harmless" if min(ratios) >= HARMLESS else "missed", f"{min(ratios):.2f} of the honest net's time")


def main(framework: str) -> int:
    with tempfile.TemporaryDirectory() as folder:
        known = outcomes(CHEATS, framework, Path(folder))
    for name, outcome in known.items():
        print(f"{name:34} {outcome.word:9} {outcome.reason}")
    words = [outcome.word for outcome in known.values()]
    print(
        f"{len(words)} nets: " + ", ".join(f"{words.count(word)} {word}" for word in ("caught", "harmless", "missed"))
    )
    return int("missed" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "torch"))
