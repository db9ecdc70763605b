"""What the commands themselves cost, on a Run of 100,000 samples; pytest tests/speed/test_commands.py -s prints it.

Each is a process of its own, once to warm the disk's cache and three times to be counted. No time is asserted.
"""

import dataclasses
import itertools
import math
import random
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from runs import A, B, head, turn, worker

from bench.cases.protocol import Protocol
from bench.output.plots.kinds import KINDS
from bench.record.run import Run

CASES = [dataclasses.replace(case, pass_=pass_) for pass_ in ("forward", "forward_backward") for case in (A, B)]
USUAL_NS = {"torch": 20e6, "tensorflow": 15e6}  # of a forward pass; both passes take three times as long
ROUNDS, SAMPLES, TURN = 5, 5000, 5  # Rounds; samples of a Case in a Round; in a Turn
PAUSE_NS = 3 * 10**9  # between two Rounds
#: `layers` draws the rows of a profile, a few dozen figures and no samples.
DRAWN = [kind for kind in KINDS if kind != "layers"]
HELP_S, PLOT_S, REPORT_S, PAGE_MB = 0.15, 5, 8, 5  # goals; of --help CPU time, of the others wall time


class Machine:
    """One whose speed differs from Round to Round and from iteration to iteration, with outliers, on a clock."""

    def __init__(self):
        self.dice, self.now = random.Random(1), 10**9

    def start(self):
        self.speed = {case.id: self.dice.lognormvariate(0, 0.02) for case in CASES}

    def iterations(self, case, slower):
        """A Turn with an iteration for each of these shares by which one is slower than usual."""
        usual = USUAL_NS[case.framework] * (3 if case.pass_ == "forward_backward" else 1) * self.speed[case.id]
        ns = [int(usual * (1 + share) * self.noise()) for share in slower]
        made = turn(case, ns, self.now)
        self.now += sum(ns) + 1000
        return made

    def noise(self):
        return self.dice.lognormvariate(0, 0.03) * (1.5 if self.dice.random() < 0.01 else 1)


def events():
    """Those of a Run as its controller leaves them."""
    machine = Machine()
    yield {"event": "run", **head(CASES, Protocol(rounds=ROUNDS, iterations=SAMPLES))}
    for number in range(ROUNDS):
        machine.start()
        for event in round_(machine):
            yield event | {"group": 0, "round": number, "attempt": 0}
        machine.now += PAUSE_NS
    yield {"event": "stop", "group": 0, "reason": "planned"}
    yield {"event": "end", "reason": "planned"}


def round_(machine):
    """Workers, burn-in, Turns in a random order and its mirror."""
    for first in (A, B):
        yield {"event": "worker", **worker(first, case_ids=[one.id for one in CASES if one.worker == first.worker])}
    for case in CASES:
        made = machine.iterations(case, [0.3 * math.exp(-n / 3) for n in range(12)])
        taken = {name: made[name] for name in ("case_id", "start_ns", "ns")}
        sync = {"iterations": 1, "copy_ns": 1, "allowed_ns": 2}
        yield {"event": "burn_in", **taken, "stop": "gate", "steady_at": 10, "sync": sync, "spin_ns": 0}
    for cycle in range(SAMPLES // (2 * TURN)):
        order = machine.dice.sample(CASES, len(CASES))
        for case in itertools.chain(order, reversed(order)):
            made = machine.iterations(case, [0.1] + [0.0] * TURN)  # the lead first
            yield {"event": "turn", **made, "cycle": cycle, "lead": 1}
    facts = {"fault": "", "changed": {}, "stop": "count"}
    yield from ({"event": "block", "case_id": case.id, **facts} for case in CASES)
    yield {"event": "round", "disturbed": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("results") / "20260101T000000Z-large"
    made.mkdir()
    (made / "run.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, events())) + b"\n")
    run = Run(made)
    run.write()
    assert sum(len(ns) for case in run.cases for ns in run.samples(case)) == 100_000
    return made


@pytest.fixture
def timed(benchmark, tmp_path):
    """Time a command; returns the medians of CPU and wall seconds, None under --benchmark-disable."""
    benchmark.group = "commands on a Run of 100,000 samples"

    def command(*words):
        cpu_s = []

        def once():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-m", "bench", *words], check=True, cwd=tmp_path, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

        benchmark.pedantic(once, rounds=3, warmup_rounds=1, iterations=1)
        benchmark.extra_info["cpu_s"] = statistics.median(cpu_s[-3:])
        return (benchmark.extra_info["cpu_s"], benchmark.stats.stats.median) if benchmark.stats else None

    return command


def test_help(timed):
    if found := timed("--help"):
        print(f"\n--help: {found[0] * 1e3:.0f} ms of CPU time (goal: {HELP_S * 1e3:.0f})")


@pytest.mark.parametrize("kind", DRAWN)
def test_plot(timed, tmp_path, folder, kind):
    if found := timed("plot", "--kind", kind, str(folder)):
        print(f"\nplot --kind {kind}: {found[1]:.1f} s (goal: {PLOT_S})")
    assert (tmp_path / f"{kind}.png").stat().st_size


def test_report(timed, benchmark, tmp_path, folder):
    found = timed("report", str(folder), "--output", "report.html")
    benchmark.extra_info["page_mb"] = (tmp_path / "report.html").stat().st_size / 1e6
    if found:
        print(f"\nreport: {found[1]:.1f} s (goal: {REPORT_S}), {benchmark.extra_info['page_mb']:.1f} MB ({PAGE_MB})")
