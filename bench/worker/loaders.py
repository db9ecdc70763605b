"""Loaders: a framework's loader, proven on some pictures and timed alone or in front of the training step.

A loader starts with its turn and stops at its end, so that nothing of it runs in another's turn.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.worker import probe, steps
from bench.worker.messages import MeasureLoader, ProveLoader
from bench.worker.replies import LoaderEpoch, MeasuredLoader
from bench.worker.timing import measure, no_garbage_collection
from impls import FRAMEWORKS
from impls.loader import Batch, Feed, Loader
from impls.net import Net


class NoLoader(LookupError):
    """The framework has no module of a loader."""


class Loaders:
    """The loaders of one framework, each made once."""

    def __init__(self, framework: str):
        self.framework = framework
        self.loaders: dict[Feed, Loader] = {}

    def loader(self, feed: Feed) -> Loader:
        if feed not in self.loaders:
            name = FRAMEWORKS[self.framework].loader
            if not name:
                raise NoLoader(f"{self.framework} has no loader (docs/adding.md)")
            self.loaders[feed] = importlib.import_module(name).Loader(feed)
        return self.loaders[feed]

    @contextlib.contextmanager
    def started(self, feed: Feed) -> Iterator[Loader]:
        loader = self.loader(feed)
        loader.start()
        try:
            yield loader
        finally:
            loader.stop()

    def prove(self, request: ProveLoader) -> LoaderEpoch:
        """Save the images of an epoch, in the order of delivery."""
        count = len(request.feed.files[0]) // request.feed.batch
        with self.started(request.feed) as loader:
            batches = [loader.arrays(loader.next()) for _ in range(count)]
        images, labels, rows = (np.concatenate(each) for each in zip(*batches, strict=True))
        np.save(request.images, images)
        return LoaderEpoch(rows.tolist(), labels.tolist())

    def measure(self, request: MeasureLoader, net: Net) -> MeasuredLoader:
        """Time a turn: the loader alone, or with a training step on each of its batches."""
        feed, ready = request.feed, lambda handles: None
        loader, before, counted = self.loader(feed), _cpu_s(), probe.reset_high_water()
        if request.fed:
            net.restart(steps.TIMED)
            net.peak_memory()
        began = time.perf_counter_ns()
        with no_garbage_collection(), self.started(feed):

            def fed() -> Any:
                batch = loader.next()
                net.feed(batch.images, batch.labels)
                return net.train_step()

            run, wait = (fed, net.wait) if request.fed else (loader.next, ready)
            started = time.perf_counter_ns()
            first: Batch = loader.next()
            first_batch_ns = time.perf_counter_ns() - began
            del first
            lead = measure(run, wait, feed.lead)
            window = time.process_time() + _children_cpu_s()
            last = list[Any]()
            samples = measure(run, wait, request.n, last=last)
            window = time.process_time() + _children_cpu_s() - window
            stopped = time.perf_counter_ns()
        aside_ns = time.perf_counter_ns() - stopped + started - began
        finite = not request.fed or bool(np.isfinite(net.fetch(last.pop())))  # a velocity, after the loss
        return MeasuredLoader(
            start_ns=[*lead[0], *samples[0]],
            ns=[*lead[1], *samples[1]],
            lead=feed.lead,
            first_batch_ns=first_batch_ns,
            sample_cpu_s=window,
            cpu_s=_cpu_s() - before,
            aside_ns=aside_ns + first_batch_ns,
            allocator_peak=net.peak_memory() if request.fed else None,
            process_peak=probe.high_water() if counted else None,
            finite=finite,
        )


def _cpu_s() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _children_cpu_s() -> float:
    """CPU time of worker processes so far, in steps of 10 ms; 0 without Linux's /proc."""
    total = 0.0
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):
            with open(f"/proc/{child.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
            total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # utime and stime
    return total
