"""The columns of summary.csv: one record each, from which its dtypes, its documentation and headings follow.

A new column is one record here; ``make columns`` then writes its line in results/README.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from bench.cases.passes import ALL_REDUCE, APART, PASSES
from bench.cases.protocol import digest
from bench.record import ceiling, feeding, scaling
from bench.record.case_facts import CaseFacts
from bench.record.conditions import conditions_of, work
from bench.record.feeding import Feeding
from bench.record.flags import flags_of
from bench.record.scaling import Scaling, Slowest
from bench.stats.descriptive import Interval, Less, Summary
from bench.worker.replies import CheckKind
from impls.splits import DATA
from impls.variants import Variant

Row = Mapping[str, Any]
"""A row of a CSV by column name: unrounded, None for an empty cell."""
Rows = Mapping[str, Row]
"""Rows of summary.csv, by Case id."""
UNITS = {
    "images_per_s": "images/s",
    "gflop_per_s": "GFLOP/s",
    "gb_per_s": "GB/s",
    "_ms": "ms",
    "_us": "µs",
    "_ns": "ns",
    "_pct": "%",
    "_mib": "MiB",
    "_mb": "MB",
    "_mhz": "MHz",
    "_temp_c": "°C",
    "_watts": "W",
    "joules_per_image": "J",
}


@dataclass(frozen=True)
class CsvColumn:
    """A column of a CSV. Columns of the same ``help`` share a line of results/README.md."""

    name: str
    type: type[str | int | float | bool]
    """Of a cell that is not empty."""
    help: str

    @property
    def unit(self) -> str:
        """The unit that the name ends with; empty for text and dimensionless numbers."""
        return next((unit for ending, unit in UNITS.items() if self.name.endswith(ending)), "")


@dataclass(frozen=True)
class Column(CsvColumn):
    """A column of summary.csv: ``value`` computes a cell, None for an empty one."""

    value: Callable[[CaseFacts], Any]
    heading: str = ""

    @property
    def title(self) -> str:
        """The heading with its unit, for tables."""
        return f"{self.heading} {self.unit}".strip()


def _ms(ns: float | None) -> float | None:
    return None if ns is None else ns / 1e6


def _summary(value: Callable[[Summary], Any]) -> Callable[[CaseFacts], Any]:
    """A figure of the Summary; None if no sample counts."""
    return lambda facts: value(facts.summary) if facts.summary else None


def _summary_ms(value: Callable[[Summary], float | None]) -> Callable[[CaseFacts], Any]:
    return _summary(lambda summary: _ms(value(summary)))


def _difference_ms(name: str, value: Callable[[Less], float | None]) -> Callable[[CaseFacts], Any]:
    """A figure of the difference ``name``, in rows of its pass."""

    def figure(facts: CaseFacts) -> Any:
        timed = PASSES.get(facts.case.pass_)
        if not timed or not timed.difference or timed.difference.name != name or not facts.difference:
            return None
        return _ms(value(facts.difference))

    return figure


def _difference_columns(name: str, about: str) -> Iterator[Column]:
    yield Column(f"{name}_ms", float, about, _difference_ms(name, lambda each: each.mean_ns if each.resolved else None))
    yield Column(f"{name}_ci95_low_ms", float, about, _difference_ms(name, lambda each: each.low_ns))
    yield Column(f"{name}_ci95_high_ms", float, about, _difference_ms(name, lambda each: each.high_ns))


def _feeding_columns(
    name: str, about: str, value: Callable[[Feeding], Interval], resolved: Callable[[Feeding], bool] = lambda fed: True
) -> Iterator[Column]:
    """A share of a fed step with its interval; the center is empty unless ``resolved``."""

    def figure(end: Callable[[Interval], float | None]) -> Callable[[CaseFacts], Any]:
        def cell(facts: CaseFacts) -> Any:
            found = feeding.feeding_of(facts.run, facts.case)
            return end(value(found)) if found else None

        return cell

    def center(facts: CaseFacts) -> Any:
        found = feeding.feeding_of(facts.run, facts.case)
        return value(found).center if found and resolved(found) else None

    yield Column(name, float, about, center, name)
    yield Column(f"{name}_ci95_low", float, about, figure(lambda each: each.low))
    yield Column(f"{name}_ci95_high", float, about, figure(lambda each: each.high))


def _scaling_columns(
    name: str,
    about: str,
    value: Callable[[Scaling], Interval | None],
    resolved: Callable[[Scaling], bool] = lambda each: True,
) -> Iterator[Column]:
    """A figure of a Team's pass with its interval; the center is empty unless ``resolved``."""

    def figure(end: Callable[[Interval], float | None]) -> Callable[[CaseFacts], Any]:
        def cell(facts: CaseFacts) -> Any:
            found = scaling.scaling_of(facts.run, facts.case)
            interval = value(found) if found else None
            return end(interval) if interval else None

        return cell

    def center(facts: CaseFacts) -> Any:
        found = scaling.scaling_of(facts.run, facts.case)
        interval = value(found) if found and resolved(found) else None
        return interval.center if interval else None

    stem = name.removesuffix("_ms")
    unit = name.removeprefix(stem)
    yield Column(name, float, about, center, name.removesuffix("_ms").replace("_", " "))
    yield Column(f"{stem}_ci95_low{unit}", float, about, figure(lambda each: each.low))
    yield Column(f"{stem}_ci95_high{unit}", float, about, figure(lambda each: each.high))


