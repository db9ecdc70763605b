"""The Worker: a child process that builds one Net, proves it, and measures when it is told to.

It imports the standard library, numpy, impls, the timing loop and the probes only, so it runs under any interpreter
that has a framework. Requests and replies are JSON lines on two pipes of their own, so a framework may write what it
likes to stdout and stderr. A request that fails is answered with its kind and the process ends: what is left of a
broken framework is not timed.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import impls
from bench.worker import guest, ownership, probe
from bench.worker.checks import check, gradient_checks, state_checks
from bench.worker.timing import measure, no_garbage_collection, spin, sync_lag
from impls.net import Build, DeviceMissing, Settings, gradients_of, logits_of, resident_batches
from impls.variants import variant_named
from impls.weights import map_shared

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

    def configure(self, settings: dict[str, Any]) -> dict[str, Any]:
        probe.keep_out(self.framework)
        self.adapter = impls.load(self.framework)
        self.adapter.configure(Settings(**settings))
        self.imported = probe.high_water()
        return {
            "versions": self.adapter.versions(),
            "devices": self.adapter.devices(),
            "python": sys.version.split()[0],
        }

    def build(
        self, variant: str, size: int | None, folder: str, how: dict[str, Any], net: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Ours, or the user's own ``net``: the path of a file and the name of a function."""
        self.release()
        self.variant, self.how, self.folder = variant_named(variant, size), Build(**how), Path(folder)
        weights = map_shared(self.folder / "weights")
        if net:
            self.net = guest.build(**net, variant=self.variant, weights=weights, how=self.how)
        else:
            self.net = self.adapter.build(self.variant, weights, self.how)
        self.net.load(self.batches())
        # what is alive now stays: later collections look at what a Turn left, not at a whole framework (0.4 s)
        gc.collect()
        gc.freeze()
        return {"hash": self.variant.hash, "params": self.variant.params, "macs": self.variant.macs}

    def release(self) -> None:
        """Give up the Net there is, memory and all: it stands in cycles (a jit of its own method), and was frozen."""
        self.net = None
        gc.unfreeze()
        gc.collect()

    def batches(self) -> list[np.ndarray]:
        """The resident ones of the Net there is."""
        return resident_batches(self.how, self.variant.input_size, self.variant.channels)

    def probe(self, how: dict[str, Any]) -> dict[str, Any]:
        """What precision a matmul and a convolution really have here."""
        self.release()
        return {"precision": probe.precision(self.adapter.build, lambda batch: Build(**how | {"batch": batch}))}

    def ceiling(self, how: dict[str, Any], threads: int, own: bool) -> dict[str, Any]:
        """What the device does at best, beside the Net there is; ``own`` is False for a framework that has no kernels
        of its own to ask."""
        try:
            if own:
                found = probe.ceiling(self.adapter.build, lambda batch: Build(**how | {"batch": batch}), threads)
            else:
                found = probe.numpy_ceiling(threads)
        except Exception as error:
            if kind_of(error) != "memory":
                raise
            found = dict.fromkeys(("matmul_gflop_per_s", "conv_gflop_per_s", "copy_gb_per_s"))  # the Net itself fits
        gc.collect()
        self.net.peak_memory()  # from here on it counts what is timed
        return found

    def numpy_rate(self) -> dict[str, Any]:
        return {"gflop_per_s": probe.numpy_matrix_rate()}

    def conditions(self) -> dict[str, Any]:
        """What is in force now: the framework's settings read back, where the Net lies, how often it was traced."""
        return {
            **self.adapter.conditions(),
            "device": self.net.device(),
            "layout": self.net.layout(),
            "traces": self.net.traces(),
            "bf16": self._bf16(),
            "filled": list(getattr(self.net, "filled", ())),
            "libraries": probe.libraries(),
            "other_frameworks": probe.strangers(self.framework),
        }

    def _bf16(self) -> bool | None:
        """Whether the device computes bf16 itself; None where it does not say."""
        said = self.adapter.conditions().get("bf16")
        return probe.low_precision_hardware() if said is None and self.how.device == "cpu" else said

    def environment(self) -> dict[str, Any]:
        """What this process is made of, for ``env``: no Net is built."""
        return {
            "libraries": probe.libraries(),
            "other_frameworks": probe.strangers(self.framework),
            "settings": self.adapter.conditions(),
            "owned_twice": ownership.owned_twice(),
        }

    def layers(self) -> dict[str, Any]:
        return {"layers": self.net.layers(), "device": self.net.device()}

    def first_call(self, pass_: str) -> dict[str, Any]:
        """The first call of a pass: tracing, compiling and tuning, never a sample."""
        _, (ns,) = measure(getattr(self.net, pass_), self.net.wait, 1)
        return {"ns": ns}

    def verify(
        self, what: list[str], thorough: bool, target: str = "reference", keep: str | None = None
    ) -> dict[str, Any]:
        """Hold the timed passes against the float64 reference, or what else lies in ``target``: the base batch, tiled
        to this Net's own, in place of the resident ones, and the passes' own handles read.

        ``what`` is logits, gradients or both; logits first, since a pass in training mode moves the moving statistics.
        ``keep`` is a folder for the values found, as .npy files named as those of the reference.
        """
        kept: dict[str, Any] = {}
        manifest = None
        values, base = self.folder / target, np.load(self.folder / "images.npy")
        tiles = self.how.batch // len(base)
        images = np.tile(base, (tiles, 1, 1, 1))
        checks = []
        if "logits" in what:
            expected = np.tile(np.load(values / "logits.npy"), (tiles, 1))
            kept["logits"] = logits_of(self.net, images)
            checks.append(check("logits", "logits", kept["logits"], expected, True))
        if "gradients" in what:
            before = self.net.state()
            loss, found = gradients_of(self.net, images)
            checks.append(check("loss", "loss", np.array(loss), np.load(values / "loss.npy") * tiles, True))
            kept["loss"] = np.float32(loss)
            kept |= {f"gradient.{layer}.{name}": array for layer, of in found.items() for name, array in of.items()}
            of_gradients, manifest = gradient_checks(self.variant, kept, self.folder, values, tiles, thorough)
            checks += of_gradients
            checks += state_checks(self.variant, self.how.batch, before, self.net.state(), self.folder / "reference")
        if keep is not None:
            for name, array in kept.items():
                np.save(Path(keep) / f"{name}.npy", array)
        self.net.load(self.batches())
        return {"checks": checks, "gradients": manifest}

    def sync(self, pass_: str, iteration_ns: int, attempts: int) -> dict[str, Any]:
        """Whether the Net's ``wait`` leaves the device with work to do, on the very pass that is timed."""
        with no_garbage_collection():
            run = getattr(self.net, pass_)
            return sync_lag(run, self.net.wait, self.net.fetch, iteration_ns, attempts=attempts)

    def measure(self, pass_: str, n: int, spin_ns: int = 0) -> dict[str, Any]:
        """``spin_ns`` of busy waiting is added to every pass, inside the clock: the known slowdown of an --ab.

        Memory at its peak in these passes: of the device's allocator where it counts, of the process beside what it
        held when its framework was imported where the system lets the mark be reset.
        """
        run = getattr(self.net, pass_)
        self.net.peak_memory()
        counted = probe.reset_high_water()
        before = resource.getrusage(resource.RUSAGE_SELF)
        with no_garbage_collection():
            start_ns, samples_ns = measure(slowed(run, self.net.wait, spin_ns) if spin_ns else run, self.net.wait, n)
        after = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "start_ns": start_ns.tolist(),
            "ns": samples_ns.tolist(),
            "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "nivcsw": after.ru_nivcsw - before.ru_nivcsw,
            "nvcsw": after.ru_nvcsw - before.ru_nvcsw,
            "majflt": after.ru_majflt - before.ru_majflt,
            "allocator_peak": self.net.peak_memory(),
            "process_peak": self._above_import() if counted else None,
        }

    def _above_import(self) -> int | None:
        high = probe.high_water()
        return max(0, high - self.imported) if high is not None and self.imported is not None else None

    def overhead(self, n: int) -> dict[str, Any]:
        """The loop around a run that does nothing, with this framework's own wait."""
        _, samples_ns = measure(lambda: None, self.net.wait, n)
        return {"ns": samples_ns.tolist()}

    def finish(self, what: list[str]) -> dict[str, Any]:
        """After the last Turn: are conditions what they were, and values as ``verify`` says? Of BatchNorm's logits only
        that they are finite, their statistics moved."""
        checks = self.verify(what, thorough=False)["checks"]
        if self.net.state():
            checks = [one for one in checks if one["kind"] != "logits" or one["error"] is None]
        return {"conditions": self.conditions(), "checks": checks}


