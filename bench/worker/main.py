"""The Worker: a child process that builds one Net, verifies it, and measures it on request.

It imports the standard library, numpy and impls only, so it runs under any interpreter that has a framework. Requests
and replies are JSON lines on stdin and stdout, so that a prefix such as ``ssh`` can start it on another machine; what a
framework writes to stdout goes to stderr. After a failed request
the process replies with a Failure and exits: a framework in an unknown state is not timed.
"""

import contextlib
import ctypes
import dataclasses
import functools
import gc
import os
import re
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

import impls
from bench.worker import evaluator, guest, messages, ownership, part, port, probe, replies, steps, wire
from bench.worker.batches import ParityBatch, compose
from bench.worker.device_time import device_time
from bench.worker.loaders import Loaders
from bench.worker.messages import Request
from bench.worker.pixels import map_pictures
from bench.worker.prover import METHODS, Prover
from bench.worker.replies import Output
from bench.worker.team_batches import compose_team
from bench.worker.timing import measure, no_garbage_collection, spin, sync_lag
from bench.worker.trainer import Trainer
from impls.net import SUMS, Build, DeviceMissing, Rank, Settings, resident_batches, resident_labels
from impls.port import Parameter
from impls.variants import variant_named
from impls.weights import map_shared

R = TypeVar("R")
#: What says by itself that a GPU has stopped working; the controller asks NVML about other errors. Source: texts of
#: cudaGetErrorString, names of CUresult, NVML's and the kernel module's words.
LOST = re.compile(
    "GPU is lost|fallen off the bus|uncorrectable (ECC|NVLink) error|ECC_UNCORRECTABLE|hardware stack error",
    re.IGNORECASE,
)
PR_SET_PDEATHSIG = 1
HANGUP_S = 2.0  # after which a Worker without a controller is killed
RELOADS = 8  # attempts at a first pass on new images that is not slow
TEAM_RELOADS, LONG_NS = 2, 100_000_000  # of every rank of a Team, if a pass may take so long