def _images_per_s(facts: CaseFacts) -> float | None:
    return None if facts.case.pass_ == ALL_REDUCE.name else facts.per_ns(facts.case.images, 1e9)


def _sent_mb(facts: CaseFacts) -> float | None:
    sent = scaling.sent_bytes(facts.case)
    return None if sent is None else sent / 1e6


def _slowest(facts: CaseFacts) -> Slowest | None:
    return scaling.slowest_of(facts.run, facts.case) if facts.case.pass_ == APART.name else None


def _net(value: Callable[[Variant], Any]) -> Callable[[CaseFacts], Any]:
    """A fact of the net; None for another program's benchmark, whose net is unknown."""
    return lambda facts: None if facts.case.foreign else value(facts.case.net)


IDS = "the folder's name; the Case with every axis that is not at its default"
AXES = "the axes, and what they were run on"
CODE = "digest of bench and impls as they measured it; the commit is in run.jsonl"
DONE = "Rounds that count, Rounds that noise disturbed, valid samples of those that count, burn-in iterations of all"
SAMPLES = "over all valid samples; stddev has ddof 1 and is empty for one sample"
OUTLIERS = "samples beyond 1.5 and 3 interquartile ranges; counted, never dropped"
CENTER = "geometric mean of the Rounds' medians and its 95 % interval (Student's t over Rounds; empty below 3 Rounds)"
VARIATION = "relative standard deviation of samples inside Rounds (pooled) and of the Rounds' medians (of logarithms)"

