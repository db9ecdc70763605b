"""What a Worker's process really computes with, found by running it: precision, ceiling, loaded libraries, memory.

The probes are nets of one or two rows through the adapter's own builder, so they meet what is timed: its kernels, its
casts, its threads. A Worker imports this: standard library, numpy, impls and the timing loop only.
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
#: Libraries whose copy or version decides how fast a pass is.
SHARED = ("cudnn", "cublas", "nccl", "gomp", "iomp", "omp", "mkl", "dnnl", "onednn", "openblas")
OWN = (library for framework in impls.FRAMEWORKS.values() for library in framework.libraries)
LIBRARY = re.compile(rf"lib({'|'.join((*SHARED, *OWN))})[\w.+-]*\.so[\d.]*$")


def precision(build: Builder, how: Callable[[int], Build]) -> dict[str, PrecisionProbe]:
    """Relative L2 error against float64 of a matmul and of a convolution, and the precision that it shows."""
    found = {}
    for variant in PRECISION:
        weights = initial(variant)
        shape = (64, variant.input_size, variant.input_size, 3)
        images = np.random.Generator(np.random.PCG64(0)).standard_normal(shape, dtype=np.float32)
        logits = logits_of(build(variant, weights, how(len(images))), images)
        error = reference.relative_l2(logits, reference.forward(variant, weights, images).logits)
        found[variant.name] = PrecisionProbe(error, precision_shown(error))
    return found


def precision_shown(error: float) -> str:
    """The precision that a relative error shows: operands rounded to 24, 11 or 8 bits. Measured: fp32 2e-7 to 4e-7,
    tf32 3e-4, bf16 2e-3 to 4e-3; between them it is unknown (Winograd's transforms lose digits in fp32)."""
    if error < 1e-5:
        return "fp32"
    if 1e-4 <= error <= 1e-3:
        return "tf32"
    return "bf16" if 1e-3 < error < 3e-2 else "unknown"


def ceiling(build: Builder, how: Callable[[int], Build], threads: int) -> CeilingRates:
    """What this device does at best, in this precision, with these threads: GFLOP/s of a square matrix product and of a
    3x3 convolution, each a net of one row through the adapter's own builder, and GB/s of a copy, counting what is read
    and what is written. The median of five, as a Case's own centre is one: the best would hold the machine's best
    moment against its usual ones."""
    one = how(1)
    on_cpu = one.device == "cpu"
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
    """The same of a process without a framework: numpy's fp32 matrix product, and a copy."""
    return CeilingRates(matmul_gflop_per_s=numpy_matrix_rate(), copy_gb_per_s=copy_rate(threads))


def numpy_matrix_rate(side: int = 2048) -> float:
    """GFLOP/s of numpy's product, which knows nothing of a framework that it may judge; float32, on the CPU."""
    a, b = (np.random.Generator(np.random.PCG64(i)).random((side, side), dtype=np.float32) for i in (0, 1))
    out = np.empty_like(a)
    _, ns = measure(lambda: np.matmul(a, b, out=out), lambda handles: None, 4)
    return 2 * side**3 / statistics.median(ns[1:])


def _median_ns(build: Builder, variant: Variant, how: Build) -> float:
    net = build(variant, _random(variant), how)
    net.load(resident_batches(how, variant.input_size, variant.channels))
    _, ns = measure(net.forward, net.wait, 7)  # the first compiles, the second may still tune
    return statistics.median(ns[2:])


def _random(variant: Variant) -> dict[str, dict[str, np.ndarray]]:
    """N(0, 1) weights: some hardware computes faster with one value than with many."""
    dice = np.random.Generator(np.random.PCG64(1))
    return {
        placed.layer.name: {
            name: dice.standard_normal(shape, dtype=np.float32)
            for name, shape in placed.layer.trainable(placed.input).items()
        }
        for placed in variant.placed()
    }


def copy_rate(threads: int, mib: int = 128) -> float:
    """GB/s read and written by so many threads, each copying its share into a buffer that is there already. The buffer
    is larger than the caches of most machines."""
    source, target = (np.ones(mib * 2**20 // 4, np.float32) for _ in range(2))
    shares = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        _, ns = measure(lambda: list(pool.map(np.copyto, *zip(*shares, strict=True))), lambda handles: None, 6)
    return 2 * source.nbytes / statistics.median(ns[1:])


def _device_copy_rate(build: Builder, how: Callable[[int], Build]) -> float:
    """On a GPU by a ReLU, which reads its input and writes as much."""
    variant = Variant("relu", 128, "", "", (Relu("relu"),), channels=64, part=True)
    images = 128  # 512 MiB, beyond any GPU's cache
    return 2 * 4 * images * 128 * 128 * 64 / _median_ns(build, variant, how(images))


def low_precision_hardware() -> bool | None:
    """Whether the CPU computes bf16 itself; None where it does not say."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return None
    words = re.search(r"^(flags|Features)\s*:(.*)$", flags, re.MULTILINE)
    return bool({"amx_bf16", "avx512_bf16", "bf16"} & set(words[2].split())) if words else None


def libraries() -> list[Library]:
    """Shared objects in memory that decide speed: file name, and whether it lies in this environment; no path."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count(" ") >= 5 and "/" in line}
    home = os.path.realpath(sys.prefix)  # the system's own paths have no links in them
    return [
        Library(Path(path).name, path.startswith(home))
        for path in sorted(paths, key=lambda path: Path(path).name)
        if LIBRARY.search(Path(path).name)
    ]


def strangers(framework: str) -> list[str]:
    """Frameworks in this process beside its own."""
    return [name for name, it in impls.PEERS.items() if name != framework and sys.modules.get(it.package)]


def keep_out(framework: str) -> None:
    """Let no other framework in: TensorFlow would import jax where it finds it, threads, memory and all."""
    for name, it in impls.PEERS.items():
        if name != framework:
            sys.modules.setdefault(it.package, None)  # type: ignore[arg-type]


def reset_high_water() -> bool:
    """Count from here on; False where the system does not allow it: then the mark is the process's own since it
    began."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def high_water() -> int | None:
    """Most bytes this process held in memory, None where the system does not say. Not getrusage's figure: a child
    starts with its parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
