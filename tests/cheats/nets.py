"""Nets that are equal to the reference when they are proven and do other work, or less, when they are timed.

Each function is a net for `--net`; honest ones come from the adapter of the Worker's framework, or in a Worker without
a framework from tests/data/carrot_alexnet.py. No framework is imported here: `--framework` names it.
"""

import dataclasses
import gc
import importlib.util
import sys
import threading
import time
from pathlib import Path

import numpy as np

from bench.worker import messages, timing
from bench.worker.replies import Measured

FRAMEWORKS = ("torch", "tf", "jax")


def build(variant, weights, how):
    """An honest net."""
    for name in FRAMEWORKS:
        if adapter := sys.modules.get(f"impls.{name}_alexnet"):
            return adapter.build(variant, weights, how)
    path = Path(__file__).parents[1] / "data/carrot_alexnet.py"
    spec = importlib.util.spec_from_file_location("carrot_alexnet", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build(variant, weights, how)


class Cheat:
    """A net that passes all calls on to an honest one."""

    def __init__(self, variant, weights, how):
        self.variant, self.weights, self.how = variant, weights, how
        self.own = build(variant, weights, how)
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.own, name)


def lazy(variant, weights, how):
    class Lazy(Cheat):
        """Gradients are computed when they are read."""

        def forward_backward(self):
            return self.own.forward()

        def gradients(self, handles):
            return self.own.gradients(self.own.forward_backward())

    return Lazy(variant, weights, how)


def lazy_all(variant, weights, how):
    class LazyAll(Cheat):
        """Everything is computed when it is read, and ``fetch`` does nothing."""

        def forward(self):
            return None

        forward_backward = forward

        def wait(self, handles):
            pass

        def fetch(self, handles):
            return 0.0

        def logits(self, handles):
            return self.own.logits(self.own.forward())

        def gradients(self, handles):
            return self.own.gradients(self.own.forward_backward())

    return LazyAll(variant, weights, how)


class Cached(Cheat):
    """The result of the first call since ``load``, again and again."""

    spin_s = 0.0

    def load(self, batches):
        self.kept = {}
        self.own.load(batches)

    def _kept(self, name):
        if name not in self.kept:
            self.kept[name] = getattr(self.own, name)()
            self.own.wait(self.kept[name])
        until = time.perf_counter() + self.spin_s
        while time.perf_counter() < until:
            pass
        return self.kept[name]

    def forward(self):
        return self._kept("forward")

    def forward_backward(self):
        return self._kept("forward_backward")


def cached(variant, weights, how):
    return Cached(variant, weights, how)


def cached_slow(variant, weights, how):
    class Slow(Cached):
        spin_s = 4e-3

    return Slow(variant, weights, how)


class Stored(Cached):
    """The results of both batches, computed once after ``load``, in turns."""

    def load(self, batches):
        self.turn = 0
        super().load(batches)

    def _kept(self, name):
        self.turn += 1
        key = name, self.turn % 2
        if key not in self.kept:
            self.kept[key] = getattr(self.own, name)()
            self.own.wait(self.kept[key])
        return self.kept[key]


def stored(variant, weights, how):
    return Stored(variant, weights, how)


