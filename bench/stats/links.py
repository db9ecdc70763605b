"""Links between devices: how long an all-reduce over one takes, and published ones."""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

FILE = "links.csv"
HOPS = ("ring", "tree")


@dataclass(frozen=True, slots=True)
class Link:
    """What joins the devices.

    gb_per_s : bus bandwidth of a large all-reduce as nccl-tests has it, GB/s (10^9 bytes)
    latency_us : time of one hop, whatever the bytes
    hops : how many of them follow each other in an all-reduce of W devices: 2 (W - 1) of a ``ring``, 2 log2 W of a
        ``tree``, as NCCL uses for small messages
    known : where the figures are from: published, assumed, measured in a Run, or given
    """

    name: str
    gb_per_s: float
    latency_us: float = 0.0
    hops: str = HOPS[0]
    known: str = "given"
    what: str = ""
    source: str = ""

    def wait_ms(self, world: int) -> float:
        """Time of the hops of one all-reduce, ms."""
        hops = 2 * math.log2(world) if self.hops == "tree" else 2 * (world - 1)
        return 1e-3 * self.latency_us * hops

    def reduction_ms(self, size: float, world: int) -> float:
        """Time to sum ``size`` bytes over ``world`` devices, ms: 2 (W - 1) / W times the bytes over the bus bandwidth,
        and the hops."""
        return 1e-6 * 2 * (world - 1) / world * size / self.gb_per_s + self.wait_ms(world)


def read_published() -> Mapping[str, Link]:
    """The links of the file, by name. Raises ValueError for one that is not as declared."""
    with resources.files("bench.stats").joinpath(FILE).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    links = {}
    for number, row in enumerate(rows, 1):
        texts = (row[name] for name in ("hops", "known", "what", "source"))
        link = Link(row["name"], float(row["gb_per_s"]), float(row["latency_us"]), *texts)
        if link.hops not in HOPS or link.known not in ("published", "assumed") or not (link.what and link.source):
            raise ValueError(f"{FILE}, row {number}: expected hops, what is known, what it is and its source: {row}")
        links[link.name] = link
    return links


PUBLISHED = read_published()
