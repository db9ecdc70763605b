"""Runs of the null Net with the controller in this process and real Workers."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.controller.devices import Device
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.record.run import Run
from bench.worker.guest import Guest

NULL_CASE = Case("half_width", "null", "noop", "cpu", "fp32", "nhwc", 2, "forward", size=67)
#: The file of a user's net, with a place for code that changes the net.
NET = """
import os
from impls import null_alexnet
def spent():
    raise MemoryError("it is spent")
def build(variant, weights, how):
    net = null_alexnet.Net(variant, weights, how)
    {}
    return net
"""


def run_cases(
    folder: Path,
    cases: Sequence[Case],
    net: str | None = None,
    devices: Sequence[Device] = (),
    watcher: Watcher | None = None,
    **rules: Any,
) -> Run:
    """A Run of these Cases, of a user's net if ``net`` is its code; ``rules`` are fields of Protocol."""
    guests = {}
    if net:
        (file := folder / "net.py").write_text(NET.format(net))
        guests["net"] = Guest(str(file), "build", "null", hashlib.sha256(file.read_bytes()).hexdigest(), True)
        cases = [dataclasses.replace(case, guest="net") for case in cases]
    (folder / "run").mkdir()
    protocol = Protocol(**{"rounds": 2, "burn_in": 1, "gate": False, "iterations": 2, "noise_repeats": 0} | rules)
    run = Rounds(cases, protocol, WorkerSettings(1, 60, guests=guests, devices=devices), folder / "run", watcher)
    run.write_header("r", "", {})
    run.run()
    return Run(folder / "run")