def slowed(run: Callable[[], Any], wait: Callable[[Any], None], spin_ns: int) -> Callable[[], Any]:
    """The pass, done, and then ``spin_ns`` more."""

    def both() -> Any:
        handles = run()
        wait(handles)
        spin(spin_ns)
        return handles

    return both


def kind_of(error: BaseException) -> str:
    """What a failed request means to the controller: device, missing, memory, net (a user's own that is none) or
    error."""
    if isinstance(error, guest.NotANet):
        return "net"
    if isinstance(error, DeviceMissing):
        return "device"
    if isinstance(error, ImportError):
        return "missing"
    words = f"{type(error).__name__} {error}".lower()
    if any(sign in words for sign in MEMORY):
        return "memory"
    return "error"


def end_with(controller: int) -> None:
    """Have the kernel end this process when its controller is gone, even in the middle of a pass; without Linux's
    prctl it ends when it finds its requests closed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.kill(controller, 0)
    except ProcessLookupError:  # it went before that was asked for
        os._exit(1)


def main(framework: str, requests: int, replies: int, controller: int) -> None:
    """Serve until the controller closes its end; the last word on a failure goes to stderr."""
    end_with(controller)
    worker = Worker(framework)
    with open(requests) as asked, open(replies, "w") as answered:
        for line in asked:
            request = json.loads(line)
            do: Callable[..., dict[str, Any]] = getattr(worker, request.pop("do"))
            try:
                reply = do(**request)
            except BaseException as error:
                traceback.print_exc()
                why = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                reply = {"failed": kind_of(error), "why": why.removesuffix(": ")}
            answered.write(json.dumps(reply, allow_nan=False) + "\n")
            answered.flush()
            if "failed" in reply:
                os._exit(1)  # a framework's own threads must not keep a broken process alive
    os._exit(0)  # nor is a framework's tidy end worth its second
