"""Guests: users' own nets in a Run, ``--net FILE.py:FUNCTION``, timed and proven like ours.

The controller only parses FILE, a Worker imports it. Both import this module: standard library and impls only.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import impls
from bench import UsageError

if TYPE_CHECKING:  # they import numpy
    from impls.net import Build
    from impls.variants import Variant
    from impls.weights import Weights

PROVEN, UNPROVEN = ("variant", "weights", "how"), ("variant", "how")  # parameters that FUNCTION may have, in order


class NotANet(TypeError):
    """FUNCTION does not have this net, or returned an object without a Net's methods; one line."""


@dataclass(frozen=True)
class Guest:
    """A net from a user's file: ``path`` is absolute, ``sha256`` covers FILE only, not its imports.

    It runs in a Worker of ``framework``, ``null`` for one without a framework. With ``takes_weights`` it accepts our
    weights and is proven; else it is timed and reported as unproven.
    """

    path: str
    function: str
    framework: str
    sha256: str
    takes_weights: bool

    @property
    def label(self) -> str:
        """Its name in ids: ``file`` or ``file.function``, unless that is ``build``; letters, digits, _ and . only."""
        stem = Path(self.path).stem
        return re.sub(r"[^\w.]+", "_", stem if self.function == "build" else f"{stem}.{self.function}")


@dataclass(frozen=True)
class NetFile:
    """FUNCTION in a user's file, and the ``frameworks`` that the file imports anywhere."""

    path: str
    function: str
    sha256: str
    takes_weights: bool
    frameworks: frozenset[str]

    def guest(self, frameworks: Sequence[str] = ()) -> Guest:
        """The Guest, in a Worker of the framework that the file imports.

        If it imports several, exactly one has to be in ``frameworks`` (of --framework), else UsageError. If it imports
        none: the only framework in ``frameworks``, which another file may import, else ``null``.
        """
        chosen = self.frameworks
        if len(chosen) > 1:
            chosen &= set(frameworks)
            if len(chosen) != 1:
                several = " and ".join(framework for framework in impls.FRAMEWORKS if framework in self.frameworks)
                name = Path(self.path).name
                raise UsageError(f"--net: {name} imports {several}: name the one it runs in with --framework")
        elif not chosen and len(peers := frozenset(impls.PEERS.keys() & set(frameworks))) == 1:
            chosen = peers
        (framework,) = chosen or ("null",)
        return Guest(self.path, self.function, framework, self.sha256, self.takes_weights)


def read_nets(texts: Sequence[str]) -> list[NetFile]:
    """Parse each ``FILE.py:FUNCTION``, reading each FILE once. Raises UsageError where one cannot be a net."""
    trees: dict[Path, tuple[str, ast.Module]] = {}
    nets = []
    for text in texts:
        file, colon, function = text.rpartition(":")
        if not colon or not file.endswith(".py") or not function.isidentifier():
            raise UsageError(f"--net: expected FILE.py:FUNCTION, found {text!r}")
        path = Path(os.path.abspath(os.path.expanduser(file)))
        if path not in trees:
            try:
                source = path.read_bytes()
            except OSError as error:
                raise UsageError(f"--net: cannot read {file!r}: {error.strerror or error}; check its path") from error
            trees[path] = _digest(source), _tree(source, path.name)
        sha256, tree = trees[path]
        takes_weights = _takes_weights(tree, path.name, function)
        nets.append(NetFile(str(path), function, sha256, takes_weights, _frameworks(tree)))
    return nets


def build(
    path: str,
    function: str,
    variant: Variant,
    weights: Weights,
    how: Build,
    *,
    sha256: str | None = None,
    needed: Sequence[str] = ("load", "wait"),
) -> Filled:
    """Call FUNCTION of the file at ``path``, in a Worker, with ``weights`` if it takes them.

    Raises NotANet if the result lacks a ``needed`` method, RuntimeError if the file's hash is not ``sha256``.
    """
    name = Path(path).name
    source = Path(path).read_bytes()
    if sha256 not in (None, _digest(source)):
        raise RuntimeError(f"{name} has changed since the Run began: expected sha256 {sha256}, found {_digest(source)}")
    takes_weights = _takes_weights(_tree(source, name), name, function)
    make = getattr(_imported(path), function)
    try:
        net = make(variant, weights, how) if takes_weights else make(variant, how)
    except ValueError as error:  # it does not have this net or mode
        raise NotANet(str(error)) from error
    if net is None:
        raise NotANet(f"{name}:{function} returned None: expected a Net (impls/net.py); it needs a return")
    if lacking := [method for method in needed if not callable(getattr(net, method, None))]:
        returned = f"{name}:{function} returned {_a(type(net).__name__)}, which lacks {', '.join(lacking)}"
        raise NotANet(f"{returned}: expected a Net (impls/net.py)")
    return Filled(net, how)


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


def _tree(source: bytes, name: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as an invalid escape in a guest's string
            return ast.parse(source, name)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UsageError(f"--net: {name}{line}: expected Python, found {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte; deep nesting
        raise UsageError(f"--net: {name}: expected Python, found {error or 'too deep a nesting'}") from None


def _takes_weights(tree: ast.Module, name: str, function: str) -> bool:
    """Whether FUNCTION takes weights, by its parameters' names. Raises UsageError for other parameters."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if function not in functions:
        has = f"it has {', '.join(functions)}" if functions else "it has none"
        raise UsageError(f"--net: {name} has no function {function!r}: {has}")
    args = functions[function].args
    names = [arg.arg for arg in args.posonlyargs + args.args]
    required = len(names) - len(args.defaults)
    call = PROVEN if "weights" in names else UNPROVEN
    keywords = [arg.arg for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    if tuple(names[: len(call)]) != call or required > len(call) or keywords:
        raise UsageError(
            f"--net: {name}:{function}: expected parameters ({', '.join(PROVEN)}) or ({', '.join(UNPROVEN)}), "
            f"found ({ast.unparse(args)})"
        )
    return call is PROVEN


def _frameworks(tree: ast.Module) -> frozenset[str]:
    """Frameworks that a file imports anywhere, directly or through our adapters."""
    packages = {package: name for name, peer in impls.PEERS.items() for package in (peer.package, *peer.also)}
    adapters = {peer.adapter: name for name, peer in impls.PEERS.items()}
    modules = set(_modules(tree))
    found = {packages[top] for module in modules if (top := module.partition(".")[0]) in packages}
    return frozenset(found | {adapters[module] for module in modules & adapters.keys()})


def _modules(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all imports; for ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o") else f"a {noun}"
