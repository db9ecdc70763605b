"""Flags of a row: what a reader of its figures must know besides."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.cases.case import Case
from bench.cases.protocol import digest
from bench.machine import noise
from bench.record import ceiling
from bench.record.recording import Recording
from bench.stats import descriptive


def of(
    run: Recording,
    case: Case,
    turns: Sequence[Mapping],
    burn_in: Sequence[Mapping],
    summary: descriptive.Summary | None,
) -> Iterator[str]:
    around = [turn["noise"] for turn in turns]
    yield from ("noisy",) if set(noise.noisy(around)) & set(noise.NOISY) else ()
    if "gpu_power_cap" in noise.noisy(around):
        yield "gpu_power_cap"
    if case.device != "cpu" and not any(one.get("sm_mhz") for one in around):
        yield "gpu_not_watched"
    if run.uneven(case):
        yield "uneven"
    if run.spoilt_share(case) == 1:
        yield "every_round_spoilt"
    elif run.spoilt_share(case):
        yield "rounds_spoilt"
    if run.cut_off(case):
        yield "cut_off"
    if summary and summary.trend in ("warming", "slowing"):
        yield summary.trend
    if any(block["stop"] == "time_cap" for block in run.counted("block") if block["case_id"] == case.id):
        yield "block_time_cap"
    if run.protocol.burn_in < 10 and not case.foreign:  # nobody knows how another program burnt in
        yield "short_burn_in"
    if any(one["stop"] == "cap" for one in burn_in):
        yield "burn_in_cap"
    if any(not e["tie_free"] for e in run.of("parity") if case.id in e["case_ids"]):
        yield "loose_parity"
    if summary and (ceiling.share(run, case, summary) or 0) > 1:
        yield "above_ceiling"
    workers = run.workers(case)
    if case.foreign or not all(one["proven"] for one in workers):
        yield "not_proven"
    if any("fetch" in one["conditions"].get("filled", ()) for one in workers):
        yield "sync_not_checked"
    if case.precision == "bf16" and any(one["conditions"].get("bf16") is False for one in workers):
        yield "bf16_emulated"
    if len({digest(_of_a_worker(one)) for one in workers}) > 1:
        yield "mixed_conditions"
    if summary and any(one["overhead_ns"] > 1e-3 * summary.mean_ns for one in workers):
        yield "overhead"
    if any(one["spin_ns"] for one in burn_in):
        yield "slowed_down"
    if any(probed["precision"] == "unknown" for one in workers for probed in one["precision"].values()):
        yield "unknown_precision"
    if any(one["conditions"]["other_frameworks"] for one in workers):
        yield "other_frameworks"
    if not all(library["inside"] for one in workers for library in one["conditions"]["libraries"]):
        yield "outside_libraries"


def _of_a_worker(worker: Mapping[str, Any]) -> list[Any]:
    """What must be the same in every Round of a Case."""
    found = worker["conditions"]
    settings = [found.get(what) for what in ("threads", "onednn", "tf32", "libraries")]
    shown = {what: one["precision"] for what, one in worker["precision"].items()}
    return [worker["versions"], worker["python"], worker["identity"].get("hash"), settings, shown]
