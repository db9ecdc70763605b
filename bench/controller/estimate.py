"""Estimate how long a Run takes, for --dry-run, from the matrix rate of this machine."""

import dataclasses
import math
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.controller.budget import ASIDE, CEILING_S

START_S, LATER_S = 5.0, 3.0  # a Worker's import, build and proof, in the first Round and in later ones; 2-core VM
REFERENCE_S = 4.0  # the float64 reference of a group; measured 1.1 (bvlc) to 4.2 (tutorial) on the same VM
SHARE = 0.5  # fraction of the matrix rate that a pass reaches, measured for torch and TensorFlow on a 2-core VM
GPU_FLOPS = 1e13  # a guess: a dry run does not use the GPU


class Expected(NamedTuple):
    """What a group will have, as far as the matrix rate tells: iterations per Case and Round, Rounds, and wall time.

    Of a group with a net of unknown cost ``seconds`` is None, and the others are the most that the Protocol allows.
    """

    iterations: int
    rounds: int
    seconds: float | None


def expect(
    cases: Sequence[Case], protocol: Protocol, unknown: Collection[Case] = (), devices: int = 1
) -> list[Expected]:
    """Estimate the plan and wall time of each group, without the extra burn-in of the gate and without reductions.

    ``devices`` share the cores, so each has that part of the rate. As in a Run, each group has its share of --max-time,
    which first reduces iterations, as far as the Protocol allows, then Rounds. ``unknown`` are Cases of nets that do
    not compute their Variant.
    """
    flops, each = matrix_flops() / devices, groups(cases)
    known = [not any(case in unknown for case in group) for group in each]
    needs_s = [seconds_of(group, protocol, flops) if it else math.inf for group, it in zip(each, known, strict=True)]
    limits_s = shares(protocol.max_time_s, needs_s) if protocol.max_time_s else [math.inf] * len(each)
    return [
        _fitting(group, protocol, flops, limit_s) if it else Expected(protocol.iterations, protocol.rounds, None)
        for group, it, limit_s in zip(each, known, limits_s, strict=True)
    ]


def shares(total_s: float, needs_s: Sequence[float]) -> list[float]:
    """Divide time among groups: a group that needs less than an equal share has what it needs, and the others, or if
    all have what they need all, divide the rest equally. A need may be infinite, if it is unknown."""
    found, left_s = list(needs_s), total_s
    waiting = sorted(range(len(needs_s)), key=lambda number: needs_s[number])
    while waiting and needs_s[waiting[0]] <= left_s / len(waiting):
        left_s -= needs_s[waiting.pop(0)]
    for number in waiting or range(len(found)):
        found[number] = left_s / len(waiting) if waiting else found[number] + left_s / len(found)
    return found


def _fitting(group: Sequence[Case], protocol: Protocol, flops: float, limit_s: float) -> Expected:
    least = protocol.least_iterations or protocol.iterations
    plans = [(iterations, protocol.rounds) for iterations in range(protocol.iterations, least, -2)]
    plans += [(min(least, protocol.iterations), rounds) for rounds in range(protocol.rounds, 0, -1)]
    for iterations, rounds in plans:
        seconds = seconds_of(group, dataclasses.replace(protocol, iterations=iterations, rounds=rounds), flops)
        if seconds <= limit_s:
            break
    return Expected(iterations, rounds, seconds)


def seconds_of(cases: Sequence[Case], protocol: Protocol, cpu_flops: float) -> float:
    """Estimated wall time of all groups of these Cases, at this matrix rate of the CPU, without a limit."""
    total = 0.0
    for group in groups(cases):
        flops = SHARE * (cpu_flops if group[0].device == "cpu" else GPU_FLOPS)  # Cases of a group share a device
        per_pass = [2 * case.macs * case.batch / flops for case in group]
        length = protocol.turn_length([second * 1e9 for second in per_pass])
        turns = protocol.cycles(length) if protocol.paired else []
        leads_s = sum(2 * len(turns) * protocol.lead(length, 1e9 * seconds) * seconds for seconds in per_pass)
        samples = ASIDE + 2 * sum(turns) if turns else protocol.iterations
        workers = sum({case.worker: case.world for case in group}.values())
        for round_ in range(protocol.rounds):
            start_s = workers * (LATER_S if round_ else START_S + CEILING_S)
            total += start_s + leads_s + sum(per_pass) * (protocol.least_burn_in(round_) + samples)
        case = group[0]  # of default weights and sizes the reference is on file
        total += REFERENCE_S if not case.input and (case.size or case.seed) else 0.0
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
