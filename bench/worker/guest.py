"""Guests: users' own nets in a Run, ``--net FILE.py:NAME`` or ``package.module:NAME``, timed like ours.

A Worker imports FILE; the controller only parses it (net_file.py). Standard library and impls only.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import math
import operator
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import impls
from bench.worker import net_name, source
from impls.accelerators import exact

if TYPE_CHECKING:
    import numpy as np

    from impls.net import Build
    from impls.variants import Variant
    from impls.weights import Weights


#: Substrings of the frameworks' out-of-memory errors.
MEMORY = (
    *("memoryerror", "outofmemory", "out of memory", "resourceexhausted", "can't alloc", "alloc_failed"),
    "memoryallocation",
)


class NotANet(TypeError):
    """A user's file without the net that is asked for, one line."""


def ran_out_of_memory(error: BaseException) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return any(sign in text for sign in MEMORY)


@dataclass(frozen=True)
class Guest:
    """A net from a user's file: ``path`` is absolute, ``sha256`` covers FILE or the package, not what it imports.

    It runs in a Worker of ``framework``, ``null`` for one without a framework. With ``takes_weights`` it accepts our
    weights and is proven; else it is timed and reported as unproven. ``model``: it is, or returns, a model of its
    framework instead of a Net. ``module``: the dotted name by which it is imported, empty for a file. ``arguments``:
    those that FUNCTION is called with, ``(weights=None)``. ``inputs``: its file has a function of that name, which
    makes what it takes. ``part``: the module of the model that is timed alone, empty for the whole.
    """

    path: str
    function: str
    framework: str
    sha256: str
    takes_weights: bool
    model: bool = False
    module: str = ""
    arguments: str = ""
    inputs: bool = False
    part: str = ""

    @property
    def whole(self) -> Guest:
        """The same without ``part``."""
        return replace(self, part="")

    @property
    def call(self) -> str:
        """NAME as in --net, with its arguments."""
        return self.function + self.arguments

    @property
    def source(self) -> str:
        """Where it comes from, without folders: ``file.py`` or ``package.module``."""
        return self.module or Path(self.path).name

    @property
    def label(self) -> str:
        """Its name in ids: ``file`` or ``file.function``, unless that is ``build``; letters, digits, _ and . only."""
        stem = self.module or Path(self.path).stem
        name = stem if self.call == "build" else f"{stem}.{self.call}"
        label = re.sub(r"[^\w.]+", "_", name)
        return label.rstrip("_") if self.arguments else label


