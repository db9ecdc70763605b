"""Rows of summary.csv: what a Run says of one Case, unrounded, from its events."""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from bench.cases.arm import Ab
from bench.cases.case import Case
from bench.cases.protocol import digest
from bench.machine import noise
from bench.record import ceiling, flags, validity
from bench.record.recording import Recording
from bench.stats import descriptive

IN_THE_CLOCK = {
    "forward": "inference mode to the logits, dropout off",
    "forward_backward": "training mode, loss 0.5 * sum(logits^2), every parameter's gradient, none for the images",
}

COLUMNS = (
    "run_id case_id variant framework framework_version mode device device_name precision layout lrn preset net batch "
    "pass threads size rounds rounds_spoilt iterations burn_in steady_at arm mean_ms stddev_ms median_ms min_ms q1_ms "
    "q3_ms p95_ms max_ms outliers_mild outliers_severe center_ms ci95_low_ms ci95_high_ms stddev_within_ms "
    "cv_within cv_between trend backward_ms backward_ci95_low_ms backward_ci95_high_ms flags steal_pct "
    "foreign_cpu_pct psi_some_pct gpu_mhz gpu_temp_c gpu_watts work_hash conditions_hash protocol_hash "
    "images_per_s gflop_per_s peak_fraction ceiling_gflop_per_s matmul_gflop_per_s conv_gflop_per_s copy_gb_per_s "
    "first_call_ms first_call_warm_ms compile_cache peak_memory_mib peak_rss_mib variant_hash params macs "
    "parity_logits parity_loss parity_gradients precision_matmul precision_conv onednn cores_used overhead_us "
    "overhead_p99_us stop_reason valid invalid_reason"
).split()


