"""Probes of a Worker's process: effective precision, ceiling, loaded libraries, memory.

Precision and ceiling run nets of one or two layers through the adapter's own builder, so they use the kernels, casts
and threads that are timed.
"""

import os
import re
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import impls
from bench.worker.replies import CeilingRates, Library, PrecisionProbe
from bench.worker.timing import measure
from impls import reference
from impls.layers import Conv, Fc, Flatten, Relu
from impls.net import Build, Net, logits_of, resident_batches
from impls.variants import Variant
from impls.weights import initial

Builder = Callable[..., Net]

PRECISION = (
    Variant("matmul", 13, "", "507 to 512", (Flatten("flatten"), Fc("fc", 512))),
    Variant("conv", 16, "", "3x3, 64 to 64 on 16x16", (Conv("widen", 64, 1), Conv("conv", 64, 3, pad=(1, 1)))),
)
#: Libraries whose version affects the speed of a pass.
SHARED = ("cudnn", "cublas", "nccl", "gomp", "iomp", "omp", "mkl", "dnnl", "onednn", "openblas")
OWN = (library for framework in impls.FRAMEWORKS.values() for library in framework.libraries)
LIBRARY = re.compile(rf"lib({'|'.join((*SHARED, *OWN))})[\w.+-]*\.so[\d.]*$")


def precision(build: Builder, how: Callable[[int], Build]) -> dict[str, PrecisionProbe]:
    """Relative L2 error against float64 of a matmul and of a convolution, and the precision that it implies."""
    probes = {}
    for variant in PRECISION:
        weights = initial(variant)
        shape = (64, variant.input_size, variant.input_size, 3)
        images = np.random.Generator(np.random.PCG64(0)).standard_normal(shape, dtype=np.float32)
        logits = logits_of(build(variant, weights, how(len(images))), images)
        error = reference.relative_l2(logits, reference.forward(variant, weights, images).logits)
        probes[variant.name] = PrecisionProbe(error, precision_of(error))
    return probes


def precision_of(error: float) -> str:
    """The precision that a relative error implies: operands rounded to 24, 11 or 8 bits.

    Measured: fp32 2e-7 to 4e-7, tf32 3e-4, bf16 2e-3 to 4e-3; ``unknown`` in between (Winograd loses digits in fp32).
    """
    if error < 1e-5:
        return "fp32"
    if 1e-4 <= error <= 1e-3:
        return "tf32"
    return "bf16" if 1e-3 < error < 3e-2 else "unknown"


def ceiling(build: Builder, how: Callable[[int], Build], threads: int) -> CeilingRates:
    """Measure the best rates of the device in this precision, with these threads.

    GFLOP/s of a square matrix product and of a 3x3 convolution, each a net of one layer, and GB/s read and written by a
    copy. Each is a median of five, as a Case's center is a median: the best of five would not be comparable.
    """
    on_cpu = how(1).device == "cpu"
    side = 2048 if on_cpu else 8192
    matmul = Variant("matmul", 1, "", "", (Fc("fc", side),), channels=side, part=True)
    images = 8 if on_cpu else 128
    conv = Variant("conv", 28, "", "", (Conv("conv", 256, 3, pad=(1, 1)),), channels=256, part=True)
    return CeilingRates(
        matmul_gflop_per_s=2 * matmul.macs * side / _median_ns(build, matmul, how(side)),
        conv_gflop_per_s=2 * conv.macs * images / _median_ns(build, conv, how(images)),
        copy_gb_per_s=copy_rate(threads) if on_cpu else _device_copy_rate(build, how),
    )


def numpy_ceiling(threads: int) -> CeilingRates:
    """Rates of a process without a framework: numpy's fp32 matrix product, and a copy."""
    return CeilingRates(matmul_gflop_per_s=numpy_matrix_rate(), copy_gb_per_s=copy_rate(threads))


def numpy_matrix_rate(side: int = 1536) -> float:
    """GFLOP/s of numpy's float32 product on the CPU, a reference independent of the frameworks."""
    a, b = (np.random.Generator(np.random.PCG64(i)).random((side, side), dtype=np.float32) for i in (0, 1))
    out = np.empty_like(a)
    _, ns = measure(lambda: np.matmul(a, b, out=out), lambda handles: None, 4)
    return 2 * side**3 / statistics.median(ns[1:])


def _median_ns(build: Builder, variant: Variant, how: Build) -> float:
    net = build(variant, _random(variant), how)
    net.load(resident_batches(how, variant.input_size, variant.channels))
    _, ns = measure(net.forward, net.wait, 7)  # the first compiles, the second may tune
    return statistics.median(ns[2:])


def _random(variant: Variant) -> dict[str, dict[str, np.ndarray]]:
    """N(0, 1) weights: some hardware is faster on constant data."""
    rng = np.random.Generator(np.random.PCG64(1))
    return {
        placed.layer.name: {
            name: rng.standard_normal(shape, dtype=np.float32)
            for name, shape in placed.layer.trainable(placed.input).items()
        }
        for placed in variant.placed()
    }


def copy_rate(threads: int, mib: int = 128) -> float:
    """GB/s read and written by ``threads`` copying to an allocated buffer, larger than the caches of most machines."""
    source, target = (np.ones(mib * 2**20 // 4, np.float32) for _ in range(2))
    shares = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        _, ns = measure(lambda: list(pool.map(np.copyto, *zip(*shares, strict=True))), lambda handles: None, 6)
    return 2 * source.nbytes / statistics.median(ns[1:])


def _device_copy_rate(build: Builder, how: Callable[[int], Build]) -> float:
    """GB/s on a GPU, from a ReLU, which reads its input and writes as much."""
    variant = Variant("relu", 128, "", "", (Relu("relu"),), channels=64, part=True)
    images = 128  # 512 MiB, larger than any GPU's cache
    return 2 * 4 * images * 128 * 128 * 64 / _median_ns(build, variant, how(images))


def low_precision_hardware() -> bool | None:
    """Whether the CPU has bf16 instructions; None if unknown."""
    try:
        flags = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return None
    words = re.search(r"^(flags|Features)\s*:(.*)$", flags, re.MULTILINE)
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(words[2].split())) if words else None


def libraries() -> list[Library]:
    """Loaded shared libraries that affect speed, sorted by file name."""
    try:
        maps = Path("/proc/self/maps").read_text(errors="replace")
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count(" ") >= 5 and "/" in line}
    home = os.path.realpath(sys.prefix)  # /proc lists resolved paths
    return [
        Library(Path(path).name, path.startswith(home))
        for path in sorted(paths, key=lambda path: Path(path).name)
        if LIBRARY.search(Path(path).name)
    ]


def other_frameworks(framework: str) -> list[str]:
    """Frameworks in this process other than its own."""
    return [name for name, peer in impls.PEERS.items() if name != framework and sys.modules.get(peer.package)]


def block_other_frameworks(framework: str) -> None:
    """Block imports of other frameworks: TensorFlow would import jax, with its threads and memory."""
    for name, peer in impls.PEERS.items():
        if name != framework:
            sys.modules.setdefault(peer.package, None)  # type: ignore[arg-type]


def reset_high_water() -> bool:
    """Reset the peak of resident memory; False if the system does not allow it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def high_water() -> int | None:
    """Peak resident memory of this process in bytes, None if unknown. Not getrusage: a child inherits its peak."""
    try:
        status = Path("/proc/self/status").read_text(errors="replace")
    except OSError:
        return None
    peak = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)  # gVisor has no such line
    return int(peak[1]) * 1024 if peak else None
