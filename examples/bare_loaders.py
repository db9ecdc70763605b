"""Compare the images/s of a loader's slot with a bare loop over the same DataLoader or tf.data pipeline, turn by turn.

    examples/bare_loaders.py torch [FOLDER] [--workers 2]

One process and one loader: a turn of the harness, a bare loop, a bare loop, a turn of the harness, and so on. Without
FOLDER 600 drawn flowers are loaded. Exit 1 if a slot has less than 0.95 of the bare loop's images/s.
"""

import itertools
import json
import math
import sys
import tempfile
import time
from pathlib import Path

import click

import impls
from bench.pictures import flowers
from bench.pictures.listing import listed
from bench.stats.descriptive import Interval
from bench.worker.loaders import Loaders
from bench.worker.messages import MeasureLoader
from impls.loader import Feed
from impls.net import Settings
from impls.preprocessing import PREPROCESSINGS

LEAST = 0.95


@click.command()
@click.argument("framework", type=click.Choice(["torch", "tensorflow"]))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--workers", default=2)
@click.option("--batch", default=8)
@click.option("--turns", default=10, help="pairs of turns")
@click.option("--batches", default=24, help="per turn, after the lead")
def main(framework: str, folder: Path | None, workers: int, batch: int, turns: int, batches: int) -> None:
    impls.load(framework).configure(Settings("cpu", None, "fp32"))
    with tempfile.TemporaryDirectory() as scratch:
        if folder is None:
            flowers.draw(folder := Path(scratch, "flowers"))
        entries = listed(folder).entries
        listing = Path(scratch, "listing.json")
        paths = [str(entry.path.absolute()) for entry in entries]
        listing.write_text(json.dumps({"paths": paths, "labels": [0] * len(paths)}))
        feed = Feed(str(listing), PREPROCESSINGS["torchvision"], batch, workers)
        logs = compare(Loaders(framework), feed, turns, batches)
    ratio = Interval.of_logs(logs)
    text = (
        f"{ratio.center:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low and ratio.high else f"{ratio.center:.3f}"
    )
    print(f"{framework}, {workers} workers, batch {batch}: images/s of the slot over the bare loop {text}")
    sys.exit(ratio.center < LEAST)


def compare(loaders: Loaders, feed: Feed, turns: int, batches: int) -> list[float]:
    """ln(time of the bare loop / time of the slot) of each pair of turns."""
    request, logs = MeasureLoader(feed, batches), []
    for turn in range(turns):
        order = ("ours", "bare") if turn % 2 else ("bare", "ours")
        seconds = {}
        for which in order:
            if which == "ours":
                measured = loaders.measure(request, None)  # type: ignore[arg-type]
                seconds[which] = sum(measured.ns[measured.lead :]) / 1e9
            else:
                seconds[which] = bare(loaders, feed, batches)
        logs.append(math.log(seconds["bare"] / seconds["ours"]))
    return logs


def bare(loaders: Loaders, feed: Feed, batches: int) -> float:
    """Seconds of a loop without the harness, after the same lead."""
    iterator = iter(loaders.loader(feed).batches)  # type: ignore[attr-defined]
    for _ in itertools.islice(iterator, feed.lead + 1):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(iterator, batches):
        pass
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
