"""NetFile: a user's file or module with a net, parsed and not run. Standard library and impls only."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from importlib.machinery import PathFinder
from pathlib import Path

import impls
from bench import UsageError
from bench.worker.guest import Guest
from bench.worker.net_name import parse_net_name
from bench.worker.source import digest

PROVEN, UNPROVEN = ("variant", "weights", "how"), ("variant", "how")  # parameters that FUNCTION may have, in order
KERAS = ("keras", "keras_cv", "keras_hub", "keras_nlp")  # packages that run on the framework of KERAS_BACKEND
BACKEND = "KERAS_BACKEND"
RNGS = "rngs"  # the argument of flax.nnx's modules that they are given


@dataclass(frozen=True)
class NetFile:
    """NAME in a user's file, and what the file imports anywhere: ``frameworks``, and whether ``keras``.

    ``backends`` are those that it sets for Keras; the other fields are those of a Guest.
    """

    path: str
    function: str
    sha256: str
    takes_weights: bool
    frameworks: frozenset[str]
    keras: bool
    backends: frozenset[str]
    model: bool
    module: str
    arguments: str
    inputs: bool

    def guest(self, frameworks: Sequence[str] = ()) -> Guest:
        """The Guest, in a Worker of the framework that the file imports or sets as Keras's backend.

        If there are several, exactly one has to be in ``frameworks`` (of --framework), else UsageError. If there is
        none: the only framework in ``frameworks``, which another file may import; else Keras's default, or ``null``.
        """
        name = self.module or Path(self.path).name
        named = impls.PEERS.keys() & set(frameworks)
        chosen = self.frameworks | self.backends
        if self.keras and not self.backends:
            chosen |= frozenset() if not chosen and len(named) == 1 else {self._default_backend(name)}
        if len(chosen) > 1:
            several = " and ".join(framework for framework in impls.FRAMEWORKS if framework in chosen)
            chosen &= named
            if len(chosen) != 1:
                raise UsageError(f"--net: {name} imports {several}: name the one it runs in with --framework")
        elif not chosen and len(named) == 1:
            chosen = frozenset(named)
        (framework,) = chosen or ("null",)
        if self.backends and framework not in self.backends:
            asked = " or ".join(sorted(self.backends))
            raise UsageError(f"--net: {name} sets Keras's backend to {asked}: expected that in --framework too")
        if self.model and not impls.FRAMEWORKS[framework].models:
            raise UsageError(
                f"--net: {name} imports no framework, which {self.function} needs to be a model: "
                "name it with --framework"
            )
        given = self.path, self.function, framework, self.sha256, self.takes_weights
        more = self.model, self.module, self.arguments, self.model and self.inputs
        return Guest(*given, *more)

    @staticmethod
    def _default_backend(name: str) -> str:
        """Keras's own default. UsageError where the user's shell or keras.json has another, which no Worker reads."""
        home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
        try:
            saved = json.loads(Path(home, "keras.json").read_bytes()).get("backend")
        except (OSError, ValueError, AttributeError):
            saved = None
        asked = os.environ.get(BACKEND) or saved or "tensorflow"
        if asked != "tensorflow":
            where = BACKEND if os.environ.get(BACKEND) else "keras.json"
            raise UsageError(
                f"--net: {name} imports keras, and {where} here says {asked!r}, which Workers do not read: "
                f"set {BACKEND} in the file, or name one --framework"
            )
        return "tensorflow"


def read_nets(texts: Sequence[str], pythons: Sequence[str] = ()) -> list[NetFile]:
    """Parse each ``FILE.py:NAME`` or ``package.module:NAME``, reading each file once.

    A package is looked for first in the virtual environments of the interpreters ``pythons``, whose Workers import it.
    Raises UsageError where one cannot be a net.
    """
    environments = [Path(python).parents[1] for python in pythons if len(Path(python).parents) > 1]
    folders = [
        str(folder)
        for environment in environments
        if (environment / "pyvenv.cfg").is_file()
        for folder in environment.glob("lib/python*/site-packages")
    ]
    trees: dict[tuple[Path, str], tuple[str, ast.Module]] = {}
    nets = []
    for written in texts:
        file, module, name, arguments = astuple(parse_net_name(written))
        path = _located(module, folders) if module else Path(os.path.abspath(os.path.expanduser(file)))
        shown = module or path.name
        if (path, module) not in trees:
            try:
                content = path.read_bytes()
                trees[path, module] = digest(path, module, content), _tree(content, shown)
            except OSError as error:
                raise UsageError(f"--net: cannot read {file!r}: {error.strerror or error}; check its path") from error
        sha256, tree = trees[path, module]
        takes_weights, model = _call_of(tree, shown, name, package=bool(module), arguments=arguments)
        known = _frameworks(tree, shown, module)
        inputs = not module and "inputs" in _module_names(tree.body)
        nets.append(NetFile(str(path), name, sha256, takes_weights, *known, model, module, arguments, inputs))
    return nets


def _located(module: str, folders: Sequence[str]) -> Path:
    """The file of a module, found without importing its package, in these folders before others. Raises UsageError."""
    top, *rest = module.split(".")
    here = [os.getcwd()]  # which is not on the path of the installed command
    spec = PathFinder.find_spec(top, list(folders)) or importlib.util.find_spec(top) or PathFinder.find_spec(top, here)
    if spec is None:
        raise UsageError(f"--net: package {top!r} is not installed: install it with pip, or name a FILE.py")
    for part in rest:  # by its last name alone, since the package is not imported
        spec = spec and PathFinder.find_spec(part, list(spec.submodule_search_locations or []))
    if spec is None or not (spec.origin or "").endswith(".py"):
        raise UsageError(f"--net: package {top!r} has no module {module!r} in Python; check its name")
    return Path(str(spec.origin))


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


def _call_of(tree: ast.Module, source: str, name: str, *, package: bool, arguments: str) -> tuple[bool, bool]:
    """Whether NAME takes weights, and whether it is a model or returns one, by its parameters' names.

    What the file does not tell is a model, which the Worker checks, and so is what is given arguments. Raises
    UsageError for other parameters.
    """
    callables = dict(_callables(tree))
    name, _, attribute = name.partition(".")
    if attribute and name in callables:
        return False, True
    if name not in callables:
        if package or name in _bound_names(tree):
            return False, True
        kinds = (ast.FunctionDef, ast.ClassDef)
        has = ", ".join(node.name for node in tree.body if isinstance(node, kinds)) or "no function and no class"
        raise UsageError(f"--net: {source} has no {name!r}: it has {has}")
    args = _parameters(callables[name], callables)
    if args is None or arguments:
        return False, True
    names = [arg.arg for arg in args.posonlyargs + args.args]
    required = len(names) - len(args.defaults) - names.count(RNGS)
    call = PROVEN if "weights" in names else UNPROVEN
    keywords = [
        arg.arg
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
        if default is None and arg.arg != RNGS
    ]
    if tuple(names[: len(call)]) == call and required <= len(call) and not keywords:
        return call is PROVEN, False
    if (not required and not keywords) or getattr(callables[name], "decorator_list", None):  # such as tf.function
        return False, True
    raise UsageError(
        f"--net: {source}:{name}: expected parameters ({', '.join(PROVEN)}) or ({', '.join(UNPROVEN)}), or none "
        f"for a model, found ({ast.unparse(args)}); a model's are given as {name}(...)"
    )


def _bound_names(tree: ast.AST) -> set[str]:
    """Names that a file binds by an import or an assignment anywhere."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def _module_names(body: Sequence[ast.stmt]) -> set[str]:
    """Names that a module binds at its top level, within ``if``, ``try`` and the like too."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        names |= (
            _bound_names(node) if not isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While) else set()
        )
        for part in ("body", "orelse", "finalbody"):
            names |= _module_names(getattr(node, part, []))
        for handler in getattr(node, "handlers", []):
            names |= _module_names(handler.body)
    return names


def _callables(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """What may be a function, by name: functions, classes, and what a name is assigned."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda | ast.Call | ast.Name):
            yield from ((target.id, node.value) for target in node.targets if isinstance(target, ast.Name))


