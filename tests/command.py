"""`python -m bench` in a process of its own, with the null Net in most tests."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from paths import ROOT

#: A small net and few iterations: these tests are about the harness, the proof runs all the same.
SMALL = ("--framework", "null", "--variant", "half_width", "--size", "67", "--batch", "2")
NULL = (*SMALL, "--rounds", "2", "--no-gate", "--burn-in", "2")


@dataclass
class Finished:
    code: int
    out: str
    err: str
    results: Path

    @property
    def folder(self) -> Path:
        (folder,) = self.results.iterdir()
        return folder

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "run.jsonl").read_text().splitlines()]

    def of(self, event: str) -> list[dict]:
        return [one for one in self.events if one["event"] == event]


class Command:
    """`python -m bench` in a child process, results under a folder of the test's own."""

    def __init__(self, folder: Path):
        self.results, self.scratch = folder / "results", folder / "scratch"

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        self.scratch.mkdir(parents=True, exist_ok=True)
        out = ("--out", str(self.results)) if args[:1] == ("run",) and "--resume" not in args else ()
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *args, *out],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(self.scratch), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process: subprocess.Popen) -> Finished:
        out, err = process.communicate(timeout=800)
        return Finished(process.returncode, out, err, self.results)

    def __call__(self, *args: str, env: dict[str, str] | None = None) -> Finished:
        return self.finish(self.start(*args, env=env))

    def resume(self, folder: Path, *args: str) -> Finished:
        return self("run", "--resume", str(folder), *args)
