"""Runs rank_program.py once per rank of a Team, all at a time, and has what each saved."""

import dataclasses
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from paths import ROOT
from rank_program import Program, Script

from bench.controller import launch
from impls.net import Settings

Saved = dict[str, np.ndarray]
LIMIT_S = 240


def free_addresses(world: int) -> list[str]:
    """Ports of this machine that nobody has now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(world)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def run_ranks(framework: str, scripts: list[list[Script]], folder: Path, stopped_s: float = 0) -> list[Saved]:
    """What each rank saved, by the number and place of the call; ``scripts`` are those of each rank.

    The last rank is stopped for so long when its first Net is built. AssertionError with the ends of the ranks' stderr
    if one fails; none outlives this call.
    """
    addresses = free_addresses(len(scripts))
    children, programs = [], []
    for number, its in enumerate(scripts):
        program = Program(framework, number, addresses, its, str(folder / f"{framework}.{number}.npz"))
        file = folder / f"{framework}.{number}.json"
        file.write_text(json.dumps(dataclasses.asdict(program)))
        extra = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        environment = launch.environment(Settings("cpu", 1, "fp32"), extra, folder / "cache")
        command = [sys.executable, str(ROOT / "tests" / "rank_program.py"), str(file)]
        with file.with_suffix(".err").open("wb") as stderr:
            children.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=stderr, stderr=stderr))
        programs.append(program)
    until = time.monotonic() + LIMIT_S + stopped_s
    try:
        if stopped_s:
            while children[-1].poll() is None and not programs[-1].built.exists():
                time.sleep(0.01)
            children[-1].send_signal(signal.SIGSTOP)
            time.sleep(stopped_s)
            children[-1].send_signal(signal.SIGCONT)
        while any(child.poll() is None for child in children):
            failed = [number for number, child in enumerate(children) if child.poll()]
            assert failed == [], told(folder, framework, failed)
            assert time.monotonic() < until, told(folder, framework, [])
            time.sleep(0.1)
        assert [child.returncode for child in children] == [0] * len(children), told(folder, framework, range(9))
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [dict(np.load(program.saved)) for program in programs]


def told(folder: Path, framework: str, numbers: object) -> str:
    """The ends of what the ranks wrote, of which these failed first."""
    texts = (f"{file.name}:\n{file.read_text(errors='replace')[-3000:]}" for file in sorted(folder.glob("*.err")))
    return "\n".join([f"{framework}: ranks {numbers} failed, or took too long", *texts])