BACKWARD = (
    "in rows of forward_backward: its median less forward's in the same Worker, mean over Rounds and its interval; "
    "backward_ms is empty if the interval reaches 0"
)
UPDATE = (
    "in rows of train_step: its median less forward_backward's, in the same way; with the difference of their losses"
)
FLAGS = "what else a reader must know; the flags are explained below"
NOISE = (
    "CPU time stolen by the hypervisor, used by others, lost to a CPU quota, under pressure during the Case's own turns"
)
GPU = (
    "while the Case's own passes ran, sampled every 5 ms, and at the ends of its turns: lowest and highest clock, "
    "highest temperature, mean power; empty without extra `gpu`"
)
ENERGY = (
    "by NVML's counter over a second of the pass alone, after the burn-in of the first Round, idle power included; "
    "empty of a Team, and where the card does not count"
)
ON_DEVICE = (
    "after burn-in, by the device's event timer, each pass enqueued before the device begins it: what the device "
    "takes, and what the host takes to enqueue it; medians. Empty on a CPU, in JAX and TensorFlow, which have no such "
    "timer, of a Team, and of a pass that waits for the device itself"
)
L2 = (
    "warm if all that the pass holds, as counted from the layers, fits in the device's L2 cache, else cold; empty "
    "where its size is not known, and of a user's net"
)
HASHES = "equal only for rows with equal work, conditions or protocol"
SPEEDS = "batch, of all devices, over center_ms; algorithmic FLOP (2 per MAC, counted from the layers) over center_ms"
CEILINGS = "best rates of the device in this Run, in the row's precision and with its threads"
FIRST_CALL = "the first call (tracing, compiling, tuning) in the first Round, nothing compiled before; not a sample"
LATER_CALL = "the same in later Rounds, median, with the compiled code of earlier Rounds"
PEAK_MEMORY = "most that the device's allocator held in this pass (in JAX: so far); empty on a CPU"
PEAK_RSS = "most memory that the Worker's process held in this pass, less what importing its framework took"
NET = (
    "of the net: a hash of its layers and size; MACs of one image's forward pass; of a user's net that is not proven, "
    "params are what its framework counts, and MACs are not known"
)
PARITY = "relative L2 error against float64, worst array of its Workers and readings, in the row's precision"
READINGS = "timed iterations of which the values were read: compared with float64, or only required to be finite"
PROBED = "what a probe found them to run in: fp32, tf32, bf16 or unknown"
OVERHEAD = "added to an iteration by the harness: median and 99th percentile of 1,000 that do nothing; never subtracted"
INPUT = "what a user's model takes instead of images: random values of this shape, or own (its `inputs`); then no size"
USERS_NET = "whose net it is: the name of a user's own (`--net`), empty for ours"
STEADY_AT = "per Round, the burn-in iteration after which times were steady; - if not by the cap, or not checked"
WITHIN = "stddev of samples about their own Round's mean, pooled over Rounds"
TREND = "warming, slowing, steady or unresolved, from a 99 % interval over Rounds"
CACHE = "of a mode that compiles, per Round: cold, or warm if the cache had files"
STOP_REASON = "planned, target (`--target-ci`), max_rounds, time_cap, interrupted, failed"
PEAK = "gflop_per_s over ceiling_gflop_per_s; not clamped"
CEILING = "the larger of matmul_gflop_per_s and conv_gflop_per_s"
ONEDNN = "True or False if the framework has it, else empty"
CORES_USED = "CPU seconds of the Worker's process per second of its turns"
LOADER = (
    "of a loader: its worker threads or processes; largest error of its pixels against float64, in steps of 255; "
    "median time from its start to its first batch; CPU time per image of its samples, worker processes included"
)
STALL = (
    "in rows of fed: share of the time in which the step waits for its loader, 1 - train_step / fed, and its interval "
    "over Rounds; below 0 where fed was faster"
)
HIDDEN = (
    "in rows of fed: (load + train_step - fed) / the shorter of the two, 0 if one follows the other, 1 if the shorter "
    "costs nothing, and its interval over Rounds; empty if that is wider than from 0 to 1"
)
WORLD = "devices that compute one iteration together, each a batch of its own"
SHARED = "of a Team whose devices have parts of the net: towers or hybrid (`--split`)"
SENT = (
    "of a Team: what each device sends per iteration, counted from the layers with values of float32; empty for a "
    "shared net in bf16, in TensorFlow, and in JAX on more than 2, which send more"
)
EFFICIENCY = (
    "of a Team: time on one device of this Run over that on all, of the same images, and its interval over Rounds; "
    "empty where devices share a core"
)
SPLIT = (
    "in rows of forward_backward of a Team: one device over apart (interference), apart over this row (communication); "
    "their product is the efficiency"
)
EXPOSED = (
    "in rows of forward_backward of a Team: its time less that of apart, and 1 - that / all_reduce, with intervals; "
    "empty where not resolved; hidden_communication is below 0 where the reduction costs more inside than alone"
)
BUS = (
    "in rows of all_reduce: 2 (world - 1) / world times the bytes of all gradients over center_ms, as nccl-tests has it"
)
SLOWEST = (
    "in rows of apart: the rank that is slowest without reduction, and its mean time over that of all ranks, less 1"
)
VALID = "True, or False and why"


