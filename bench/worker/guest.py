"""Guest: a user's own net beside ours in one Run, ``--net FILE.py:FUNCTION``, timed and proven like ours.

The controller reads FILE as text and never imports it; a Worker imports it. Both import this: standard library and
impls only, no framework.
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

if TYPE_CHECKING:  # numpy with them
    from impls.net import Build
    from impls.variants import Variant
    from impls.weights import Weights

PROVEN, UNPROVEN = ("variant", "weights", "how"), ("variant", "how")  # what FUNCTION may be called with, in order


class NotANet(TypeError):
    """FUNCTION has no such net to give, or what it returned has not the methods of one; one line."""


@dataclass(frozen=True)
class Guest:
    """A net from a user's file: ``path`` is absolute, ``sha256`` that of FILE alone, not of what it imports.

    ``framework`` is whose Worker it runs in, ``null`` for one that lets no framework in. ``takes_weights``: it accepts
    ours, so it is proven; else it is timed all the same, and said to be unproven.
    """

    path: str
    function: str
    framework: str
    sha256: str
    takes_weights: bool

    @property
    def label(self) -> str:
        """Its name in ids: the file's, and the function's unless that is ``build``; letters, digits, _ and . only."""
        stem = Path(self.path).stem
        return re.sub(r"[^\w.]+", "_", stem if self.function == "build" else f"{stem}.{self.function}")

    def recorded(self) -> dict[str, Any]:
        """For the Run's header; of the path its file name alone, since a Run may be published."""
        return {
            "file": Path(self.path).name,
            "function": self.function,
            "sha256": self.sha256,
            "takes_weights": self.takes_weights,
            "framework": self.framework,
        }


@dataclass(frozen=True)
class NetFile:
    """What a user's file says of FUNCTION in it, read once; ``frameworks`` are those that it imports, anywhere."""

    path: str
    function: str
    sha256: str
    takes_weights: bool
    frameworks: frozenset[str]

    def guest(self, frameworks: Sequence[str] = ()) -> Guest:
        """The net in the Worker of the one framework that the file imports.

        Where it imports several, that of those which is among ``frameworks`` (that --framework names), else UsageError;
        where it imports none, that of ``frameworks`` if it is one alone (a file beside it may import that), else
        ``null``.
        """
        found = self.frameworks
        if len(found) > 1:
            found &= set(frameworks)
            if len(found) != 1:
                several = " and ".join(framework for framework in impls.FRAMEWORKS if framework in self.frameworks)
                name = Path(self.path).name
                raise UsageError(f"--net: {name} imports {several}: name the one it runs in with --framework")
        elif not found and len(peers := frozenset(impls.PEERS.keys() & set(frameworks))) == 1:
            found = peers
        (framework,) = found or ("null",)
        return Guest(self.path, self.function, framework, self.sha256, self.takes_weights)


def read_nets(texts: Sequence[str]) -> list[NetFile]:
    """Read each ``FILE.py:FUNCTION``, a FILE once whatever is named of it; UsageError where one cannot be a net."""
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
    """The Net that FUNCTION of the file at ``path`` returns; in a Worker. ``weights`` go to one that takes them.

    NotANet where it lacks a method that is ``needed``; RuntimeError where the file is not the one with that ``sha256``.
    """
    name = Path(path).name
    source = Path(path).read_bytes()
    if sha256 not in (None, _digest(source)):
        raise RuntimeError(f"{name} has changed since the Run began: expected sha256 {sha256}, found {_digest(source)}")
    takes_weights = _takes_weights(_tree(source, name), name, function)
    make = getattr(_imported(path), function)
    try:
        net = make(variant, weights, how) if takes_weights else make(variant, how)
    except ValueError as error:  # it has no such net, or mode, and says so
        raise NotANet(str(error)) from error
    if net is None:
        raise NotANet(f"{name}:{function} returned None: expected a Net (impls/net.py); it needs a return")
    if lacking := [method for method in needed if not callable(getattr(net, method, None))]:
        returned = f"{name}:{function} returned {_a(type(net).__name__)}, which lacks {', '.join(lacking)}"
        raise NotANet(f"{returned}: expected a Net (impls/net.py)")
    return Filled(net, how)


class Filled:
    """A guest's Net, and an honest default for each method that it may leave out: ``filled`` names those.

    Whatever it has is its own bound method, so nothing is added to a pass that is timed. Where ``fetch`` is filled in,
    nothing shows whether ``wait`` waits.
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
        if name == "net":  # a copy asks before it is there
            raise AttributeError(name)
        return getattr(self.net, name)


@functools.cache
def _imported(path: str) -> ModuleType:
    """The file as a module, once in a process; modules beside it are found as they are by `python FILE.py`."""
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
            warnings.simplefilter("ignore")  # a guest's "\d" is not ours to speak of
            return ast.parse(source, name)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise UsageError(f"--net: {name}{line}: expected Python, found {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a zero byte; brackets in brackets
        raise UsageError(f"--net: {name}: expected Python, found {error or 'too deep a nesting'}") from None


def _takes_weights(tree: ast.Module, name: str, function: str) -> bool:
    """Whether FUNCTION is one of weights, by its parameters' names; UsageError where it is neither kind, or none."""
    found = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
    if function not in found:
        has = f"it has {', '.join(found)}" if found else "it has none"
        raise UsageError(f"--net: {name} has no function {function!r}: {has}")
    of = found[function].args
    names = [one.arg for one in of.posonlyargs + of.args]
    required = len(names) - len(of.defaults)
    call = PROVEN if "weights" in names else UNPROVEN
    keywords = [one.arg for one, default in zip(of.kwonlyargs, of.kw_defaults, strict=True) if default is None]
    if tuple(names[: len(call)]) != call or required > len(call) or keywords:
        raise UsageError(
            f"--net: {name}:{function}: expected parameters ({', '.join(PROVEN)}) or ({', '.join(UNPROVEN)}), "
            f"found ({ast.unparse(of)})"
        )
    return call is PROVEN


def _frameworks(tree: ast.Module) -> frozenset[str]:
    """The frameworks that a file imports, anywhere, by their packages or our adapters."""
    packages = {package: name for name, it in impls.PEERS.items() for package in (it.package, *it.also)}
    adapters = {it.adapter: name for name, it in impls.PEERS.items()}
    modules = set(_modules(tree))
    found = {packages[top] for module in modules if (top := module.partition(".")[0]) in packages}
    return frozenset(found | {adapters[module] for module in modules & adapters.keys()})


def _modules(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all that is imported, of ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names)


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1].lower() in ("a", "e", "i", "o") else f"a {noun}"