def row(run: Recording, case: Case) -> dict[str, Any]:
    """One row of summary.csv: unrounded, empty where there is nothing to say."""
    summary, reason = run.summary(case), validity.invalid_reason(run, case)
    workers = run.workers(case)
    worker = workers[0] if workers else {}
    turns = run.turns_of(case)
    burn_in = [e for e in run.counted("burn_in") if e["case_id"] == case.id]
    evidence = noise.percent([e["noise"] for e in turns]) if turns else {}
    versions = worker.get("versions", {})
    found, precision = worker.get("conditions", {}), worker.get("precision", {})
    shown = {what: precision[what]["precision"] for what in precision}
    net = case.net
    errors = {kind: max(one["parity"].get(kind, 0.0) for one in workers) for kind in worker.get("parity", ())}
    row = {
        "run_id": run.head["run_id"],
        "case_id": case.id,
        "variant": case.variant,
        "framework": case.framework,
        "framework_version": versions.get(case.framework),
        "mode": case.mode,
        "device": case.device,
        "device_name": versions.get("device_name") or run.head["fingerprint"]["cpu"],
        "precision": case.precision,
        "layout": case.layout,
        "lrn": case.lrn,
        "preset": case.preset,
        "net": case.guest,
        "batch": case.batch,
        "pass": case.pass_,
        "threads": found.get("threads") or case.threads or (None if case.foreign else run.head["threads"]),
        "size": net.input_size or None,
        "rounds": len(run.samples(case)),
        "rounds_spoilt": sum(number == run.group_of[case.id] for number, _ in run.spoilt),
        "iterations": summary.n if summary else 0,
        "burn_in": sum(len(e["ns"]) for e in burn_in),
        "steady_at": " ".join("-" if e["steady_at"] is None else str(e["steady_at"]) for e in burn_in),
        "arm": case.arm,
    }
    if summary:
        row |= {
            f"{name}_ms": _ms(getattr(summary, f"{name}_ns"))
            for name in ("mean", "stddev", "median", "min", "q1", "q3", "p95", "max", "stddev_within")
        }
        row |= {
            "center_ms": _ms(summary.center.center),
            "ci95_low_ms": _ms(summary.center.low),
            "ci95_high_ms": _ms(summary.center.high),
            "outliers_mild": summary.outliers_mild,
            "outliers_severe": summary.outliers_severe,
            "cv_within": summary.cv_within,
            "cv_between": summary.cv_between,
            "trend": summary.trend,
            "images_per_s": None if case.foreign else case.batch * 1e9 / summary.center.center,
            "gflop_per_s": None if case.foreign else 2 * case.macs * case.batch / summary.center.center,
        }
    if backward := derived_backward(run, case):
        row |= {
            "backward_ms": _ms(backward.mean_ns) if backward.resolved else None,
            "backward_ci95_low_ms": _ms(backward.low_ns),
            "backward_ci95_high_ms": _ms(backward.high_ns),
        }
    best = ceiling.ceiling_of(run, case)
    row |= {
        "flags": " ".join(flags.of(run, case, turns, burn_in, summary)),
        "steal_pct": evidence.get("steal_pct"),
        "foreign_cpu_pct": evidence.get("foreign_cpu_pct"),
        "psi_some_pct": evidence.get("psi_some_pct"),
        "gpu_mhz": min((one for turn in turns if (one := turn["noise"].get("sm_mhz"))), default=None),
        "gpu_temp_c": max((one for turn in turns if (one := turn["noise"].get("temp_c"))), default=None),
        "gpu_watts": fmean(watts) if (watts := [w for turn in turns if (w := turn["noise"].get("watts"))]) else None,
        "work_hash": digest(work(case)),
        "conditions_hash": digest(conditions(run, case)),
        "protocol_hash": run.protocol.hash,
        "peak_fraction": ceiling.share(run, case, summary) if summary else None,
        "ceiling_gflop_per_s": best.gflop_per_s,
        **dataclasses.asdict(best),
        **_first_calls(run, case),
        "peak_memory_mib": _most_mib(turns, "allocator_peak"),
        "peak_rss_mib": _most_mib(turns, "process_peak"),
        "variant_hash": None if case.foreign else net.hash,
        "params": None if case.foreign else net.params,
        "macs": None if case.foreign else net.macs,
        "parity_logits": errors.get("logits"),
        "parity_loss": errors.get("loss"),
        "parity_gradients": errors.get("gradient"),
        "precision_matmul": shown.get("matmul"),
        "precision_conv": shown.get("conv"),
        "onednn": found.get("onednn"),
        "cores_used": _cores_used(turns),
        "overhead_us": max((one["overhead_ns"] / 1e3 for one in workers), default=None),
        "overhead_p99_us": max((one["overhead_p99_ns"] / 1e3 for one in workers), default=None),
        "stop_reason": "failed" if reason not in ("", "not measured") else run.stop_reason(case),
        "valid": not reason,
        "invalid_reason": reason,
    }
    return {name: row.get(name) for name in COLUMNS}


def work(case: Case) -> dict[str, Any]:
    """What is inside the clock: equal for two rows, or they are not comparable."""
    net = case.net
    facts = dataclasses.asdict(case) | {"net": net.hash, "params": net.params, "macs": case.macs}
    for name in "framework mode layout lrn preset guest device threads variant size arm foreign".split():
        del facts[name]
    return facts | {"size": net.input_size, "clock": IN_THE_CLOCK.get(case.pass_)}


#: Of the fingerprint, what may decide how fast a pass is.
MACHINE = ("host", "cpu", "system", "usable_cores", "affinity", "governor", "gpu_driver")


def conditions(run: Recording, case: Case) -> dict[str, Any]:
    """Under what a Case was timed, field by field: equal for two rows, or the difference may be theirs."""
    print_, workers = run.head["fingerprint"], run.workers(case)
    worker = workers[0] if workers else {}
    found = worker.get("conditions", {})
    facts = {what: print_.get(what) for what in MACHINE}
    facts |= {what: found.get(what) for what in ("device", "threads", "onednn", "tf32", "layout", "libraries")}
    ab = run.head["ab"] and Ab(run.head["ab"]["key"], tuple(run.head["ab"]["values"]))
    slowed, theirs = ab and ab.slowdown(case.arm), (case.guest, case.arm)
    return facts | {
        "env": run.head["env"] | (ab.env(case.arm) if ab else {}),
        "slowdown": ab.value(case.arm) if slowed else None,
        "versions": worker.get("versions"),
        "python": print_.get("python") if case.foreign else worker.get("python"),
        "precision": {what: one["precision"] for what, one in worker.get("precision", {}).items()},
        "net": worker.get("identity", {}).get("hash"),
        "guest": next((one["sha256"] for one in run.head["guests"] if (one["label"], one["arm"]) == theirs), None),
    }


