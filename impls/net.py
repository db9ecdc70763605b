"""The interface of a framework: its Adapter, a module of functions, and the Net that ``build`` returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np

from impls.accelerators import exact
from impls.layers import Layer
from impls.variants import Variant
from impls.weights import Weights

Gradients = dict[str, dict[str, np.ndarray]]


class DeviceMissing(RuntimeError):
    """The requested device does not exist; the message lists those that do."""


@dataclass(frozen=True, slots=True)
class Rank:
    """A process's place in a Team of processes that compute one pass together.

    ``addresses`` are those of all ranks, HOST:PORT, by number; rank 0 waits for the others at its own. ``timeout_s`` is
    how long the framework waits for another rank. It is far longer than a Worker may take to answer, so that only the
    controller's clock decides when a rank is lost.
    """

    number: int
    addresses: tuple[str, ...]
    timeout_s: float

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return len(self.addresses)


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a process, applied by ``configure`` before anything else."""

    device: str  # cpu, cuda, cuda:1, mps ...
    threads: int | None  # None: the framework's own choice
    precision: str  # fp32, tf32 or bf16; only tf32 applies to the process, bf16 to a Net
    preset: str = "equal"  # equal: everything pinned, the same in every framework; default: only the device is set
    rank: Rank | None = None  # of a Team; configure returns when all its ranks have met

    @property
    def exact_device(self) -> str:
        """``cuda`` means the first GPU."""
        return exact(self.device)


@dataclass(frozen=True, slots=True)
class Build:
    """How a Net is built; ``seed`` is that of its two resident batches."""

    batch: int
    device: str
    precision: str
    mode: str
    layout: str
    dropout: bool = False
    seed: int = 0
    lrn: str = "native"  # native: the framework's own operation where it has one; fast: an equal one of faster parts
    preset: str = "equal"  # equal: the fastest update with the right formula; default: the framework's own optimizer
    frozen: tuple[str, ...] = ()  # layers that no training pass changes: no gradient, no update, statistics as they are
    split: str | None = None  # of the Team that the process was configured for (impls.splits); None: a lone Net


@dataclass(frozen=True, slots=True)
class Sgd:
    """Hyperparameters of the update of the 2012 paper, ``impls.reference.update``."""

    lr: float
    momentum: float = 0.9
    decay: float = 5e-4


class Trained(NamedTuple):
    """Values after a training step, in canonical layout: the loss before it; parameters and velocity after it.

    ``velocity`` is the last change of each parameter, as in the paper: frameworks whose buffer leaves the learning rate
    out scale it by -lr.
    """

    loss: float
    parameters: Gradients
    velocity: Gradients


class LayerReport(TypedDict):
    """What a framework reports of one layer of a built Net: its output's shape, and numbers of values."""

    layer: str
    height: int
    width: int
    channels: int
    params: int
    state: int