class Worker:
    """One framework in one process; one method per kind of request."""

    def __init__(self, framework: str):
        self.framework = framework
        self.adapter: Any = None
        self.net: Any = None
        self.prover: Any = None
        self.guest: guest.Guest | None = None
        self.trainer: Trainer | None = None
        self.modules: part.Modules | None = None
        self.imported: int | None = None
        self.configured = False
        self.settings: Settings | None = None
        self.loaders = Loaders(framework)
        self.answers: dict[type[Request[Any]], Callable[[Any], object]] = {
            messages.Configure: self.configure,
            messages.BuildNet: self.build,
            messages.ListLacking: self.list_lacking,
            messages.ProbePrecision: self.probe,
            messages.MeasureCeiling: self.ceiling,
            messages.MeasureNumpyRate: self.numpy_rate,
            messages.ReadConditions: self.conditions,
            messages.DescribeEnvironment: self.environment,
            messages.DescribeLayers: self.layers,
            messages.CountParams: self.params,
            messages.CallFirst: self.first_call,
            messages.Verify: self.verify,
            messages.CheckSync: self.sync,
            messages.MeasureDeviceTime: self.device_time,
            messages.Measure: self.measure,
            messages.MeasureOverhead: self.overhead,
            messages.ProveLoader: self.loaders.prove,
            messages.MeasureLoader: self.measure_loader,
            messages.ReadParameters: self.read_parameters,
            messages.WriteParameters: self.write_parameters,
            messages.TraceModel: self.trace,
            messages.ListParts: self.parts,
            messages.Differentiate: self.differentiate,
            messages.StartTraining: self.start_training,
            messages.Train: self.train,
            messages.ComputeLogits: self.logits,
            messages.SaveTrained: self.save_trained,
        }

    def answer(self, request: Request[R]) -> R:
        return cast(R, self.answers[type(request)](request))

    def configure(self, request: messages.Configure) -> replies.Ready:
        probe.block_other_frameworks(self.framework)
        self.adapter, self.settings = impls.load(self.framework), request.settings
        self.adapter.configure(request.settings)
        self.imported = probe.high_water()
        facts = {
            "versions": self.adapter.versions(),
            "devices": self.adapter.devices(),
            "python": sys.version.split()[0],
        }
        self.configured = True
        return wire.read(replies.Ready, facts, self.framework)

    def search(self) -> replies.GpuSearch | None:
        """What it found of the GPU that it could not be configured for; None once it is, and on a CPU."""
        if self.configured or self.settings is None or self.settings.device == "cpu":
            return None
        built_for, seen = None, 0
        with contextlib.suppress(Exception):
            built_for = str(self.adapter.versions().get("cuda") or "")
        with contextlib.suppress(Exception):
            seen = len(self.adapter.devices()) - 1  # without the CPU
        return replies.GpuSearch(built_for, seen)

    def build(self, request: messages.BuildNet) -> replies.Identity:
        """Build our net, or the user's own."""
        self.release()
        self.variant, self.how = variant_named(request.variant, request.size, request.classes), self.here(request.how)
        self.folder, net = Path(request.folder), request.guest
        self.own_input, self.guest = request.own_input, request.guest
        weights = self.weights = {} if self.own_input else map_shared(self.folder / "weights")
        self.modules = self.modules if self.modules and self.modules.serve(request) else None
        if net and net.part:
            self.modules = self.modules or part.Modules(request, self.variant)
            self.net = self.modules.build(net)
        elif net:
            self.net = guest.build(net, self.variant, weights, self.how, request.needed, request.input_shape)
        else:
            self.net = self.adapter.build(self.variant, weights, self.how)
        self.lacking = [name for name in request.wanted if not callable(getattr(self.net, name, None))]
        self.labeled = "label" in request.wanted and not self.lacking
        self.restarted = False
        self.load("reference")
        # so that later collections skip the framework's own objects (0.4 s)
        gc.collect()
        gc.freeze()
        return replies.Identity(self.variant.hash, self.variant.params, self.variant.macs)

    def here(self, how: Build) -> Build:
        """``how``, on the device of this process: each rank of a Team has its own."""
        return dataclasses.replace(how, device=self.settings.device) if self.settings and self.rank else how

    @property
    def rank(self) -> Rank | None:
        """This process's place in its Team; None of a lone one."""
        return self.settings.rank if self.settings else None

    def list_lacking(self, request: messages.ListLacking) -> list[str]:
        return self.lacking

    def release(self) -> None:
        """Release the current Net, which is gc-frozen and in reference cycles (a jitted bound method)."""
        self.net = self.prover = self.trainer = None
        gc.unfreeze()
        gc.collect()

    def probe(self, request: messages.ProbePrecision) -> dict[str, replies.PrecisionProbe]:
        """Probe the effective precision of a matmul and a convolution."""
        self.release()
        alone = dataclasses.replace(self.here(request.how), split=None)
        return probe.precision(self.adapter.build, lambda batch: dataclasses.replace(alone, batch=batch))

    def ceiling(self, request: messages.MeasureCeiling) -> replies.CeilingRates:
        """Measure the best rates of the device, next to the current Net; no rates if memory does not hold both."""
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
        self.net.peak_memory()  # resets the peak
        return rates

    def numpy_rate(self, request: messages.MeasureNumpyRate) -> float:
        return probe.numpy_matrix_rate()

    def conditions(self, request: messages.ReadConditions) -> replies.Conditions:
        """Read back the conditions in force."""
        facts = {
            **wire.fields(self._settings()),
            "device": self.net.device(),
            "layout": self.net.layout(),
            "traces": self.net.traces(),
            "filled": getattr(self.net, "filled", ()),
            "libraries": probe.libraries(),
            "other_frameworks": probe.other_frameworks(self.framework),
        }
        if facts["bf16"] is None and self.how.device == "cpu":
            facts["bf16"] = probe.low_precision_hardware()
        return wire.read(replies.Conditions, facts, f"conditions of {self.framework}")

    def _settings(self) -> replies.FrameworkConditions:
        """Read back the framework's settings; those that only it has are its switches."""
        switches = dict(self.adapter.conditions())
        common = {name: switches.pop(name, None) for name in ("threads", "onednn", "tf32", "bf16")}
        return wire.read(
            replies.FrameworkConditions, common | {"switches": switches}, f"conditions of {self.framework}"
        )

    def environment(self, request: messages.DescribeEnvironment) -> replies.Environment:
        """Libraries and settings of this process, for ``env``; needs no Net."""
        return replies.Environment(
            probe.libraries(), probe.other_frameworks(self.framework), self._settings(), ownership.owned_twice()
        )

    def layers(self, request: messages.DescribeLayers) -> list[replies.LayerReport]:
        return wire.read(list[replies.LayerReport], self.net.layers(), f"layers of {self.framework}")

    def params(self, request: messages.CountParams) -> int | None:
        return guest.params_of(self.net)

    def first_call(self, request: messages.CallFirst) -> int:
        try:
            with self.restored(request.method):
                _, (ns,) = measure(getattr(self.net, request.method), self.net.wait, 1)
        except Exception as error:
            if self.guest and self.guest.model:  # its fault, such as a loss that needs a target
                raise guest.refused(self.guest, f"in {request.method}", error) from error
            raise
        return ns

    def verify(self, request: messages.Verify) -> replies.Verified:
        """Compare the outputs of the timed passes with expected values, such as the float64 reference's.

        Logits come first, since a training pass updates the moving statistics. The batches stay loaded.
        """
        self.load(request.target)
        checks: list[replies.Check] = []
        count = None
        for output in request.outputs:
            with self.restored(METHODS[output]):
                compared, gradients = self.prover.prove(output, request.thorough, request.keep and Path(request.keep))
            checks, count = checks + compared, gradients or count
        return replies.Verified(checks, count, dict(self.prover.digests))

    def load(self, target: str) -> None:
        """Load the parity set's batches, without a parity set random ones, or have a model make its own."""
        composer: Callable[..., Sequence[ParityBatch]] = compose
        if self.rank:
            composer = functools.partial(compose_team, rank=self.rank.number, world=self.rank.world)
        composed = functools.partial(composer, self.variant, self.weights, self.folder, target, self.how.batch)
        self.prover = Prover(self.net, self.weights, (lambda seed: []) if self.own_input else composed)
        if self.own_input or (self.folder / target).is_dir():
            self.prover.load(self.how.seed, labeled=self.labeled)
        else:
            self.net.load(resident_batches(self.how, self.variant.input_size, self.variant.channels))
            if self.labeled:
                self.net.label(resident_labels(self.how, self.variant.classes))

    @contextlib.contextmanager
    def restored(self, method: str) -> Iterator[None]:
        """If ``method`` updates the parameters: begin with the weights of the build, and set them back at the end.

        If it sums values of its own, set them.
        """
        if method == METHODS[Output.REDUCED]:
            self.net.fill()
            yield
        elif method == METHODS[Output.TRAINED]:
            if not self.restarted:
                self.net.restart(steps.TIMED)
                self.restarted = True
            yield
            self.net.restart(steps.TIMED)
        else:
            yield

    def sync(self, request: messages.CheckSync) -> replies.SyncLag:
        """Test ``wait`` on the pass that is timed."""
        with no_garbage_collection(), self.restored(request.method):
            run = getattr(self.net, request.method)
            tested = (run, self.net.wait, self.net.fetch, request.iteration_ns)
            return sync_lag(*tested, attempts=request.attempts, together=self.rank is not None)

    def device_time(self, request: messages.MeasureDeviceTime) -> replies.DeviceTime | None:
        timer_of = getattr(self.adapter, "timer", None)  # an adapter of an earlier revision has none
        timer = timer_of and timer_of(self.how.device)
        if timer is None:
            return None
        with no_garbage_collection(), self.restored(request.method):
            return device_time(getattr(self.net, request.method), self.net.wait, timer, request.iteration_ns)

    def measure(self, request: messages.Measure) -> replies.Measured:
        """Time a Turn; memory peaks are those of its passes."""
        run, wait, spin_ns = getattr(self.net, request.method), self.net.wait, request.spin_ns
        timed = slow_down(run, wait, spin_ns) if spin_ns else run
        start_ns, samples_ns = list[int](), list[int]()
        cpu_s, readings, peaks = 0.0, list[replies.Reading](), list[tuple[int | None, int | None]]()
        aside_ns, began = 0, time.perf_counter_ns()
        at_start = time.process_time()
        with no_garbage_collection(), self.restored(request.method):
            reload_ns, again_ns = self._reload(run, request.reload) if request.reload else (None, None)
            if request.reload and request.method == METHODS[Output.TRAINED]:
                self.net.restart(steps.TIMED)
            aside_ns += time.perf_counter_ns() - began
            sums = request.method == METHODS[Output.REDUCED]
            ends = {
                *(iteration + 1 for iteration in request.reads),
                request.n,
                *(range(SUMS, request.n, SUMS) if sums else ()),
            }
            for stop in sorted(ends):
                if sums:
                    began = time.perf_counter_ns()
                    self.net.fill()
                    aside_ns += time.perf_counter_ns() - began
                self.net.peak_memory()
                counted = probe.reset_high_water()
                before, last = time.process_time(), list[Any]()
                part = measure(timed, wait, stop - len(samples_ns), last=last)
                cpu_s += time.process_time() - before
                settings = self._settings() if stop - 1 in request.reads else None
                peaks.append((self.net.peak_memory(), self._above_import(probe.high_water()) if counted else None))
                start_ns += part[0]
                samples_ns += part[1]
                if settings:
                    began = time.perf_counter_ns()
                    following = run if stop - 1 == request.drawn else None
                    readings.append(self.prover.reading(stop - 1, last.pop(), request.output, settings, following))
                    aside_ns += time.perf_counter_ns() - began
            began = time.perf_counter_ns()
        allocator, process = (_largest(kind) for kind in zip(*peaks, strict=True))
        aside_ns += time.perf_counter_ns() - began
        aside_cpu_s = time.process_time() - at_start - cpu_s
        return replies.Measured(
            *(start_ns, samples_ns, cpu_s, allocator, process, readings, reload_ns, again_ns, aside_ns, aside_cpu_s)
        )

    def _reload(self, run: Callable[[], Any], reload: messages.Reload) -> tuple[int, int | None]:
        """Time a first pass on new images; if it takes long, also a later pass on them, which noise slows as often.

        Of several attempts the one is returned in which the first pass took the least, relative to the later. Ranks of
        a Team make the same number of passes, whatever they take.
        """
        attempts: list[tuple[int, int]] = []
        few = self.rank is not None and reload.allowed_ns > LONG_NS
        for attempt in range(TEAM_RELOADS if few else RELOADS):
            self.prover.load(reload.seed + attempt, labeled=self.labeled)
            _, (first_ns,) = measure(run, self.net.wait, 1)
            if not attempt and first_ns <= reload.allowed_ns and not self.rank:
                return first_ns, None
            _, (_, again_ns) = measure(run, self.net.wait, 2)  # the other batch, and the same once more
            attempts.append((first_ns, again_ns))
            if first_ns <= messages.slowest_first(again_ns) and not self.rank:
                break
        return min(attempts, key=lambda pair: pair[0] / pair[1])

    def measure_loader(self, request: messages.MeasureLoader) -> replies.MeasuredLoader:
        """Time a Turn of a loader. If it feeds the Net, weights and resident batches are set back at the end."""
        measured = self.loaders.measure(request, self.net)
        if request.fed:
            self.net.restart(steps.TIMED)
            self.prover.load(self.how.seed, labeled=self.labeled)
        peak = None if measured.process_peak is None else self._above_import(measured.process_peak)
        return dataclasses.replace(measured, process_peak=peak)

    def _above_import(self, high: int | None) -> int | None:
        return max(0, high - self.imported) if high is not None and self.imported is not None else None

    def overhead(self, request: messages.MeasureOverhead) -> list[int]:
        """Time the loop around an empty run, with this framework's ``wait`` for a pass that is over."""
        with self.restored(request.method):
            handles = getattr(self.net, request.method)()
            self.net.wait(handles)
            _, samples_ns = measure(lambda: handles, self.net.wait, request.n)
        return samples_ns.tolist()

    def read_parameters(self, request: messages.ReadParameters) -> list[Parameter]:
        return port.read_parameters(port.of(self.framework), self.net.net, request)

    def write_parameters(self, request: messages.WriteParameters) -> int:
        return port.write_parameters(port.of(self.framework), self.net.net, request)

    def trace(self, request: messages.TraceModel) -> replies.TracedModel:
        return port.trace(port.of(self.framework), self.net.net, request)

    def parts(self, request: messages.ListParts) -> replies.ModelParts:
        assert self.guest is not None
        return part.described(self.guest, self.net.net)

    def differentiate(self, request: messages.Differentiate) -> replies.Differentiated:
        return port.differentiate(port.of(self.framework), self.net.net, request)

    def start_training(self, request: messages.StartTraining) -> None:
        self.trainer = Trainer(self.net, self.variant, self.how.batch, request)

    def train(self, request: messages.Train) -> list[float | None]:
        assert self.trainer
        return self.trainer.train(request.rows, request.epoch)

    def logits(self, request: messages.ComputeLogits) -> None:
        pictures = map_pictures(Path(request.pictures))
        found = evaluator.logits(self.net, self.how.batch, pictures, request.rows, request.preprocessing)
        np.save(request.file, found)

    def save_trained(self, request: messages.SaveTrained) -> None:
        assert self.trainer
        self.trainer.save(Path(request.weights), Path(request.velocity))


