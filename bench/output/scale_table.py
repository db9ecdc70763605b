"""Table of a projection: a pass on more devices, by link, next to what was measured; and what it leaves out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.cases.case import Case
from bench.cases.passes import pass_title
from bench.output.console import number, percent
from bench.output.feeding_table import share
from bench.output.labels import counted, label_of
from bench.output.tables import Cell, Column, Table, fraction, measured, plain
from bench.record.scaling import Scaling
from bench.stats import projection
from bench.stats.links import Link
from bench.stats.projection import Dense, Projected, Step

COLUMNS = (
    Column("link"),
    Column("devices", numeric=True),
    Column("images/s", numeric=True),
    Column("efficiency", numeric=True),
    Column("without overlap", numeric=True, narrow=True),
    Column("all-reduce ms", numeric=True, narrow=True),
    Column("exposed ms", numeric=True, narrow=True),
)
MEASURED = Column("measured [95 %]", numeric=True)
FORMULA = (
    "Projected: t(W) = t(1) + what is left of the reductions when the backward pass ends; a reduction takes "
    "2 (W - 1) / W times its bytes over the bus bandwidth, and its hops. Buckets and their order are those of torch's "
    "DistributedDataParallel; without overlap all is reduced after the backward pass, as XLA does for JAX on a CPU."
)
LEFT_OUT = (
    "Left out: the cores or SMs that a reduction takes, memory and power that devices share, slow devices, links that "
    "others use, and algorithms that change with the size. True figures are lower."
)
HOPS = (
    "Hops of trees: 5 us each are assumed, after 46 us on 16 GPUs (NVIDIA/nccl issue 1244) and 62 us on 128 (1469); "
    "--latency changes them."
)


@dataclass(frozen=True)
class Projection:
    """What is projected: a Case of one device over links, the teams that its Run measured of it, and why it is hard."""

    case: Case
    step: Step
    dense: Dense
    hiding_gb_per_s: float
    links: Sequence[Link]
    rows: Sequence[tuple[Link, Projected]]
    teams: Mapping[int, Scaling]
    own: str
    """Name of the link that ``teams`` were measured over."""

    def team(self, link: Link, world: int) -> Scaling | None:
        return self.teams.get(world) if link.name == self.own else None


def table(found: Projection) -> Table:
    """A line per link and number of devices."""
    with_measured = any(found.team(link, each.world) for link, each in found.rows)
    columns = (*COLUMNS, MEASURED) if with_measured else COLUMNS
    rows = []
    for link, each in found.rows:
        team = found.team(link, each.world)
        last = [share(team.efficiency) if team and team.efficiency else Cell("")] if with_measured else []
        rows.append([*_cells(link, each), *last])
    title = (
        f"{label_of(found.case)}, {pass_title(found.case.pass_)} of {found.case.variant}, {_batch(found)} per device"
    )
    return Table(f"Projected: {title}", columns, rows, grouped=True)


def _batch(found: Projection) -> str:
    return counted(found.step.images, "image")


def _cells(link: Link, each: Projected) -> list[Cell]:
    return [
        Cell(link.name),
        plain(each.world),
        measured(each.images_per_s),
        fraction(each.efficiency),
        fraction(each.plain_efficiency),
        measured(each.reduction_ms),
        measured(each.exposed_ms),
    ]


def notes(found: Projection) -> Iterator[str]:
    """What was measured, why the net is hard, how the rest follows, where the links are from, and what is left out."""
    step, dense = found.step, found.dense
    how = "by its measured passes" if step.measured else "by its multiply-adds"
    yield (
        f"One device, measured: {number(step.ms)} ms for {_batch(found)}; the backward pass is from "
        f"{number(step.begin_ms)} to {number(step.end_ms)} ms, {how}."
    )
    yield (
        f"{found.case.variant}: {percent(dense.bytes_share)} of the {number(dense.size / 1e6)} MB of its gradients are "
        f"of dense layers, {percent(1 - dense.macs_share)} of its multiply-adds are not: there is much to send and "
        f"little to compute meanwhile. Below {number(found.hiding_gb_per_s)} GB/s the reduction over many devices "
        "takes longer than this backward pass."
    )
    yield FORMULA
    for link in found.links:
        hops = f", {number(link.latency_us)} us per hop of a {link.hops}" if link.latency_us else ""
        about = "; ".join(filter(None, (link.what, link.source)))
        yield f"{link.name}: {number(link.gb_per_s)} GB/s{hops} ({link.known}{f': {about}' if about else ''})."
    if any(link.hops == "tree" for link in found.links):
        yield HOPS
    yield LEFT_OUT


def as_json(found: Projection) -> dict[str, Any]:
    """The same, unrounded."""
    return {
        "case_id": found.case.id,
        "step": asdict(found.step),
        "dense": asdict(found.dense),
        "hiding_gb_per_s": found.hiding_gb_per_s,
        "buckets": [asdict(bucket) for bucket in projection.buckets_of(found.case.net)],
        "links": [asdict(link) for link in found.links],
        "rows": [_row(found, link, each) for link, each in found.rows],
        "left_out": LEFT_OUT,
    }


def _row(found: Projection, link: Link, each: Projected) -> dict[str, Any]:
    team = found.team(link, each.world)
    return {
        "link": link.name,
        "devices": each.world,
        "ms": each.ms,
        "images_per_s": each.images_per_s,
        "efficiency": each.efficiency,
        "efficiency_without_overlap": each.plain_efficiency,
        "all_reduce_ms": each.reduction_ms,
        "exposed_ms": each.exposed_ms,
        "measured_efficiency": asdict(team.efficiency) if team and team.efficiency else None,
    }
