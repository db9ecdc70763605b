"""The timed code: the Variants, their canonical weights, the float64 reference, and one adapter per framework.

Nothing here imports a framework until ``load`` is asked for one.
"""

from impls.accelerators import ACCELERATORS, Accelerator, accelerator_of, has_never_run
from impls.frameworks import (
    FRAMEWORKS,
    PEERS,
    Framework,
    Variable,
    available,
    environment,
    gpu_builds,
    gpu_requirements,
    load,
    requirement,
    version,
)

__all__ = [
    "ACCELERATORS",
    "FRAMEWORKS",
    "PEERS",
    "Accelerator",
    "Framework",
    "Variable",
    "accelerator_of",
    "available",
    "environment",
    "gpu_builds",
    "gpu_requirements",
    "has_never_run",
    "load",
    "requirement",
    "version",
]
