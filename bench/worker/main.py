"""The Worker: a child process that builds one Net, proves it, and measures when it is told to.

It imports the standard library, numpy, impls, the timing loop and the probes only, so it runs under any interpreter
that has a framework. Requests and replies are JSON lines on two pipes of their own, so a framework may write what it
likes to stdout and stderr. A request that fails is answered with its kind and the process ends: what is left of a
broken framework is not timed.
"""

import contextlib
import ctypes
import dataclasses
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

import impls
from bench.worker import guest, messages, ownership, probe, replies, wire
from bench.worker.checks import check, gradient_checks, state_checks
from bench.worker.messages import Request
from bench.worker.replies import CheckKind, Output
from bench.worker.timing import measure, no_garbage_collection, spin, sync_lag
from impls.net import DeviceMissing, gradients_of, logits_of, resident_batches
from impls.variants import variant_named
from impls.weights import map_shared

R = TypeVar("R")
PR_SET_PDEATHSIG = 1
#: In what frameworks say when memory ran out.
MEMORY = (
    *("memoryerror", "outofmemory", "out of memory", "resourceexhausted", "can't alloc", "alloc_failed"),
    "memoryallocation",
)


class Worker:
    """One framework in one process; each method answers one kind of request."""

    def __init__(self, framework: str):
        self.framework = framework
        self.adapter: Any = None
        self.net: Any = None
        self.imported: int | None = None
        self.answers: dict[type[Request[Any]], Callable[[Any], object]] = {
            messages.Configure: self.configure,
            messages.BuildNet: self.build,
            messages.ProbePrecision: self.probe,
            messages.MeasureCeiling: self.ceiling,
            messages.MeasureNumpyRate: self.numpy_rate,
            messages.ReadConditions: self.conditions,
            messages.DescribeEnvironment: self.environment,
            messages.DescribeLayers: self.layers,
            messages.CallFirst: self.first_call,
            messages.Verify: self.verify,
            messages.CheckSync: self.sync,
            messages.Measure: self.measure,
            messages.MeasureOverhead: self.overhead,
            messages.Finish: self.finish,
        }

    def answer(self, request: Request[R]) -> R:
        return cast(R, self.answers[type(request)](request))

    def configure(self, request: messages.Configure) -> replies.Ready:
        probe.keep_out(self.framework)
        self.adapter = impls.load(self.framework)
        self.adapter.configure(request.settings)
        self.imported = probe.high_water()
        facts = {
            "versions": self.adapter.versions(),
            "devices": self.adapter.devices(),
            "python": sys.version.split()[0],
        }
        return wire.read(replies.Ready, facts, self.framework)

    def build(self, request: messages.BuildNet) -> replies.Identity:
        """Our net, or the user's own."""
        self.release()
        self.variant, self.how = variant_named(request.variant, request.size), request.how
        self.folder, theirs = Path(request.folder), request.guest
        weights = map_shared(self.folder / "weights")
        if theirs:
            self.net = guest.build(
                *(theirs.path, theirs.function, self.variant, weights, self.how),
                sha256=theirs.sha256,
                needed=request.needed,
            )
        else:
            self.net = self.adapter.build(self.variant, weights, self.how)
        self.net.load(self.batches())
        # what is alive now stays: later collections look at what a Turn left, not at a whole framework (0.4 s)
        gc.collect()
        gc.freeze()
        return replies.Identity(self.variant.hash, self.variant.params, self.variant.macs)

    def release(self) -> None:
        """Give up the Net there is, memory and all: it stands in cycles (a jit of its own method), and was frozen."""
        self.net = None
        gc.unfreeze()
        gc.collect()

    def batches(self) -> list[np.ndarray]:
        """The resident ones of the Net there is."""
        return resident_batches(self.how, self.variant.input_size, self.variant.channels)

    def probe(self, request: messages.ProbePrecision) -> dict[str, replies.PrecisionProbe]:
        """What precision a matmul and a convolution really have here."""
        self.release()
        return probe.precision(self.adapter.build, lambda batch: dataclasses.replace(request.how, batch=batch))

    def ceiling(self, request: messages.MeasureCeiling) -> replies.CeilingRates:
        """What the device does at best, beside the Net there is; no rates where memory does not hold both."""
        how, threads = request.how, request.threads
        try:
            if request.own:
                rates = probe.ceiling(self.adapter.build, lambda batch: dataclasses.replace(how, batch=batch), threads)
            else:
                rates = probe.numpy_ceiling(threads)
        except Exception as error:
            if fault_kind(error) != replies.FaultKind.MEMORY:
                raise
            rates = replies.CeilingRates()
        gc.collect()
        self.net.peak_memory()  # from here on it counts what is timed
        return rates

    def numpy_rate(self, request: messages.MeasureNumpyRate) -> float:
        return probe.numpy_matrix_rate()

    def conditions(self, request: messages.ReadConditions) -> replies.Conditions:
        """What is in force now: the framework's settings read back, where the Net lies, how often it was traced."""
        facts = {
            **wire.fields(self._settings()),
            "device": self.net.device(),
            "layout": self.net.layout(),
            "traces": self.net.traces(),
            "filled": getattr(self.net, "filled", ()),
            "libraries": probe.libraries(),
            "other_frameworks": probe.strangers(self.framework),
        }
        if facts["bf16"] is None and self.how.device == "cpu":
            facts["bf16"] = probe.low_precision_hardware()
        return wire.read(replies.Conditions, facts, f"conditions of {self.framework}")

    def _settings(self) -> replies.FrameworkConditions:
        """The framework's settings, read back; those that it alone has are its switches."""
        switches = dict(self.adapter.conditions())
        common = {name: switches.pop(name, None) for name in ("threads", "onednn", "tf32", "bf16")}
        return wire.read(
            replies.FrameworkConditions, common | {"switches": switches}, f"conditions of {self.framework}"
        )

    def environment(self, request: messages.DescribeEnvironment) -> replies.Environment:
        """What this process is made of, for ``env``: no Net is built."""
        return replies.Environment(
            probe.libraries(), probe.strangers(self.framework), self._settings(), ownership.owned_twice()
        )

    def layers(self, request: messages.DescribeLayers) -> list[replies.LayerReport]:
        return wire.read(list[replies.LayerReport], self.net.layers(), f"layers of {self.framework}")

    def first_call(self, request: messages.CallFirst) -> int:
        _, (ns,) = measure(getattr(self.net, request.method), self.net.wait, 1)
        return ns

    def verify(self, request: messages.Verify) -> replies.Verified:
        """Hold the timed passes against the float64 reference, or what else lies in the target: the base batch, tiled
        to this Net's own, in place of the resident ones, and the passes' own handles read.

        Logits come first, since a pass in training mode moves the moving statistics. Values found are kept as .npy
        files named as those of the reference.
        """
        kept: dict[str, Any] = {}
        count = None
        values, base = self.folder / request.target, np.load(self.folder / "images.npy")
        tiles = self.how.batch // len(base)
        images = np.tile(base, (tiles, 1, 1, 1))
        checks = []
        if Output.LOGITS in request.outputs:
            expected = np.tile(np.load(values / "logits.npy"), (tiles, 1))
            kept["logits"] = logits_of(self.net, images)
            checks.append(check(CheckKind.LOGITS, "logits", kept["logits"], expected, True))
        if Output.GRADIENTS in request.outputs:
            before = self.net.state()
            loss, found = gradients_of(self.net, images)
            checks.append(check(CheckKind.LOSS, "loss", np.array(loss), np.load(values / "loss.npy") * tiles, True))
            kept["loss"] = np.float32(loss)
            kept |= {f"gradient.{layer}.{name}": array for layer, of in found.items() for name, array in of.items()}
            of_gradients, count = gradient_checks(self.variant, kept, self.folder, values, tiles, request.thorough)
            checks += of_gradients
            checks += state_checks(self.variant, self.how.batch, before, self.net.state(), self.folder / "reference")
        if request.keep is not None:
            for name, array in kept.items():
                np.save(Path(request.keep) / f"{name}.npy", array)
        self.net.load(self.batches())
        return replies.Verified(checks, count)

    def sync(self, request: messages.CheckSync) -> replies.SyncLag:
        """Whether the Net's ``wait`` leaves the device with work to do, on the very pass that is timed."""
        with no_garbage_collection():
            run = getattr(self.net, request.method)
            lag = sync_lag(run, self.net.wait, self.net.fetch, request.iteration_ns, attempts=request.attempts)
        return replies.SyncLag(lag["iterations"], lag["copy_ns"], lag["allowed_ns"])

    def measure(self, request: messages.Measure) -> replies.Measured:
        """Memory is at its peak in these passes: of the device's allocator where it counts, of the process where the
        system lets the mark be reset."""
        run, wait, spin_ns = getattr(self.net, request.method), self.net.wait, request.spin_ns
        self.net.peak_memory()
        counted = probe.reset_high_water()
        before = resource.getrusage(resource.RUSAGE_SELF)
        with no_garbage_collection():
            start_ns, samples_ns = measure(slowed(run, wait, spin_ns) if spin_ns else run, wait, request.n)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return replies.Measured(
            start_ns.tolist(),
            samples_ns.tolist(),
            cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            allocator_peak=self.net.peak_memory(),
            process_peak=self._above_import() if counted else None,
        )

    def _above_import(self) -> int | None:
        high = probe.high_water()
        return max(0, high - self.imported) if high is not None and self.imported is not None else None

    def overhead(self, request: messages.MeasureOverhead) -> list[int]:
        """The loop around a run that does nothing, with this framework's own wait."""
        _, samples_ns = measure(lambda: None, self.net.wait, request.n)
        return samples_ns.tolist()

    def finish(self, request: messages.Finish) -> replies.Finished:
        """After the last Turn: are conditions what they were, and values as ``verify`` says? Of BatchNorm's logits only
        that they are finite, their statistics moved."""
        checks = self.verify(messages.Verify(request.outputs, thorough=False)).checks
        if self.net.state():
            checks = [one for one in checks if one.kind != CheckKind.LOGITS or one.error is None]
        return replies.Finished(self.conditions(messages.ReadConditions()), checks)


