"""A Run of two null Nets without its table, for tests that kill it: `driver.py FOLDER run|resume NULL_NET`.

Each call of its Watcher is one line of JSON on stdout: the method's name, then the arguments, a Case by its id.
"""

import json
import sys
from pathlib import Path
from typing import Any

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.machine import noise
from bench.record.run import Run

ROUNDS, SAMPLES = 3, 8


def report(*words: Any) -> None:
    print(json.dumps(words, default=lambda case: case.id), flush=True)


def reporter() -> Watcher:
    names = [name for name in vars(Watcher) if name.startswith("on_")]
    methods = {name: lambda self, *words, name=name: report(name, *words) for name in names}
    return type("Reporter", (Watcher,), methods)()


def main(folder: Path, do: str, null_net: str) -> None:
    noise.invalid_reason = lambda turns: ""  # noise must not repeat Rounds
    cases = [
        Case("half_width", "null", mode, "cpu", "fp32", "nhwc", 2, "forward", size=67) for mode in ("noop", "part")
    ]
    protocol = Protocol(rounds=ROUNDS, burn_in=2, gate=False, iterations=SAMPLES, turn_lengths=(2,))
    earlier = Run(folder) if do == "resume" else None
    rounds = Rounds(cases, protocol, WorkerSettings(1, 60, env={"NULL_NET": null_net}), folder, reporter(), earlier)
    rounds.resume() if earlier else rounds.write_header("r", "", {})
    report(rounds.run())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