def _largest(peaks: Iterable[int | None]) -> int | None:
    return max((peak for peak in peaks if peak is not None), default=None)


def slow_down(run: Callable[[], Any], wait: Callable[[Any], None], spin_ns: int) -> Callable[[], Any]:
    """A function that runs the pass to its end and then busy-waits for ``spin_ns``."""

    def run_and_spin() -> Any:
        handles = run()
        wait(handles)
        spin(spin_ns)
        return handles

    return run_and_spin


def fault_kind(error: BaseException) -> replies.FaultKind:
    """Classify the error of a failed request."""
    if isinstance(error, guest.NotANet):
        return replies.FaultKind.NET
    if isinstance(error, DeviceMissing):
        return replies.FaultKind.DEVICE
    if isinstance(error, ImportError):
        return replies.FaultKind.MISSING
    if guest.ran_out_of_memory(error):
        return replies.FaultKind.MEMORY
    return replies.FaultKind.LOST if LOST.search(str(error)) else replies.FaultKind.ERROR


def end_with(controller: int) -> None:
    """Have the kernel kill this process when its controller ends, even during a pass.

    Without Linux's prctl it ends when the request pipe closes.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.kill(controller, 0)
    except ProcessLookupError:  # it ended before prctl
        os._exit(1)


def own_pipes() -> tuple[int, int]:
    """Stdin and stdout for requests and replies alone: what else writes to stdout writes to stderr."""
    request_pipe, reply_pipe = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    return request_pipe, reply_pipe


def end_at_hangup(pipe: int) -> None:
    """End this process and what it started when the pipe of requests is closed, even during a pass.

    In a thread that waits in the kernel, so that it takes no time from what is timed.
    """

    def watch() -> None:
        poll = select.poll()
        poll.register(pipe, select.POLLHUP | getattr(select, "POLLRDHUP", 0))
        poll.poll()
        time.sleep(HANGUP_S)  # between two requests the Worker exits by itself
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main(framework: str, controller: int) -> None:
    """Answer requests on stdin until the controller closes it; tracebacks go to stderr.

    ``controller`` is the number of its process, 0 if it is on another machine.
    """
    request_pipe, reply_pipe = own_pipes()
    if controller:
        end_with(controller)
    end_at_hangup(request_pipe)
    worker = Worker(framework)
    with open(request_pipe) as requests, open(reply_pipe, "wb") as answers:
        for line in requests:
            try:
                reply = messages.write_reply(worker.answer(messages.read_request(line)))
            except BaseException as error:
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                failure = replies.Failure(fault_kind(error), why.removesuffix(": "), worker.search())
                answers.write(messages.write_reply(failure))
                answers.flush()
                os._exit(1)  # the framework's threads could keep the process alive
            answers.write(reply)
            answers.flush()
    os._exit(0)  # skip the framework's teardown, which takes a second