def _parameters(node: ast.AST | None, known: dict[str, ast.AST], depth: int = 8) -> ast.arguments | None:
    """The parameters of a function, lambda, class, or functools.partial of one; None where the file does not tell."""
    if isinstance(node, ast.Name) and depth:
        return _parameters(known.get(node.id), known, depth - 1)
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        return node.args
    if isinstance(node, ast.ClassDef):
        own = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"]
        return _bound(own[-1].args, 1, set()) if own else None
    if (
        isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("partial", "functools.partial")
        and node.args
        and depth
    ):
        args = _parameters(node.args[0], known, depth - 1)
        given = {keyword.arg for keyword in node.keywords}
        if args is None or None in given or any(isinstance(arg, ast.Starred) for arg in node.args):
            return None
        return _bound(args, len(node.args) - 1, given)
    return None


def _bound(args: ast.arguments, first: int, named: set[str | None]) -> ast.arguments:
    """The parameters that are left after the ``first`` ones and those ``named``, which end the positional ones."""
    places = args.posonlyargs + args.args
    defaults = [None] * (len(places) - len(args.defaults)) + list(args.defaults)
    left = list(zip(places, defaults, strict=True))[first:]
    stop = next((i for i, (arg, _) in enumerate(left) if arg.arg in named), len(left))
    only = [*left[stop:], *zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    only = [(arg, default) for arg, default in only if arg.arg not in named]
    return ast.arguments(
        posonlyargs=[],
        args=[arg for arg, _ in left[:stop]],
        defaults=[default for _, default in left[:stop] if default is not None],
        vararg=args.vararg,
        kwarg=args.kwarg,
        kwonlyargs=[arg for arg, _ in only],
        kw_defaults=[default for _, default in only],
    )


def _frameworks(tree: ast.Module, name: str, module: str) -> tuple[frozenset[str], bool, frozenset[str]]:
    """Frameworks that a file imports anywhere, directly or through our adapters; whether Keras; Keras's backends.

    Of a ``module`` that imports none: those that its package requires.
    """
    packages = {package: name for name, peer in impls.PEERS.items() for package in (peer.package, *peer.also)}
    adapters = {peer.adapter: name for name, peer in impls.PEERS.items()}
    modules = {*_modules(tree), *([module] if module else [])}
    tops = {module.partition(".")[0] for module in modules}
    if module and not tops & (packages.keys() | set(KERAS)):
        tops |= _required(module.partition(".")[0])
    found = {packages[top] for top in tops & (packages.keys() - set(KERAS))} | {
        adapters[module] for module in modules & adapters.keys()
    }
    backends = frozenset(_backends(tree)) if tops & set(KERAS) else frozenset()
    if others := backends - impls.PEERS.keys():
        raise UsageError(
            f"--net: {name} sets Keras's backend to {', '.join(sorted(others))}: expected {', '.join(impls.PEERS)}"
        )
    return frozenset(found), bool(tops & set(KERAS)), backends


def _required(package: str) -> set[str]:
    """What an installed distribution of that name requires, without extras."""
    try:
        lines = importlib.metadata.requires(package) or []
    except importlib.metadata.PackageNotFoundError:
        return set()
    return {re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line}


def _backends(tree: ast.Module) -> Iterator[str]:
    """Backends that a file sets for Keras: by KERAS_BACKEND, in whatever way it is set, or by ``set_backend``.

    Names of constants are looked up; a value that is computed is not found here but refused in the Worker.
    """
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def text(node: ast.AST | None) -> object:
        return constants.get(node.id) if isinstance(node, ast.Name) else getattr(node, "value", None)

    for node in ast.walk(tree):
        values: list[ast.AST] = []
        if isinstance(node, ast.Assign):  # os.environ["KERAS_BACKEND"] = ...
            subscripts = [target for target in node.targets if isinstance(target, ast.Subscript)]
            values += [node.value for target in subscripts if text(target.slice) == BACKEND]
        elif isinstance(node, ast.Dict):  # os.environ.update({"KERAS_BACKEND": ...})
            values += [value for key, value in zip(node.keys, node.values, strict=True) if text(key) == BACKEND]
        elif isinstance(node, ast.Call):
            function = ast.unparse(node.func).rpartition(".")[2]
            if function in ("setdefault", "putenv", "__setitem__"):
                values += [value for key, value in zip(node.args, node.args[1:], strict=False) if text(key) == BACKEND]
            values += [keyword.value for keyword in node.keywords if keyword.arg == BACKEND]
            if function == "set_backend":
                values += [*node.args[:1], *(keyword.value for keyword in node.keywords)]
        yield from (found for value in values if isinstance(found := text(value), str))


def _modules(tree: ast.Module) -> Iterator[str]:
    """Dotted names of all imports; for ``from a import b`` both a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