class Net(Protocol):
    """A Variant built on a device. It holds two resident batches of images, which its passes alternate.

    The proof uses what is timed: passes on the resident batches, whose handles are read.
    """

    def load(self, batches: Sequence[np.ndarray]) -> None:
        """Replace the two resident batches, of shape (batch, h, w, 3), float32; a single one serves every pass."""

    def forward(self) -> Any:
        """Enqueue one forward pass in inference mode; return device handles of the output."""

    def forward_backward(self) -> Any:
        """Enqueue one pass in training mode; return device handles of the loss and of every gradient.

        A part of a net (``Variant.part``) computes no loss: its backward pass starts from the output, which is the
        gradient of 0.5 * sum(output ** 2), and the handles are the output and every gradient.
        """

    def label(self, labels: Sequence[np.ndarray]) -> None:
        """Set the labels of the two resident batches, of shape (batch,), int32; after each ``load``."""

    def feed(self, images: Any, labels: Any) -> None:
        """Use this batch of the framework's loader (``impls.loader.Batch``) in the next passes, until ``load``."""

    def restart(self, sgd: Sgd, velocity: Gradients | None = None) -> None:
        """Set parameters and moving statistics to the weights it was built with, and ``sgd``.

        The velocity is set to 0, or to ``velocity`` as ``trained`` returns it.

        Needed before the first training step and again after the last: all other passes have the weights of the build.
        """

    def train_step(self) -> Any:
        """Enqueue one training step; return device handles of the loss and of the velocity of every parameter.

        A pass in training mode, the mean softmax cross-entropy of its labels, every gradient, and the update by the
        values of ``restart``, which are arguments on the device: other values trace nothing. A part of a net has
        the loss of ``forward_backward``.
        """

    def wait(self, handles: Any) -> None:
        """Return when the device has finished the handles; copy nothing."""

    def fetch(self, handles: Any) -> float:
        """Copy one number that is computed last from those handles to the host, without waiting for anything else.

        It is the first one of the output, or of the gradient or velocity of the first layer's first array. Copying a
        whole array would take longer than the allowed lag.
        """

    def logits(self, handles: Any) -> np.ndarray:
        """Output of ``forward``, from its handles: (batch, classes), float32, in (h, w, c) order if not flat."""

    def gradients(self, handles: Any) -> tuple[float, Gradients]:
        """Loss and every gradient of ``forward_backward``, from its handles, in canonical layout.

        The gradient of the input, if the Variant requests it, is ``["input"]["images"]``, (batch, h, w, c). A Net whose
        layout is another may have a second method, ``gradient_views``, that copies nothing: there the kernel of the
        first dense layer after a flatten may be (h, w, c, out).
        """

    def trained(self, handles: Any) -> Trained:
        """Loss, parameters and velocity of the last ``train_step``, from its handles.

        Shapes as of ``gradient_views``.
        """

    def state(self) -> Gradients:
        """Current moving statistics, by layer and name."""

    def layers(self) -> list[LayerReport]:
        """Each layer as reported by the framework, in order."""

    def device(self) -> str:
        """The device of an output, as named by the framework."""

    def layout(self) -> str:
        """Memory layout of an activation, as named in FRAMEWORKS: nchw, channels_last or nhwc."""

    def traces(self) -> dict[str, int]:
        """How often each pass has been traced or compiled; empty if never."""

    def peak_memory(self) -> int | None:
        """Peak bytes of the device's allocator since the last call; None if unknown."""


SUMS = 32  # of up to 2**6 ranks that sum values in place; float32 has room for a factor of 2**227


class TeamNet(Net, Protocol):
    """A Net on every rank of a Team, each with batches of its own, through the framework's data parallelism.

    All ranks call the same methods in the same order. ``forward`` computes each rank's batch alone. The gradients of
    ``forward_backward`` are sums over the batches of all ranks; ``train_step`` updates by the gradient of the mean loss
    of all batches. The loss of both is that of the rank's own batch. ``gradients`` and ``trained`` give what the
    framework has on this rank, after the factor of its convention (DistributedDataParallel averages). Moving statistics
    are those of the rank's own batches: the framework's BatchNorm as it is, never one synchronized over ranks.
    """

    def apart(self) -> Any:
        """``forward_backward`` by the same operations, all ranks at once, without the reduction."""

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        """As ``gradients``, of ``apart``: those of the rank's own batch."""

    def fill(self) -> None:
        """Set the values that ``all_reduce`` sums on this rank to ``pattern``: before the first, and at least every
        SUMS times, since a framework that sums in place has larger values every time."""

    def all_reduce(self) -> Any:
        """Enqueue the sum over all ranks of as many float32 values as there are parameters, which nothing precedes or
        follows; return device handles."""

    def reduced(self, handles: Any) -> np.ndarray:
        """The result of ``all_reduce`` on this rank, flat, float32: the sum of all ranks' ``pattern``.

        A framework that sums in place multiplies the values by the number of ranks every time, and divides here.
        """


class SplitNet(Net, Protocol):
    """A Net that the ranks of a Team share, with a part of the arrays on each (``impls.splits``).

    All ranks call the same methods in the same order. Each loads its own batches; ``forward`` gives the logits, and the
    other passes the loss, of those. ``gradients`` and ``trained`` give the arrays of the whole net, which ranks send
    each other when they are read: sums, or of ``train_step`` means, over the batches of all ranks.
    """

    first_filter: int
    """Where ``fetch`` finds its number, along the last axis of the first layer's kernel."""