def build(
    net: Guest,
    variant: Variant,
    weights: Weights,
    how: Build,
    needed: Sequence[str] = ("load", "wait"),
    input_shape: Sequence[int] = (),
) -> Filled:
    """Call FUNCTION of the user's file, in a Worker of its framework, with ``weights`` if it takes them.

    A model takes random values of ``input_shape``, if given, instead of images.
    Raises NotANet if the file cannot be imported, the result lacks a ``needed`` method, or Keras runs on another
    framework; RuntimeError if the file has changed.
    """
    name = net.source
    if net.sha256 != (found := source.digest(Path(net.path), net.module)):
        raise RuntimeError(f"{name} has changed since the Run began: expected sha256 {net.sha256}, found {found}")
    if net.framework in impls.PEERS:
        os.environ["KERAS_BACKEND"] = net.framework

    def refuse_keras() -> None:
        if fault := _keras_fault(net.framework):
            raise NotANet(f"{name}: {fault}")

    try:
        module = source.module_of_package(net.module, net.path) if net.module else source.imported(net.path)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise NotANet(f"{name}: {_keras_fault(net.framework) or _told('its import', error, net.path)}") from error
    try:
        make = operator.attrgetter(net.function)(module)
    except AttributeError as error:  # of a package, which the controller has not parsed
        near = difflib.get_close_matches(net.function, dir(module), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise NotANet(f"{name} has no {net.function!r}: {_first_line(error)}{hint}") from error
    refuse_keras()  # before FUNCTION fails for it
    if net.model:
        return Filled(_net_of(net, make, module, variant, how, input_shape), how)
    try:
        made = make(variant, weights, how) if net.takes_weights else make(variant, how)
    except ValueError as error:  # it does not have this net or mode
        raise NotANet(str(error)) from error
    except (ImportError, SystemExit) as error:
        raise NotANet(f"{name}: {_keras_fault(net.framework) or _told(net.function, error, net.path)}") from error
    refuse_keras()
    if made is None:
        raise NotANet(f"{name}:{net.function} returned None: expected a Net (impls/net.py); it needs a return")
    if lacking := [method for method in needed if not callable(getattr(made, method, None))]:
        returned = f"{name}:{net.function} returned {_a(type(made).__name__)}, which lacks {', '.join(lacking)}"
        raise NotANet(f"{returned}: expected a Net (impls/net.py)")
    return Filled(made, how)


def _net_of(
    net: Guest, model: Any, module: ModuleType, variant: Variant, how: Build, input_shape: Sequence[int]
) -> Any:
    """The Net of a user's model or of what it returns, with ``loss`` and ``inputs`` of the same module."""
    from impls.net import resident_batches
    from impls.outputs import Unfit

    models = importlib.import_module(impls.FRAMEWORKS[net.framework].models)
    who = f"{net.source}:{net.call}"
    try:
        if net.arguments or (not models.accepts(model) and callable(model)):
            places, named = net_name.values(net.arguments)
            with models.creating(how):
                model = models.make(model, places, named)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise NotANet(f"{net.source}: {_told(net.call, error, net.path)}") from error
    if not models.accepts(model):
        raise NotANet(
            f"{who} is no model: expected {models.WANTED}, or a function that returns one, found {_kind(model)}"
        )
    own = {} if net.module else vars(module)  # a package's functions of these names are not for us
    loss, inputs = (_function(own, name, net.source) for name in ("loss", "inputs"))
    given = f"a batch of {how.batch} images of {variant.input_size} pixels (see --input)"
    if input_shape:
        inputs, given = (
            random_inputs(input_shape, how),
            f"a batch of {how.batch} random inputs of shape {'x'.join(map(str, input_shape))}"
            + other_order(net.framework, input_shape, how),
        )
    elif inputs:
        given = "inputs"
    try:
        made = models.Net(model, loss, inputs, how)
        made.load([] if inputs else resident_batches(how, variant.input_size, variant.channels))
        made.check()
    except Unfit as error:
        raise NotANet(f"{who}: {error}") from error
    except Exception as error:
        raise refused(net, f"called with {given}", error) from error
    return made


def _function(own: Mapping[str, Any], name: str, file: str) -> Callable[..., Any] | None:
    if name in own and not callable(own[name]):
        raise NotANet(f"{file}: {name} is {_kind(own[name])}: expected a function, or another name")
    return own.get(name)


def random_inputs(shape: Sequence[int], how: Build) -> Callable[[int], np.ndarray]:
    """A function of the batch that returns N(0, 1) float32 of shape (batch, *shape), other values at each call.

    Images of three sizes have the same values in every layout: channels first are those of channels last.
    """
    import numpy as np

    rng = np.random.Generator(np.random.PCG64([how.seed]))

    def inputs(batch: int) -> np.ndarray:
        if len(shape) != 3 or how.layout == "nhwc":
            return rng.standard_normal((batch, *shape), dtype=np.float32)
        channels, *pixels = shape
        values = rng.standard_normal((batch, *pixels, channels), dtype=np.float32).transpose(0, 3, 1, 2)
        return values if how.layout == "channels_last" else np.ascontiguousarray(values)  # torch keeps the strides

    return inputs


def other_order(framework: str, shape: Sequence[int], how: Build) -> str:
    """A remark on an image whose channels are, by their number, where its framework does not have them; else empty."""
    last = how.layout == "nhwc"
    if len(shape) != 3 or not (shape[0] < shape[2] if last else shape[2] < shape[0]):
        return ""
    turned = (*shape[1:], shape[0]) if last else (shape[2], *shape[:2])
    return f" (images of {framework} have channels {'last' if last else 'first'}, as {'x'.join(map(str, turned))})"


def refused(net: Guest, given: str, error: Exception) -> Exception:
    """The error of a model that was called as ``given``, in one line; lack of memory as it is."""
    if ran_out_of_memory(error):
        return error
    return NotANet(f"{net.source}:{net.call} {given} ended by {type(error).__name__}: {_first_line(error)}")


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else _a(type(value).__name__)


def _first_line(error: BaseException) -> str:
    """The first line that says something: Keras's first one does not, and the rest is for a terminal."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()]
    return next((line for line in lines if line and not line.startswith("Exception encountered when calling")), "")


class Filled:
    """A guest's Net with defaults for the optional methods that it lacks; ``filled`` names those.

    Its own methods are used directly, so a timed pass has no overhead. With a default ``fetch``, it is not tested
    whether ``wait`` waits.
    """

    def __init__(self, net: Any, how: Build):
        self.net = net
        defaults = {
            "fetch": net.wait,
            "state": dict,
            "layers": list,
            "device": lambda: exact(how.device),
            "layout": lambda: how.layout,
            "traces": dict,
            "peak_memory": lambda: None,
        }
        self.filled = tuple(name for name in defaults if not callable(getattr(net, name, None)))
        for name in self.filled:
            setattr(self, name, defaults[name])

    def gradient_views(self, handles: Any) -> Any:
        """Its ``gradients``, which a subclass of our Net may have replaced."""
        return self.net.gradients(handles)

    def __getattr__(self, name: str) -> Any:
        if name == "net":  # not set yet while copying
            raise AttributeError(name)
        return getattr(self.net, name)


def _keras_fault(framework: str) -> str:
    """Keras on another framework than its Worker's, or asked for one by then; empty where Keras is not imported."""
    keras, asked = sys.modules.get("keras"), os.environ.get("KERAS_BACKEND")
    backend = getattr(getattr(keras, "backend", None), "backend", None)
    for found in (asked, backend() if callable(backend) else None) if "keras" in sys.modules else ():
        if found and found != framework:
            return f"Keras's backend is {found!r} in a Worker of {framework}: name it with --framework {found}"
    return ""


def _told(what: str, error: BaseException, path: str) -> str:
    """An error in a sentence, with the last line of the file that it passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    told = f"{what} ended by {type(error).__name__}: {_first_line(error)}" + (f" (line {lines[-1]})" if lines else "")
    if isinstance(error, SystemExit):  # as of argparse
        return f"{told}; expected code that needs no arguments of a command line"
    if isinstance(error, TypeError) and "missing" in str(error):
        return f"{told}; give them as NAME(...)"
    return told


def params_of(net: Filled) -> int | None:
    """Trainable values of a user's net, as its framework counts them: by its ``layers``, or those of the modules,
    models, variables and trees ``params`` among its attributes. None if there are none."""
    if "layers" not in net.filled:
        return sum(int(row["params"]) for row in net.layers())
    sizes: dict[int, int] = {}
    with contextlib.suppress(Exception):  # such as parameters without a shape; an attribute that raises
        _add_sizes(net.net, sizes)
        for name, value in vars(net.net).items():
            _add_sizes(value, sizes)
            if name in ("params", "weights", "variables") and (jax := sys.modules.get("jax")):
                sizes |= {id(leaf): leaf.size for leaf in jax.tree_util.tree_leaves(value) if hasattr(leaf, "size")}
        return sum(sizes.values()) or None
    return None


def _add_sizes(value: Any, sizes: dict[int, int]) -> None:
    """Add the sizes of trainable values in ``value``, by their ids: of torch, Keras, TensorFlow, or lists."""
    if callable(getattr(value, "parameters", None)):
        sizes |= {id(each): each.numel() for each in value.parameters() if each.requires_grad}
    elif isinstance(each := getattr(value, "trainable_variables", None), list | tuple):
        sizes |= {id(variable): math.prod(variable.shape) for variable in each}
    elif getattr(value, "requires_grad", False) or getattr(value, "trainable", False):
        sizes[id(value)] = math.prod(value.shape)
    elif isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            _add_sizes(each, sizes)


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o") else f"a {noun}"
