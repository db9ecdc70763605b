"""Source: the file or package of a user's net, its digest and its import. Standard library only."""

import ast
import functools
import hashlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType


def digest(path: Path, module: str = "", content: bytes | None = None) -> str:
    """sha256 of a file or, for a module, of all Python files of its package, by their paths in it. Raises OSError.

    ``content`` is that of the file, where it has been read.
    """
    levels = module.count(".") + (path.name == "__init__.py") if module else 0
    if not levels:
        return hashlib.sha256(path.read_bytes() if content is None else content).hexdigest()
    top, whole = path.parents[levels - 1], hashlib.sha256()
    for file in sorted(top.rglob("*.py")):
        for part in (str(file.relative_to(top)).encode(), file.read_bytes()):
            whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()


@functools.cache
def imported(path: str) -> ModuleType:
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


def module_of_package(module: str, path: str) -> ModuleType:
    """Import a module of a package, which may be in the folder where the command was started."""
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        levels = module.count(".") + (Path(path).name == "__init__.py")
        sys.path.append(str(Path(path).parents[levels]))
    sys.argv[:] = [path]
    return importlib.import_module(module)


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
