"""What is timed: the Variants, their canonical weights, the float64 reference, and one adapter for each framework.

Nothing here imports a framework until ``load`` is asked for one.
"""

import importlib
import importlib.util
from dataclasses import dataclass
from types import ModuleType

__all__ = ["FRAMEWORKS", "Framework", "available", "load", "version"]


@dataclass(frozen=True, slots=True)
class Framework:
    """What can be known of a framework without importing it.

    ``distributions`` are the names under which an index ships it, the first found wins; ``modes`` and ``layouts``
    start with the default. Of the modes ``compiled`` are those that compile, fair peers of each other and not of the
    rest, and ``gpu_only`` those that a CPU has not. ``unasked``: it takes part where no framework is named. ``peer`` is
    False for the null Net, which is not among ``all``.
    """

    adapter: str
    package: str
    distributions: tuple[str, ...]
    modes: tuple[str, ...]
    layouts: tuple[str, ...]
    compiled: tuple[str, ...] = ()
    gpu_only: tuple[str, ...] = ()
    unasked: bool = False
    peer: bool = True


FRAMEWORKS = {
    "torch": Framework(
        "impls.torch_alexnet",
        "torch",
        ("torch",),
        modes=("eager", "compile", "cudagraphs"),
        layouts=("nchw", "channels_last"),
        compiled=("compile", "cudagraphs"),
        gpu_only=("cudagraphs",),
        unasked=True,
    ),
    "tensorflow": Framework(
        "impls.tf_alexnet",
        "tensorflow",
        ("tensorflow", "tensorflow-cpu"),
        modes=("graph", "xla"),
        layouts=("nhwc",),
        compiled=("xla",),
        unasked=True,
    ),
    "jax": Framework("impls.jax_alexnet", "jax", ("jax",), modes=("jit",), layouts=("nhwc",), compiled=("jit",)),
    "null": Framework("impls.null_alexnet", "numpy", ("numpy",), ("noop", "part"), ("nhwc",), peer=False),
}


def load(name: str) -> ModuleType:
    """Import the adapter of a framework, and with it the framework: only a Worker does this."""
    return importlib.import_module(FRAMEWORKS[name].adapter)


def available() -> list[str]:
    """Of those that take part unasked, the ones installed here, in the order of the table; imports none of them."""
    return [name for name, it in FRAMEWORKS.items() if it.unasked and importlib.util.find_spec(it.package)]


def version(name: str) -> str | None:
    """The installed version of a framework by its package metadata, or None."""
    from importlib import metadata  # the command line's --help does without

    for distribution in FRAMEWORKS[name].distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None