class Timer(Protocol):
    """The clock of a device, read by events that it passes in the order in which they and its kernels are enqueued."""

    def mark(self) -> Any:
        """Enqueue an event."""

    def wait(self, mark: Any) -> None:
        """Return when the device has passed the event."""

    def between_ns(self, first: Any, last: Any) -> int:
        """Nanoseconds between two events that the device has passed."""

    def block(self, ns: int) -> None:
        """Enqueue a kernel that keeps the device busy for about so long."""


class Adapter(Protocol):
    """The module of one framework, which imports no other. Its functions are called in this order."""

    def configure(self, settings: Settings) -> None:
        """Set up the process before any computation. Raises DeviceMissing."""

    def devices(self) -> list[str]:
        """Devices visible to the framework: ``cpu``, ``cuda:0``, ``mps`` ..."""

    def versions(self) -> dict[str, Any]:
        """Versions of the framework, by its name, and of its libraries; ``device_name``, None on a CPU."""

    def conditions(self) -> dict[str, Any]:
        """Settings read back from the framework: ``threads``, ``onednn``, ``tf32`` and ``bf16`` (None where it has no
        such setting), and its own others."""

    def build(self, variant: Variant, weights: Weights, how: Build) -> Net:
        """Build a Variant with these canonical weights. Raises for an unknown kind of layer."""

    def timer(self, device: str) -> Timer | None:
        """The device's event timer; None on a CPU, and of a framework that offers none."""


def resident_batches(build: Build, size: int, channels: int = 3) -> list[np.ndarray]:
    """The two batches of N(0, 1) images, the same for every framework; never zeros, which some hardware runs faster."""
    shape = (build.batch, size, size, channels)
    return [
        np.random.Generator(np.random.PCG64([build.seed, which])).standard_normal(shape, dtype=np.float32)
        for which in (0, 1)
    ]


def resident_labels(build: Build, classes: int) -> list[np.ndarray]:
    """Labels of the two resident batches, the same for every framework."""
    rng = np.random.Generator(np.random.PCG64([build.seed, 2]))
    return [rng.integers(classes, size=build.batch, dtype=np.int32) for _ in range(2)]


def pattern(rank: int, indices: np.ndarray) -> np.ndarray:
    """Values that a rank gives to ``all_reduce``, by their indices: multiples of 2**-10 in [1, 2), float32, of which
    sums over up to 2**13 ranks are exact."""
    mixed = (indices.astype(np.uint32) + np.uint32(rank)) * np.uint32(2654435761)  # Knuth's multiplicative hash
    return (1 + (mixed >> np.uint32(22)).astype(np.float32) / 1024).astype(np.float32)


def loss_of(handles: Any) -> float:
    """The loss of a training step of a whole net, from its handles."""
    return float(handles[0])


def last_value(handles: Any) -> Any:
    """The output, or of gradients or velocities that of the first layer's kernel, which is computed last."""
    return handles[1] if isinstance(handles, tuple) else handles


def layer_report(layer: Layer, shape: Sequence[int], params: int, state: int) -> LayerReport:
    """The report of a layer whose output has this shape, (height, width, channels), and that many values."""
    height, width, channels = shape
    return {
        "layer": layer.name,
        "height": height,
        "width": width,
        "channels": channels,
        "params": params,
        "state": state,
    }


def half_square(y: np.ndarray) -> float:
    """The loss of a part of a net, which computes none itself: 0.5 * sum of squares, in float64."""
    return 0.5 * float(np.sum(np.square(y, dtype=np.float64)))


def logits_of(net: Net, images: np.ndarray) -> np.ndarray:
    """The timed forward pass on these images."""
    net.load([images, images])
    handles = net.forward()
    net.wait(handles)
    return net.logits(handles)


def gradients_of(net: Net, images: np.ndarray) -> tuple[float, Gradients]:
    """The timed forward_backward pass on these images."""
    net.load([images, images])
    handles = net.forward_backward()
    net.wait(handles)
    return net.gradients(handles)


def refuse_for_team(variant: Variant, how: Build) -> None:
    """Raise ValueError for what a TeamNet does not compute."""
    asked = {
        "a part of a net": variant.part,
        "a gradient for the images": variant.input_gradient,
        "dropout": how.dropout,
        "frozen layers": bool(how.frozen),
    }
    found = [name for name, is_asked in asked.items() if is_asked]
    if found:
        raise ValueError(f"expected a whole net without dropout for a Team, found {', '.join(found)}")