def _on_device(name: str) -> Callable[[CaseFacts], float | None]:
    return lambda facts: getattr(facts.on_device, name) / 1e6 if facts.on_device else None


COLUMNS: Sequence[Column] = (
    Column("run_id", str, IDS, lambda facts: facts.run.head.run_id),
    Column("case_id", str, IDS, lambda facts: facts.case.id),
    Column("variant", str, AXES, lambda facts: facts.case.variant),
    Column("framework", str, AXES, lambda facts: facts.case.framework),
    Column("framework_version", str, AXES, lambda facts: facts.versions.get(facts.case.framework)),
    Column("code", str, CODE, lambda facts: facts.run.head.fingerprint.code),
    Column("mode", str, AXES, lambda facts: facts.case.mode),
    Column("device", str, AXES, lambda facts: facts.case.device),
    Column("device_name", str, AXES, lambda facts: facts.device_name),
    Column("precision", str, AXES, lambda facts: facts.case.precision),
    Column("layout", str, AXES, lambda facts: facts.case.layout),
    Column("lrn", str, AXES, lambda facts: facts.case.lrn),
    Column("preset", str, AXES, lambda facts: facts.case.preset),
    Column("net", str, USERS_NET, lambda facts: facts.case.users_net),
    Column("batch", int, AXES, lambda facts: facts.case.batch or None),
    Column("pass", str, AXES, lambda facts: facts.case.pass_),
    Column("threads", int, AXES, lambda facts: facts.threads),
    Column("size", int, AXES, lambda facts: None if facts.case.input else facts.case.net.input_size or None),
    Column("input", str, INPUT, lambda facts: facts.case.input),
    Column("world", int, WORLD, lambda facts: facts.case.world),
    Column("split", str, SHARED, lambda facts: None if facts.case.split == DATA else facts.case.split),
    Column("loader", int, LOADER, lambda facts: facts.case.loader),
    Column("rounds", int, DONE, lambda facts: len(facts.run.samples_by_round(facts.case)), "Rounds"),
    Column(
        *("rounds_disturbed", int, DONE),
        lambda facts: sum(group == facts.run.group_of[facts.case.id] for group, _ in facts.run.disturbed),
        "disturbed",
    ),
    Column("iterations", int, DONE, lambda facts: facts.summary.n if facts.summary else 0),
    Column("burn_in", int, DONE, lambda facts: sum(len(event.ns) for event in facts.burn_in)),
    Column(
        *("steady_at", str, STEADY_AT),
        lambda facts: " ".join("-" if event.steady_at is None else str(event.steady_at) for event in facts.burn_in),
    ),
    Column("arm", str, "A or B, the side of an `--ab`; else empty", lambda facts: facts.case.arm),
    Column("mean_ms", float, SAMPLES, _summary_ms(lambda summary: summary.mean_ns)),
    Column("stddev_ms", float, SAMPLES, _summary_ms(lambda summary: summary.stddev_ns)),
    Column("median_ms", float, SAMPLES, _summary_ms(lambda summary: summary.median_ns), "median"),
    Column("min_ms", float, SAMPLES, _summary_ms(lambda summary: summary.min_ns)),
    Column("q1_ms", float, SAMPLES, _summary_ms(lambda summary: summary.q1_ns)),
    Column("q3_ms", float, SAMPLES, _summary_ms(lambda summary: summary.q3_ns)),
    Column("p95_ms", float, SAMPLES, _summary_ms(lambda summary: summary.p95_ns), "p95"),
    Column("max_ms", float, SAMPLES, _summary_ms(lambda summary: summary.max_ns)),
    Column("outliers_mild", int, OUTLIERS, _summary(lambda summary: summary.outliers_mild)),
    Column("outliers_severe", int, OUTLIERS, _summary(lambda summary: summary.outliers_severe)),
    Column("center_ms", float, CENTER, _summary_ms(lambda summary: summary.center.center)),
    Column("ci95_low_ms", float, CENTER, _summary_ms(lambda summary: summary.center.low)),
    Column("ci95_high_ms", float, CENTER, _summary_ms(lambda summary: summary.center.high)),
    Column("stddev_within_ms", float, WITHIN, _summary_ms(lambda summary: summary.stddev_within_ns)),
    Column("cv_within", float, VARIATION, _summary(lambda summary: summary.cv_within), "CV within Rounds"),
    Column("cv_between", float, VARIATION, _summary(lambda summary: summary.cv_between), "CV between Rounds"),
    Column("trend", str, TREND, _summary(lambda summary: summary.trend), "trend"),
    *_difference_columns("backward", BACKWARD),
    *_difference_columns("update", UPDATE),
    Column(
        *("pixel_error", float, LOADER),
        lambda facts: feeding.pixel_error(facts.run, facts.case),
        "pixels off by (of 255)",
    ),
    Column(
        *("first_batch_ms", float, LOADER), lambda facts: feeding.first_batch_ms(facts.run, facts.case), "first batch"
    ),
    Column(*("cpu_ms_per_image", float, LOADER), lambda facts: feeding.cpu_ms_per_image(facts.run, facts.case), "CPU"),
    *_feeding_columns("stall", STALL, lambda fed: fed.stall),
    *_feeding_columns("hidden", HIDDEN, lambda fed: fed.hidden, lambda fed: fed.hidden_resolved),
    *_scaling_columns("efficiency", EFFICIENCY, lambda each: each.efficiency),
    *_scaling_columns("interference", SPLIT, lambda each: each.interference),
    *_scaling_columns("communication", SPLIT, lambda each: each.communication),
    *_scaling_columns("exposed_ms", EXPOSED, lambda each: each.exposed_ms, lambda each: each.exposed_resolved),
    *_scaling_columns("hidden_communication", EXPOSED, lambda each: each.hidden, lambda each: each.hidden_resolved),
    Column("sent_mb", float, SENT, _sent_mb),
    Column("bus_gb_per_s", float, BUS, lambda facts: scaling.bus_gb_per_s(facts.run, facts.case)),
    Column("slowest_rank", int, SLOWEST, lambda facts: slowest.rank if (slowest := _slowest(facts)) else None),
    Column("slowest_behind", float, SLOWEST, lambda facts: slowest.behind if (slowest := _slowest(facts)) else None),
    Column("flags", str, FLAGS, lambda facts: " ".join(flags_of(facts)), "flags"),
    Column("steal_pct", float, NOISE, lambda facts: facts.noise.get("steal_pct"), "stolen"),
    Column("foreign_cpu_pct", float, NOISE, lambda facts: facts.noise.get("foreign_cpu_pct"), "used by others"),
    Column("quota_pct", float, NOISE, lambda facts: facts.noise.get("quota_pct"), "lost to the quota"),
    Column("psi_some_pct", float, NOISE, lambda facts: facts.noise.get("psi_some_pct"), "under pressure"),
    Column("gpu_mhz", float, GPU, lambda facts: facts.gpu("sm_mhz", min), "lowest GPU clock"),
    Column("gpu_mhz_high", float, GPU, lambda facts: facts.gpu("sm_mhz_high", max), "highest GPU clock"),
    Column("gpu_temp_c", float, GPU, lambda facts: facts.gpu("temp_c", max), "highest GPU temperature"),
    Column("gpu_watts", float, GPU, lambda facts: facts.gpu("watts", fmean), "mean GPU power"),
    Column("joules_per_image", float, ENERGY, lambda facts: facts.joules_per_image, "energy per image"),
    Column("device_ms", float, ON_DEVICE, _on_device("device_ns"), "on the device"),
    Column("launch_ms", float, ON_DEVICE, _on_device("launch_ns"), "to enqueue"),
    Column("l2", str, L2, lambda facts: facts.l2, "L2 cache"),
    Column("work_hash", str, HASHES, lambda facts: digest(work(facts.case))),
    Column("conditions_hash", str, HASHES, lambda facts: digest(asdict(conditions_of(facts.run, facts.case)))),
    Column("protocol_hash", str, HASHES, lambda facts: facts.run.protocol.hash),
    Column("images_per_s", float, SPEEDS, _images_per_s),
    Column(
        "gflop_per_s",
        float,
        SPEEDS,
        lambda facts: (facts.macs or None) and facts.per_ns(2 * facts.macs * facts.case.images),
    ),
    Column(
        *("peak_fraction", float, PEAK),
        lambda facts: ceiling.peak_fraction(facts.run, facts.case, facts.summary) if facts.summary else None,
        "of peak",
    ),
    Column("ceiling_gflop_per_s", float, CEILING, lambda facts: facts.ceiling.gflop_per_s),
    Column("matmul_gflop_per_s", float, CEILINGS, lambda facts: facts.ceiling.matmul_gflop_per_s),
    Column("conv_gflop_per_s", float, CEILINGS, lambda facts: facts.ceiling.conv_gflop_per_s),
    Column("copy_gb_per_s", float, CEILINGS, lambda facts: facts.ceiling.copy_gb_per_s),
    Column("first_call_ms", float, FIRST_CALL, lambda facts: facts.first_call_ms, "first call"),
    Column("first_call_warm_ms", float, LATER_CALL, lambda facts: facts.first_call_warm_ms, "first call, later Rounds"),
    Column("compile_cache", str, CACHE, lambda facts: facts.compile_cache, "compile cache"),
    Column("peak_memory_mib", float, PEAK_MEMORY, lambda facts: facts.most_mib("allocator_peak"), "device memory"),
    Column("peak_rss_mib", float, PEAK_RSS, lambda facts: facts.most_mib("process_peak"), "process memory"),
    Column("variant_hash", str, NET, _net(lambda net: net.hash)),
    Column("params", int, NET, lambda facts: facts.params),
    Column("macs", int, NET, lambda facts: None if facts.macs is None else facts.case.net.macs),
    Column("readings", int, READINGS, lambda facts: len(facts.readings), "iterations read"),
    Column("parity_logits", float, PARITY, lambda facts: facts.worst_parity(CheckKind.LOGITS)),
    Column("parity_loss", float, PARITY, lambda facts: facts.worst_parity(CheckKind.LOSS)),
    Column("parity_gradients", float, PARITY, lambda facts: facts.worst_parity(CheckKind.GRADIENT)),
    Column("parity_change", float, PARITY, lambda facts: facts.worst_parity(CheckKind.CHANGE)),
    Column("parity_velocity", float, PARITY, lambda facts: facts.worst_parity(CheckKind.VELOCITY)),
    Column("precision_matmul", str, PROBED, lambda facts: facts.probed("matmul")),
    Column("precision_conv", str, PROBED, lambda facts: facts.probed("conv")),
    Column("onednn", bool, ONEDNN, lambda facts: facts.worker and facts.worker.conditions.onednn),
    Column("cores_used", float, CORES_USED, lambda facts: facts.cores_used, "cores used"),
    Column("overhead_us", float, OVERHEAD, lambda facts: facts.most_us("overhead_ns"), "harness adds"),
    Column("overhead_p99_us", float, OVERHEAD, lambda facts: facts.most_us("overhead_p99_ns")),
    Column("stop_reason", str, STOP_REASON, lambda facts: facts.stop_reason),
    Column("valid", bool, VALID, lambda facts: not facts.invalid_reason),
    Column("invalid_reason", str, VALID, lambda facts: facts.invalid_reason),
)
BY_NAME = {column.name: column for column in COLUMNS}


def names(columns: Sequence[CsvColumn]) -> list[str]:
    return [column.name for column in columns]
