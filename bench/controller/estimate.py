"""Estimate how long a Run takes, for --dry-run, from the matrix rate of this machine."""

import time
from collections.abc import Sequence

import numpy as np

from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol

START_S = 7.0  # a Worker's import, build and proof, measured on a 2-core VM
REFERENCE_S = 6.0  # weights and the float64 reference of a group, measured on the same VM
SHARE = 0.5  # fraction of the matrix rate that a pass reaches, measured for torch and TensorFlow on a 2-core VM
GPU_FLOPS = 1e13  # a guess: a dry run does not use the GPU


def seconds(cases: Sequence[Case], protocol: Protocol) -> float:
    """Wall time of a Run in seconds, without the extra burn-in of the gate."""
    cpu_flops, total = matrix_flops(), 0.0
    for group in groups(cases):
        flops = SHARE * (cpu_flops if group[0].device == "cpu" else GPU_FLOPS)  # Cases of a group share a device
        per_pass = [2 * case.macs * case.batch / flops for case in group]
        length = protocol.turn_length([second * 1e9 for second in per_pass])
        samples = protocol.iterations
        if protocol.paired:
            samples = sum(2 * (turn + (length > 1)) for turn in protocol.cycles(length))
        workers = len({case.worker for case in group})
        round_s = workers * START_S + sum(per_pass) * (protocol.burn_in + samples)
        total += REFERENCE_S + protocol.rounds * round_s
    return total


def matrix_flops(size: int = 1024) -> float:
    """FLOP/s of the best of five float32 matrix products."""
    a = np.ones((size, size), np.float32)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
