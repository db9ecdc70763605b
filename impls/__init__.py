"""What is timed: the Variants, their canonical weights, the float64 reference, and one adapter for each framework.

Nothing here imports a framework until ``load`` is asked for one.
"""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from types import ModuleType

__all__ = ["FRAMEWORKS", "Framework", "available", "load", "version"]


@dataclass(frozen=True, slots=True)
class Framework:
    """What can be known of a framework without importing it.

    ``distributions`` are the names under which an index ships it, the first found wins; ``modes`` and ``layouts``
    start with the default. ``peer`` is False for the null Net, which takes part only when it is named.
    """

    adapter: str
    package: str
    distributions: tuple[str, ...]
    modes: tuple[str, ...]
    layouts: tuple[str, ...]
    peer: bool = True


FRAMEWORKS = {
    "torch": Framework("impls.torch_alexnet", "torch", ("torch",), ("eager",), ("nchw",)),
    "tensorflow": Framework("impls.tf_alexnet", "tensorflow", ("tensorflow", "tensorflow-cpu"), ("graph",), ("nhwc",)),
    "null": Framework("impls.null_alexnet", "numpy", ("numpy",), ("noop", "part"), ("nhwc",), peer=False),
}


def load(name: str) -> ModuleType:
    """Import the adapter of a framework, and with it the framework: only a Worker does this."""
    return importlib.import_module(FRAMEWORKS[name].adapter)


def available() -> list[str]:
    """The frameworks installed here, in the order of the table; imports none of them."""
    return [name for name, it in FRAMEWORKS.items() if it.peer and importlib.util.find_spec(it.package)]


def version(name: str) -> str | None:
    """The installed version of a framework by its package metadata, or None."""
    for distribution in FRAMEWORKS[name].distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
