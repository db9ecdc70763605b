"""Flags of a row: warnings about its figures, each explained in a sentence."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.cases.protocol import digest
from bench.machine import noise
from bench.pictures import judge
from bench.record import ceiling, device_time, feeding, scaling
from bench.record.case_facts import CaseFacts
from bench.record.events import Block, Parity, Worker
from bench.record.reasons import BlockStop, BurnInStop
from impls import has_never_run

STOLEN, OTHERS, QUOTA = (noise.NOISY[name] for name in ("steal_pct", "foreign_cpu_pct", "quota_pct"))
CLOCK_VARIED = 1.1  # highest over lowest; a card that boosts stays within a few percent
FLAGS = {
    "noisy": (
        f"More than {STOLEN:g} % of the CPU was stolen by other virtual machines, {OTHERS:g} % used by others, or "
        f"{QUOTA:g} % lost to a CPU quota, during its turns."
    ),
    "unsteady_machine": (
        f"A fixed computation took {100 * noise.CONTROL_OFF:g} % more or less time than usual around more than a fifth "
        "of its Rounds."
    ),
    "rounds_disturbed": "Noise disturbed some of its Rounds; they are left out.",
    "every_round_disturbed": "Noise disturbed all of its Rounds; all are used, and nothing is decided from them.",
    "short_burn_in": "Fewer than 10 burn-in iterations were asked for in the first Round.",
    "burn_in_cap": "Times were not steady when burn-in reached its cap.",
    "overhead": "The harness adds more than 0.1 % to an iteration.",
    "slowed_down": "Slowed down on purpose, with --ab slowdown.",
    "warming": "Within a Round it got faster.",
    "slowing": "Within a Round it got slower.",
    "block_time_cap": "A Round’s share was cut at 60 s.",
    "cut_off": "Its only Round was cut off; nothing is decided from it.",
    "mixed_conditions": "Versions, settings or precision differ between its Rounds.",
    "gpu_power_cap": "The GPU lowered its clocks to stay within its power limit.",
    "gpu_not_watched": (
        "The device’s clocks were not monitored in all its turns: NVML, which reads NVIDIA’s only, is not available, "
        "or lost the card."
    ),
    "never_run": (
        "Nobody has sent a Run of this kind of device yet, so what is particular to it is untested: "
        "docs/adding.md says how to send one."
    ),
    "gpu_clock_varied": f"The GPU’s clock varied by more than {100 * CLOCK_VARIED - 100:.0f} % in its turns.",
    "launch_bound": (
        "The host takes longer to enqueue the pass than the device to compute it: on a faster GPU it takes as long."
    ),
    "device_timer_off": "The device’s event timer disagrees with the host’s clock; its times are left out.",
    "loose_parity": "It was proven with images that are not free of ties, so with wider limits.",
    "not_proven": (
        "A user’s net that does not take our weights, or another program’s benchmark: it may compute something else."
    ),
    "uncommitted": "Measured with uncommitted changes, which may differ from session to session.",
    "users_code": "A user’s file ran in the process that timed it, which it could have changed.",
    "sync_not_checked": "A net without a fetch: whether its wait waits was not checked.",
    "above_ceiling": (
        "Faster than the measured peak: an algorithm with fewer multiplications, or a machine that became faster."
    ),
    "bf16_emulated": "The device does not compute bf16 natively; an emulation was timed.",
    "unknown_precision": "The probe cannot tell in which precision it computes.",
    "other_frameworks": "Another framework was loaded in the same process.",
    "other_pixels": "Its loader’s pixels differ from float64 by more than rounding: it does less work.",
    "shared_core": "Several devices of the Run share a core, so that no efficiency is one.",
    "outside_libraries": "A library was loaded from outside its environment.",
}


def explain_flags(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The flags of these rows with their meanings, in the order of FLAGS."""
    seen = {flag for row in rows for flag in row["flags"].split()}
    return [(flag, meaning) for flag, meaning in FLAGS.items() if flag in seen]


def flags_of(facts: CaseFacts) -> Iterator[str]:
    """Yield the flags of a Case."""
    run, case, burn_in, summary, workers = facts.run, facts.case, facts.burn_in, facts.summary, facts.workers
    around = [turn.noise for turn in facts.turns]
    yield from ("noisy",) if set(noise.noise_flags(around)) & set(noise.NOISY) else ()
    if "gpu_power_cap" in noise.noise_flags(around):
        yield "gpu_power_cap"
    if case.device != "cpu" and around and not all(reading.sm_mhz for reading in around):
        yield "gpu_not_watched"
    if has_never_run(case.device, facts.versions):
        yield "never_run"
    slowest, fastest = facts.gpu("sm_mhz", min), facts.gpu("sm_mhz_high", max)
    if slowest and fastest and fastest > CLOCK_VARIED * slowest:
        yield "gpu_clock_varied"
    if facts.on_device and facts.on_device.launch_bound:
        yield "launch_bound"
    if device_time.timer_off(run, case):
        yield "device_timer_off"
    if run.unsteady_machine(case):
        yield "unsteady_machine"
    if run.disturbed_share(case) == 1:
        yield "every_round_disturbed"
    elif run.disturbed_share(case):
        yield "rounds_disturbed"
    if run.cut_off(case):
        yield "cut_off"
    if summary and summary.trend in ("warming", "slowing"):
        yield summary.trend
    if any(block.stop == BlockStop.TIME_CAP for block in run.of_case(Block, case)):
        yield "block_time_cap"
    if run.protocol.burn_in < 10 and not case.foreign:  # burn-in of another program is unknown
        yield "short_burn_in"
    if any(event.stop == BurnInStop.CAP for event in burn_in):
        yield "burn_in_cap"
    if any(not parity.tie_free for parity in run.events_of(Parity) if case.id in parity.case_ids):
        yield "loose_parity"
    if summary and (ceiling.peak_fraction(run, case, summary) or 0) > 1:
        yield "above_ceiling"
    if case.foreign or not all(worker.proven for worker in workers):
        yield "not_proven"
    if run.head.ingested and run.head.ingested.dirty:
        yield "uncommitted"
    if case.guest:
        yield "users_code"
    if any("fetch" in worker.conditions.filled for worker in workers):
        yield "sync_not_checked"
    if case.precision == "bf16" and any(worker.conditions.bf16 is False for worker in workers):
        yield "bf16_emulated"
    if len({digest(_lasting_facts(worker)) for worker in workers}) > 1:
        yield "mixed_conditions"
    if summary and any(worker.overhead_ns > 1e-3 * summary.mean_ns for worker in workers):
        yield "overhead"
    if any(event.spin_ns for event in burn_in):
        yield "slowed_down"
    if any("unknown" in worker.precision.shown.values() for worker in workers):
        yield "unknown_precision"
    if any(worker.conditions.other_frameworks for worker in workers):
        yield "other_frameworks"
    if (feeding.pixel_error(run, case) or 0) > judge.MOST:
        yield "other_pixels"
    if scaling.shares_cores(run):
        yield "shared_core"
    if not all(library.inside for worker in workers for library in worker.conditions.libraries):
        yield "outside_libraries"


def _lasting_facts(worker: Worker) -> list[object]:
    """Facts that must be equal in every Round of a Case."""
    conditions = worker.conditions
    settings = [conditions.threads, conditions.onednn, conditions.tf32, conditions.libraries]
    return [worker.versions, worker.python, worker.identity.hash, settings, worker.precision.shown]