#: What a Protocol says that shapes a sample; how many Rounds there are, and when to stop, does not.
SHAPING = "name burn_in iterations paired gate gate_window gate_ratio burn_in_cap turn_ms turn_lengths".split()


def differing(base: Recording, candidate: Recording, case: Case, allow: Sequence[str] = ()) -> list[str]:
    """What a Case of two Runs was not alike in, a field each, beside those that are allowed."""
    sides = []
    for run in (base, candidate):
        protocol = dataclasses.asdict(run.protocol)
        if case.foreign:  # pytest-benchmark calibrates how many iterations a session has
            del protocol["iterations"]
        shaping = (name for name in SHAPING if name in protocol)
        sides.append(conditions(run, case) | {f"protocol {name}": protocol[name] for name in shaping})
    theirs, ours = sides
    return [
        f"{what}: {_short(ours[what])}, {_short(theirs[what])} in the baseline"
        for what in theirs
        if theirs[what] != ours[what] and what not in allow
    ]


def comparable() -> list[str]:
    """The fields that --allow may name."""
    found = "device threads onednn tf32 layout libraries env slowdown versions python precision net guest".split()
    return [*MACHINE, *found, *(f"protocol {name}" for name in SHAPING)]


def _short(value: Any) -> str:
    """A fact in a few words; a long one (the libraries) by its hash."""
    words = str(value) if not isinstance(value, dict) else " ".join(f"{name} {one}" for name, one in value.items())
    return words if len(words) <= 80 else f"(hash {digest(value)[:8]})"


def derived_backward(run: Recording, case: Case) -> descriptive.Backward | None:
    """forward_backward less forward in the same Worker, Round by Round: training mode's own share is in it."""
    forward = dataclasses.replace(case, pass_="forward")
    if case.pass_ != "forward_backward" or forward not in run.cases or validity.invalid_reason(run, forward):
        return None
    both = [run.round_medians_ns(one) for one in (forward, case)]
    rounds = sorted(both[0].keys() & both[1].keys())
    return descriptive.backward(*([medians[number] for number in rounds] for medians in both)) if rounds else None


def _first_calls(run: Recording, case: Case) -> dict[str, Any]:
    """The first call in Round 0, where nothing else runs; in later Rounds, where what was compiled may lie in the Run.
    ``compile_cache`` says Round by Round what was found there."""
    workers = [one for one in run.of("worker") if case.id in one["case_ids"] and case.pass_ in one["first_call_ns"]]
    cold = [one["first_call_ns"][case.pass_] for one in workers if not one["round"] and one["compile_cache"] != "warm"]
    warm = [one["first_call_ns"][case.pass_] for one in workers if one["round"] or one["compile_cache"] == "warm"]
    return {
        "first_call_ms": _ms(max(cold)) if cold else None,
        "first_call_warm_ms": _ms(median(warm)) if warm else None,
        "compile_cache": " ".join(one["compile_cache"] or "none" for one in workers) if case.compiled else None,
    }


def _most_mib(turns: Sequence[Mapping[str, Any]], what: str) -> float | None:
    return max((turn[what] / 2**20 for turn in turns if turn[what] is not None), default=None)


def _cores_used(turns: Sequence[Mapping[str, Any]]) -> float | None:
    """CPU seconds of the Worker's own process a second of its turns: what its threads really did."""
    wall = sum(turn["noise"]["wall_s"] for turn in turns)
    known = [turn["cpu_s"] for turn in turns if turn["cpu_s"] is not None]
    return sum(known) / wall if wall and known else None


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6
