"""A whole Run of two null Nets without its table, for tests that kill it: `driver.py FOLDER run|resume NULL_NET`.

Each event that the controller reports is one line of JSON on stdout: its kind, the Case's id, its fields.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.machine import noise
from bench.record.run import Run

ROUNDS, SAMPLES = 3, 8


def report(kind: str, case: Case | None = None, **fields: Any) -> None:
    print(json.dumps([kind, case and case.id, fields]), flush=True)


def main(folder: Path, do: str, null_net: str) -> None:
    noise.invalid = lambda turns: ""  # a busy machine must not add Rounds
    cases = [
        Case("half_width", "null", mode, "cpu", "fp32", "nhwc", 2, "forward", size=67) for mode in ("noop", "part")
    ]
    protocol = Protocol(rounds=ROUNDS, burn_in=2, gate=False, iterations=SAMPLES, turn_lengths=(2,))
    earlier = Run(folder) if do == "resume" else None
    rounds = Rounds(cases, protocol, WorkerSettings(1, 60, env={"NULL_NET": null_net}), folder, report, earlier)
    rounds.go_on() if earlier else rounds.head("r")
    report(rounds.run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