class Half(Cheat):
    """Half of the batch, counted twice, in calls that ``cheats`` chooses."""

    def __init__(self, variant, weights, how):
        super().__init__(variant, weights, how)
        self.part = build(variant, weights, dataclasses.replace(how, batch=how.batch // 2))

    def cheats(self):
        return self.calls > 4

    def load(self, batches):
        self.own.load(batches)
        self.part.load([images[: len(images) // 2] for images in batches])

    def _run(self, name):
        self.calls += 1
        full, part = getattr(self.own, name), getattr(self.part, name)
        return ("half", part()) if self.cheats() else ("whole", full())

    def forward(self):
        return self._run("forward")

    def forward_backward(self):
        return self._run("forward_backward")

    def _net(self, handles):
        return self.part if handles[0] == "half" else self.own

    def wait(self, handles):
        self._net(handles).wait(handles[1])

    def fetch(self, handles):
        return self._net(handles).fetch(handles[1]) * (
            2 if handles[0] == "half" and isinstance(handles[1], tuple) else 1
        )

    def logits(self, handles):
        logits = self._net(handles).logits(handles[1])
        return logits if len(logits) == self.how.batch else np.concatenate([logits, logits])

    def gradients(self, handles):
        loss, gradients = self._net(handles).gradients(handles[1])
        times = 2 if handles[0] == "half" else 1
        return times * loss, {
            layer: {name: times * array for name, array in arrays.items()} for layer, arrays in gradients.items()
        }


def half(variant, weights, how):
    return Half(variant, weights, how)


def half_odd(variant, weights, how):
    class Odd(Half):
        def cheats(self):
            return self.calls % 2 == 1 and self.calls > 4

    return Odd(variant, weights, how)


def stale(variant, weights, how):
    class Stale(Cheat):
        """After the first calls, gradients are those of an earlier pass; the forward pass is honest."""

        def forward_backward(self):
            self.calls += 1
            if self.calls <= 4:
                self.old = self.own.forward_backward()
                return self.old
            self.own.wait(self.own.forward())
            return self.old

    return Stale(variant, weights, how)


def skip_odd(variant, weights, how):
    class Skip(Cheat):
        """Every second call returns the result of the one before."""

        def _run(self, name):
            self.calls += 1
            if self.calls % 2 or self.calls < 6:
                self.last = getattr(self.own, name)()
            return self.last

        def forward(self):
            return self._run("forward")

        def forward_backward(self):
            return self._run("forward_backward")

    return Skip(variant, weights, how)


class Rounded(Cheat):
    """Results rounded to 8 bits in calls that ``cheats`` chooses, as those of bf16."""

    def cheats(self):
        return True

    def _rounded(self, array):
        mantissa, exponent = np.frexp(array)
        return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8).astype(np.float32) if self.cheats() else array

    def logits(self, handles):
        self.calls += 1
        return self._rounded(self.own.logits(handles))

    def gradients(self, handles):
        self.calls += 1
        loss, gradients = self.own.gradients(handles)
        return loss, {
            layer: {name: self._rounded(array) for name, array in arrays.items()} for layer, arrays in gradients.items()
        }


def bf16(variant, weights, how):
    return Rounded(variant, weights, how)


def bf16_later(variant, weights, how):
    class Later(Rounded):
        """Equal in the proof, and in another precision afterwards."""

        def cheats(self):
            return self.calls > 4

    return Later(variant, weights, how)


def nan_later(variant, weights, how):
    class Nan(Rounded):
        def _rounded(self, array):
            return array * np.float32(np.nan if self.calls > 4 else 1)

    return Nan(variant, weights, how)


class Thread(Cheat):
    """The pass runs in a thread; ``wait`` and ``fetch`` return at once, reading joins it."""

    def _run(self, name):
        result = []
        thread = threading.Thread(target=lambda: result.append(getattr(self.own, name)()))
        thread.start()
        return thread, result

    def forward(self):
        return self._run("forward")

    def forward_backward(self):
        return self._run("forward_backward")

    def wait(self, handles):
        pass

    def fetch(self, handles):
        return 0.0

    def _joined(self, handles):
        thread, result = handles
        thread.join()
        self.own.wait(result[0])
        return result[0]

    def logits(self, handles):
        return self.own.logits(self._joined(handles))

    def gradients(self, handles):
        return self.own.gradients(self._joined(handles))


def in_a_thread(variant, weights, how):
    return Thread(variant, weights, how)


def in_a_thread_with_an_honest_fetch(variant, weights, how):
    class Fetched(Thread):
        def fetch(self, handles):
            return self.own.fetch(self._joined(handles))

    return Fetched(variant, weights, how)


def more_threads(variant, weights, how):
    class More(Cheat):
        """Two threads in the pass, one where the harness asks; without a framework the second one spins."""

        def _run(self, name):
            if torch := sys.modules.get("torch"):
                torch.set_num_threads(2)
                handles = getattr(self.own, name)()
                torch.set_num_threads(1)
                return handles
            over = threading.Event()

            def work():
                array = np.ones(100_000, np.float32)
                while not over.is_set():
                    np.sqrt(array, out=array)

            helper = threading.Thread(target=work)
            helper.start()
            handles = getattr(self.own, name)()
            over.set()
            helper.join()
            return handles

        def forward(self):
            return self._run("forward")

        def forward_backward(self):
            return self._run("forward_backward")

    return More(variant, weights, how)


def slow_clock(variant, weights, how):
    """The clock of the timing loop runs ten times too slow."""
    timing.measure.__kwdefaults__["clock"] = lambda: time.perf_counter_ns() // 10
    return build(variant, weights, how)


def forged(variant, weights, how):
    """Samples are divided by seven on their way to the controller."""
    honest = messages.write_reply

    def write_reply(reply):
        if isinstance(reply, Measured):
            reply = dataclasses.replace(reply, ns=[ns // 7 for ns in reply.ns])
        return honest(reply)

    messages.write_reply = write_reply
    return build(variant, weights, how)


def other_clock(variant, weights, how):
    """``time.perf_counter_ns`` stands still; the timing loop holds the real one."""
    now = time.perf_counter_ns()
    time.perf_counter_ns = lambda: now
    return build(variant, weights, how)


def noisy(variant, weights, how):
    class Noisy(Cheat):
        """Writes a megabyte and collects garbage in each pass: no gain."""

        def forward(self):
            print("x" * 2**20)
            gc.enable()
            return self.own.forward()

    return Noisy(variant, weights, how)


class Bent(Cheat):
    """Values that are wrong whenever they are read."""

    def bend(self, gradients):
        raise NotImplementedError

    def gradients(self, handles):
        loss, gradients = self.own.gradients(handles)
        self.bend(gradients)
        return loss, gradients


def scaled(variant, weights, how):
    class Scaled(Bent):
        def bend(self, gradients):
            gradients["conv1"]["kernel"] = gradients["conv1"]["kernel"] * np.float32(1.001)

    return Scaled(variant, weights, how)


def missing(variant, weights, how):
    class Missing(Bent):
        def bend(self, gradients):
            del gradients["conv1"]

    return Missing(variant, weights, how)


def for_the_images(variant, weights, how):
    class Images(Bent):
        def bend(self, gradients):
            gradients["input"] = {"images": np.zeros((self.how.batch, 67, 67, 3), np.float32)}

    return Images(variant, weights, how)


def misshapen(variant, weights, how):
    class Misshapen(Cheat):
        def logits(self, handles):
            return self.own.logits(handles)[:, :-1]

    return Misshapen(variant, weights, how)


def not_a_number(variant, weights, how):
    class NotANumber(Cheat):
        def logits(self, handles):
            return self.own.logits(handles) * np.float32(np.nan)

    return NotANumber(variant, weights, how)
