"""`sweep`: every shard of a grid, here one after another or on the nodes of a Ray cluster, and then `merge`."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bench import UsageError
from bench.cases.case import groups
from bench.cases.parse import MOST_SHARDS
from bench.cases.shard import Shard, assign
from bench.commands import merge
from bench.commands.options import convert
from bench.commands.plan import choose_frameworks, one_shard
from bench.commands.requests import RunRequest, SweepRequest
from bench.commands.run import planned
from bench.commands.words import words_of
from bench.controller import ray_fleet, shard_run
from bench.controller.ray_fleet import Lost, Returned
from bench.machine import signals
from bench.output import console
from bench.output.labels import counted, some_of
from bench.record.fleet import Fleet
from bench.record.run import Run

MERGED = "merged"


def main(request: SweepRequest) -> int:
    if request.on is None and request.insecure:
        raise UsageError("--insecure: it is about a cluster: pass --on ray://HOST too")
    if request.on is not None and not request.insecure:
        ray_fleet.require_token(request.on)
    run = named(convert(request, RunRequest))
    with planned(dataclasses.replace(run, oversubscribe=run.devices is not None)) as plan:  # for cores of the nodes
        shard = one_shard(plan, 0, request.shards or min(len(groups(plan.cases)), MOST_SHARDS)).shard
    assert shard
    sweep = Sweep(request.out, words_of(dataclasses.replace(run, out=RunRequest().out)), shard)
    try:
        if request.on is None:
            sweep.measure_here()
        else:
            on_gpu = any(device != "cpu" for device in run.device)
            sweep.measure_on(request.on, insecure=request.insecure, on_gpu=on_gpu)
    except KeyboardInterrupt:
        signals.answered()
        sweep.interrupted = True
    return sweep.finish(request.as_json)


def named(run: RunRequest) -> RunRequest:
    """The same with its frameworks named, since a node without one of them would otherwise have another grid."""
    if run.framework is not None or run.net or run.ab:
        return run
    return dataclasses.replace(run, framework=",".join(choose_frameworks(run)))


class Sweep:
    """The shards of one grid: those that are to be measured, and the Runs that there are, below ``out``.

    ``words`` are the options of `run` but for the shard and --out.
    """

    def __init__(self, out: Path, words: Sequence[str], shard: Shard):
        self.out, self.words, self.grid, self.count = out, words, shard.grid, shard.count
        self.shards = sorted(set(assign(groups(shard.cases), shard.count)))
        self.runs, self.failed, self.interrupted = list[Run](), False, False
        self.noted = set[str]()
        self.described = (
            f"{counted(len(self.shards), 'shard')} of {counted(len(groups(shard.cases)), 'group')}, grid {self.grid}"
        )

    def measure_here(self) -> None:
        """Measure the shards on this machine, one after another, until a `run` is refused; UsageError if it is the
        first."""
        console.tell(self.described)
        for index in self.shards:
            found = f"*-shard-{index}-of-{self.count}*/run.jsonl"
            before = set(self.out.glob(found))
            code = 0
            try:
                code = shard_run.run_shard(self.words, index, self.count, self.out)
            finally:
                for path in sorted(set(self.out.glob(found)) - before):
                    self.keep(path.parent)
            if code == 130:
                raise KeyboardInterrupt
            self.failed |= code != 0
            if code == 2:
                why = f"shard {self.number(index)} was refused, for the reason above"
                if not self.runs:
                    raise UsageError(why)
                console.tell(why)
                return

    def measure_on(self, address: str, *, insecure: bool, on_gpu: bool) -> None:
        """Measure the shards on the nodes of a cluster. Raises UsageError."""
        with ray_fleet.connected(address) as cluster:
            nodes = cluster.check(insecure)
            names = some_of(node.name for node in nodes)
            console.tell(f"{self.described}, on {counted(len(nodes), 'node')} with {ray_fleet.SLOT}: {names}")
            results = cluster.measure(self.words, self.shards, self.count, nodes, on_gpu=on_gpu)
            with contextlib.closing(results):
                for index, result in results:
                    self.take(index, result)

    def take(self, index: int, result: Returned | Lost) -> None:
        """Keep what came back of a shard, and say what it is."""
        what = f"shard {self.number(index)}"
        if isinstance(result, Lost):
            self.failed = True
            console.tell(f"{what} is lost: {result.reason}")
            return
        if result.note and result.node not in self.noted:
            self.noted.add(result.node)
            console.tell(f"{result.node}: {result.note}")
        self.failed |= result.run.code != 0
        if not result.run.files:
            console.tell(f"{what} on {result.node}: {result.run.reason}")
            return
        try:
            folder = result.run.unpack(self.out)
        except UsageError as error:
            self.failed = True
            console.tell(f"{what} on {result.node}: {error}")
            return
        console.tell(f"{what} came back from {result.node} after {result.seconds:.0f} s: {folder}")
        self.keep(folder)

    def keep(self, folder: Path) -> None:
        """Take a Run into the index, if it is one of this grid."""
        try:
            self.runs.append(shard_run.opened(folder, self.grid))
        except UsageError as error:
            self.failed = True
            console.tell(str(error))

    def number(self, index: int) -> str:
        """As ``--shard`` takes it."""
        return f"{index}/{self.count}"

    def finish(self, as_json: bool) -> int:
        """Merge the Runs and return the exit code: 0, 1 if a shard or a Case is lacking, 130 if interrupted."""
        if self.interrupted:
            console.tell(f"interrupted: {len(self.runs)} of {counted(len(self.shards), 'shard')} are there")
        if self.runs:
            self.failed |= merge.show(Fleet(self.runs), self.out / MERGED, as_json)
        elif as_json:
            console.print_json({"index": None, "cases": []})
        return 130 if self.interrupted else int(self.failed)
