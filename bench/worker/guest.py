"""Guests: users' own nets in a Run, ``--net FILE.py:NAME`` or ``package.module:NAME``, timed like ours.

A Worker imports FILE; the controller only parses it (net_file.py). Standard library and impls only.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import math
import os
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import impls

if TYPE_CHECKING:  # they import numpy
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
    """A net from a user's file: ``path`` is absolute, ``sha256`` covers FILE only, not its imports.

    It runs in a Worker of ``framework``, ``null`` for one without a framework. With ``takes_weights`` it accepts our
    weights and is proven; else it is timed and reported as unproven. ``model``: it is, or returns, a model of its
    framework instead of a Net. ``module``: the dotted name by which it is imported, empty for a file.
    """

    path: str
    function: str
    framework: str
    sha256: str
    takes_weights: bool
    model: bool = False
    module: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, without folders: ``file.py`` or ``package.module``."""
        return self.module or Path(self.path).name

    @property
    def label(self) -> str:
        """Its name in ids: ``file`` or ``file.function``, unless that is ``build``; letters, digits, _ and . only."""
        stem = self.module or Path(self.path).stem
        return re.sub(r"[^\w.]+", "_", stem if self.function == "build" else f"{stem}.{self.function}")


def build(
    net: Guest, variant: Variant, weights: Weights, how: Build, needed: Sequence[str] = ("load", "wait")
) -> Filled:
    """Call FUNCTION of the user's file, in a Worker of its framework, with ``weights`` if it takes them.

    Raises NotANet if the file cannot be imported, the result lacks a ``needed`` method, or Keras runs on another
    framework; RuntimeError if the file has changed.
    """
    name = net.source
    if net.sha256 != (found := digest(Path(net.path).read_bytes())):
        raise RuntimeError(f"{name} has changed since the Run began: expected sha256 {net.sha256}, found {found}")
    if net.framework in impls.PEERS:
        os.environ["KERAS_BACKEND"] = net.framework

    def refuse_keras() -> None:
        if fault := _keras_fault(net.framework):
            raise NotANet(f"{name}: {fault}")

    try:
        module = _package_module(net) if net.module else _imported(net.path)
        make = getattr(module, net.function)
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise NotANet(f"{name}: {_keras_fault(net.framework) or _told('its import', error, net.path)}") from error
    refuse_keras()  # before FUNCTION fails for it
    if net.model:
        return Filled(_net_of(net, module, variant, how, needed), how)
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


def _net_of(net: Guest, module: ModuleType, variant: Variant, how: Build, needed: Sequence[str]) -> Any:
    """The Net of a user's model: NAME, or what NAME returns, with ``loss`` and ``inputs`` of the same module."""
    from impls.net import resident_batches

    models = importlib.import_module(impls.FRAMEWORKS[net.framework].models)
    model, who = getattr(module, net.function), f"{net.source}:{net.function}"
    try:
        if not models.accepts(model) and callable(model):
            with models.creating(how):
                model = model()
    except MemoryError:
        raise
    except (Exception, SystemExit) as error:
        raise NotANet(f"{net.source}: {_told(net.function, error, net.path)}") from error
    if not models.accepts(model):
        raise NotANet(
            f"{who} is no model: expected {models.WANTED}, or a function that returns one, found {_kind(model)}"
        )
    own = {} if net.module else vars(module)  # a package's functions of these names are not for us
    batches = resident_batches(how, variant.input_size, variant.channels)
    try:
        made = models.Net(model, own.get("loss"), own.get("inputs"), how)
        made.load(batches)
        made.check()
    except ValueError as error:
        raise NotANet(f"{who}: {_first_line(error)}") from error
    except Exception as error:
        if ran_out_of_memory(error):
            raise
        given = "inputs" if "inputs" in own else f"a batch of {how.batch} images of {variant.input_size} pixels"
        raise NotANet(f"{who} called with {given} ended by {type(error).__name__}: {_first_line(error)}") from error
    if "forward_backward" in needed and not made.has_parameters():
        raise NotANet(f"{who} has no trainable parameters, so no backward pass: expected --pass forward")
    return made


def _kind(value: Any) -> str:
    return "None" if value is None else _a(type(value).__name__)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")


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
            "device": lambda: "cuda:0" if how.device == "cuda" else how.device,
            "layout": lambda: how.layout,
            "traces": dict,
            "peak_memory": lambda: None,
        }
        self.filled = tuple(name for name in defaults if not callable(getattr(net, name, None)))
        for name in self.filled:
            setattr(self, name, defaults[name])

    def __getattr__(self, name: str) -> Any:
        if name == "net":  # not set yet while copying
            raise AttributeError(name)
        return getattr(self.net, name)


@functools.cache
def _imported(path: str) -> ModuleType:
    """Import the file, once per process; it can import modules next to it, as with `python FILE.py`."""
    folder, name = os.path.dirname(path), f"guest_{Path(path).stem}"
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.argv[:] = [path]  # not the Worker's arguments, which argparse in the file would refuse
    levels = [node.level for node in ast.walk(ast.parse(Path(path).read_bytes())) if isinstance(node, ast.ImportFrom)]
    if deepest := max(levels, default=0):
        name = f"{_package(path, deepest)}.{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.compile look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _package_module(net: Guest) -> ModuleType:
    """Import a module of a package, which may be in the folder where the command was started."""
    if importlib.util.find_spec(net.module.partition(".")[0]) is None:
        levels = net.module.count(".") + (Path(net.path).name == "__init__.py")
        sys.path.append(str(Path(net.path).parents[levels]))
    sys.argv[:] = [net.path]
    return importlib.import_module(net.module)


def _package(path: str, levels: int) -> str:
    """Make a package of each folder that the file's relative imports reach; return the name of the innermost."""
    name = ""
    for folder in [*Path(path).parents][:levels][::-1]:
        name = f"{name}.folder" if name else "guest_folder"
        init, inside = folder / "__init__.py", [str(folder)]
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=inside)
        assert spec is not None
        sys.modules[name] = package = importlib.util.module_from_spec(spec)
        if init.exists():
            assert spec.loader is not None
            spec.loader.exec_module(package)
    return name


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
    return f"{what} ended by {type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


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


def digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o") else f"a {noun}"