def slowed(run: Callable[[], Any], wait: Callable[[Any], None], spin_ns: int) -> Callable[[], Any]:
    """The pass, done, and then ``spin_ns`` more."""

    def both() -> Any:
        handles = run()
        wait(handles)
        spin(spin_ns)
        return handles

    return both


def fault_kind(error: BaseException) -> replies.FaultKind:
    """What a failed request means to the controller."""
    if isinstance(error, guest.NotANet):
        return replies.FaultKind.NET
    if isinstance(error, DeviceMissing):
        return replies.FaultKind.DEVICE
    if isinstance(error, ImportError):
        return replies.FaultKind.MISSING
    words = f"{type(error).__name__} {error}".lower()
    return replies.FaultKind.MEMORY if any(sign in words for sign in MEMORY) else replies.FaultKind.ERROR


def end_with(controller: int) -> None:
    """Have the kernel end this process when its controller is gone, even in the middle of a pass; without Linux's
    prctl it ends when it finds its requests closed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.kill(controller, 0)
    except ProcessLookupError:  # it went before that was asked for
        os._exit(1)


def main(framework: str, request_pipe: int, reply_pipe: int, controller: int) -> None:
    """Serve until the controller closes its end; the last word on a failure goes to stderr."""
    end_with(controller)
    worker = Worker(framework)
    with open(request_pipe) as requests, open(reply_pipe, "wb") as answers:
        for line in requests:
            try:
                reply = messages.write_reply(worker.answer(messages.read_request(line)))
            except BaseException as error:
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                answers.write(messages.write_reply(replies.Failure(fault_kind(error), why.removesuffix(": "))))
                answers.flush()
                os._exit(1)  # a framework's own threads must not keep a broken process alive
            answers.write(reply)
            answers.flush()
    os._exit(0)  # nor is a framework's tidy end worth its second
