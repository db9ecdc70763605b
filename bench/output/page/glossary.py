"""Glossary: what each flag of a row means, in a sentence."""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.machine import noise

STOLEN, OTHERS = noise.NOISY["steal_pct"], noise.NOISY["foreign_cpu_pct"]
FLAGS = {
    "noisy": (
        f"More than {STOLEN:g} % of the CPU was stolen by other virtual machines, or {OTHERS:g} % used by others, "
        "during its turns."
    ),
    "uneven": (
        f"A fixed computation took {100 * noise.CONTROL_OFF:g} % more or less time than usual around more than a fifth "
        "of its Rounds."
    ),
    "rounds_spoilt": "Noise spoilt some of its Rounds; they are left out.",
    "every_round_spoilt": "Noise spoilt all of its Rounds; all are used, and nothing is decided from them.",
    "short_burn_in": "Fewer than 10 burn-in iterations were asked for.",
    "burn_in_cap": "Times were not steady when burn-in reached its cap.",
    "overhead": "The harness adds more than 0.1 % to an iteration.",
    "slowed_down": "Slowed down on purpose, with --ab slowdown.",
    "warming": "Within a Round it got faster.",
    "slowing": "Within a Round it got slower.",
    "block_time_cap": "A Round’s share was cut at 60 s.",
    "cut_off": "All there is of it is a Round that was cut off; nothing is decided from it.",
    "mixed_conditions": "Not every Round’s Worker was alike.",
    "gpu_power_cap": "The GPU held its clocks down to stay within its power.",
    "gpu_not_watched": "Nobody watched the GPU’s clocks: there is no NVML.",
    "loose_parity": "It was proven with images that are not free of ties, so with wider limits.",
    "not_proven": "A net that does not take our weights, so nobody knows that it computes the same.",
    "sync_not_checked": "A net without a fetch: whether its wait waits was not seen.",
    "above_ceiling": "Faster than the measured peak: a cleverer algorithm, or a machine that sped up.",
    "bf16_emulated": "The device has no bf16 of its own; an emulation was timed.",
    "unknown_precision": "The probe cannot tell in which precision it computes.",
    "other_frameworks": "Another framework was loaded in the same process.",
    "outside_libraries": "A library was loaded from outside its environment.",
}


def explain_flags(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The flags of these rows, each with its meaning, in the order above."""
    seen = {flag for row in rows for flag in row["flags"].split()}
    return [(flag, meaning) for flag, meaning in FLAGS.items() if flag in seen]
