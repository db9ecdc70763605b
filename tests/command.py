"""The command line, in a child process or in this one."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from paths import ROOT

from bench.commands.cli import main

#: A small net and few iterations, since these tests are about the harness. The null Net computes its values with numpy,
#: whose products are too small here for a second thread, which would only spin.
ONE_THREAD = ("--env", "OPENBLAS_NUM_THREADS=1")
SMALL = ("--framework", "null", *ONE_THREAD, "--variant", "half_width", "--size", "67", "--batch", "2")
NULL = (*SMALL, "--rounds", "2", "--iterations", "10", "--no-gate", "--burn-in", "2")


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
        return [line for line in self.events if line["event"] == event]


class Command:
    """`python -m bench` in a child process, with results in the test's folder."""

    def __init__(self, folder: Path):
        self.results, self.scratch = folder / "results", folder / "scratch"

    def out(self, args: tuple[str, ...]) -> tuple[str, ...]:
        return ("--out", str(self.results)) if args[:1] == ("run",) and "--resume" not in args else ()

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen:
        self.scratch.mkdir(parents=True, exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *args, *self.out(args)],
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


class Inline(Command):
    """The same in this process, without another start and import of matplotlib and pandas; Workers are processes.

    For tests that send no signal and need no plots: none are drawn.
    """

    def __call__(self, *args: str, env: dict[str, str] | None = None) -> Finished:
        self.scratch.mkdir(parents=True, exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(self.scratch))
            patch.setattr("bench.commands.results.draw_run_folder", lambda *args, **kinds: [])
            runner = CliRunner(env={"TMPDIR": str(self.scratch), **(env or {})})
            result = runner.invoke(main, [*args, *self.out(args)])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Finished(result.exit_code, result.stdout, result.stderr, self.results)
