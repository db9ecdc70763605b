"""What a Worker's process really computes with, found by running it: precision, matrix rate, loaded libraries, memory.

The probes are nets of one or two rows through the adapter's own builder, so they meet what is timed: its kernels, its
casts, its threads. A Worker imports this: standard library, numpy, impls and the timing loop only.
"""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import impls
from bench.timing import measure
from impls import reference
from impls.layers import Conv, Fc, Flatten
from impls.net import Build, Net, logits_of, resident_batches
from impls.variants import Variant
from impls.weights import initial

Builder = Callable[..., Net]

PRECISION = (
    Variant("matmul", 13, "", "507 to 512", (Flatten("flatten"), Fc("fc", 512))),
    Variant("conv", 16, "", "3x3, 64 to 64 on 16x16", (Conv("widen", 64, 1), Conv("conv", 64, 3, pad=(1, 1)))),
)
#: Libraries whose copy or version decides how fast a pass is.
LIBRARY = re.compile(
    r"lib(cudnn|cublas|nccl|gomp|iomp|omp|mkl|dnnl|onednn|openblas|torch_cpu|torch_cuda|tensorflow_cc|tensorflow_framework"
    r"|jax_common)[\w.+-]*\.so[\d.]*$"
)


def precision(build: Builder, how: Callable[[int], Build]) -> dict[str, dict[str, Any]]:
    """Relative L2 error against float64 of a matmul and of a convolution, and the precision that it shows."""
    found = {}
    for variant in PRECISION:
        weights = initial(variant)
        shape = (64, variant.input_size, variant.input_size, 3)
        images = np.random.Generator(np.random.PCG64(0)).standard_normal(shape, dtype=np.float32)
        logits = logits_of(build(variant, weights, how(len(images))), images)
        error = reference.relative_l2(logits, reference.forward(variant, weights, images).logits)
        found[variant.name] = {"error": error, "precision": shown(error)}
    return found


def shown(error: float) -> str:
    """The precision that a relative error shows: operands rounded to 24, 11 or 8 bits. Measured: fp32 2e-7 to 4e-7,
    tf32 3e-4, bf16 2e-3 to 4e-3; between them it is unknown (Winograd's transforms lose digits in fp32)."""
    if error < 1e-5:
        return "fp32"
    if 1e-4 <= error <= 1e-3:
        return "tf32"
    return "bf16" if 1e-3 < error < 3e-2 else "unknown"


def matrix_rate(build: Builder, how: Callable[[int], Build]) -> float:
    """GFLOP/s of the best of five products of about 2048^3 with these threads.

    In fp32 on a CPU it is numpy's, which knows nothing of the framework it will judge. Elsewhere (bf16; a GPU, 8192^3)
    it is the framework's own.
    """
    one = how(1)
    if (one.device, one.precision) == ("cpu", "fp32"):
        size = 2048
        a, b = (np.random.Generator(np.random.PCG64(i)).random((size, size), dtype=np.float32) for i in (0, 1))
        out = np.empty_like(a)
        _, ns = measure(lambda: np.matmul(a, b, out=out), lambda handles: None, 6)
        return 2 * size**3 / min(ns)
    side, rows = (26, 2048) if one.device == "cpu" else (52, 8192)
    variant = Variant("matrix", side, "", "", (Flatten("flatten"), Fc("fc", rows)))
    net = build(variant, initial(variant), how(rows))
    net.load(resident_batches(how(rows), side))
    _, ns = measure(net.forward, net.wait, 6)  # the first call compiles, and is never the fastest
    return 2 * variant.macs * rows / min(ns)


def libraries() -> list[dict[str, Any]]:
    """Shared objects in memory that decide speed: file name, and whether it lies in this environment; no path."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count(" ") >= 5 and "/" in line}
    home = os.path.realpath(sys.prefix)  # the system's own paths have no links in them
    return [
        {"name": Path(path).name, "inside": path.startswith(home)}
        for path in sorted(paths, key=lambda path: Path(path).name)
        if LIBRARY.search(Path(path).name)
    ]


def strangers(framework: str) -> list[str]:
    """Frameworks in this process beside its own."""
    peers = {name: it.package for name, it in impls.FRAMEWORKS.items() if it.peer and name != framework}
    return [name for name, package in peers.items() if sys.modules.get(package)]


def keep_out(framework: str) -> None:
    """Let no other framework in: TensorFlow would import jax where it finds it, threads, memory and all."""
    for name, it in impls.FRAMEWORKS.items():
        if it.peer and name != framework:
            sys.modules.setdefault(it.package, None)  # type: ignore[arg-type]


def reset_high_water() -> None:
    """Count from here on, where the system allows: what came before, the probes, is no part of a Net."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def high_water() -> int | None:
    """Most bytes this process held in memory, None where the system does not say. Not getrusage's figure: a child
    starts with its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
