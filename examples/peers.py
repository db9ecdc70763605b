"""Are our nets as fast as anyone's? Ours beside each peer's, turn by turn in one Run: examples/peers.py [PLAN...]

Three Runs: torch's owt beside torchvision's module; TensorFlow's tutorial beside the article's program and a Keras
model; torch's tutorial with both forms of LRN beside the same net without it. About half an hour on 2 cores.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench import UsageError
from bench.cases.case import Case
from bench.cases.passes import PASSES
from bench.commands.cli import parse_words
from bench.commands.plan import plan_run
from bench.controller import session
from bench.controller.pool import preflight
from bench.output import run_table
from bench.output.results_table import interval_text
from bench.record.pairs import within
from bench.record.run import Run
from bench.stats.descriptive import Interval, t_quantile

HERE = Path(__file__).resolve().parent
PLANS = {
    "torchvision": ["--variant", "owt", "--framework", "torch", "--net", f"{HERE}/torchvision_alexnet.py:build"],
    "tensorflow": [
        *("--variant", "tutorial", "--framework", "tensorflow"),
        *("--net", f"{HERE}/article.py:build", "--net", f"{HERE}/keras_alexnet.py:build"),
    ],
    "lrn": [
        *("--variant", "tutorial", "--framework", "torch", "--lrn", "native,fast"),
        *("--net", f"{HERE}/without_lrn.py:build"),
    ],
    "gpu": [
        *("--variant", "owt", "--framework", "torch", "--device", "cuda", "--precision", "bf16"),
        *("--mode", "compile,cudagraphs", "--layout", "nchw,channels_last"),
        *("--net", f"{HERE}/torchvision_alexnet.py:build", "--batch", "128"),
    ],
}
UNASKED = ("torchvision", "tensorflow", "lrn")  # the others need a GPU
# owt, batch 128, fp16 on a Titan X: soumith/convnet-benchmarks, output_cudnn_fp16.log at 2888b23, 2016
RECORD_MS = 71.66
MOST_OF_CEILING = 2.5  # times as long as its multiply-adds take at the ceiling
MOST = 1.02  # of a peer's time, with the interval's lower end at or below 1
MOST_OF_LRN = 0.5  # of what the native LRN costs


def main(plans: list[str], more: list[str]) -> int:
    lines = []
    judges = {"lrn": lrn_costs, "gpu": on_a_gpu}
    for name in plans or UNASKED:
        made = measured(f"peers-{name}", [*more, *PLANS[name]])
        run_table.run_table(made, within(made))
        lines += list(judges.get(name, over_peers)(made))
    print(*lines, sep="\n")
    return 0 if all(line.endswith(": met") for line in lines) else 1


def measured(name: str, words: list[str]) -> Run:
    """A Run as `run` makes it, with these words on its command line."""
    request = parse_words("run", words)
    plan = plan_run(request)
    preflight(plan.cases, plan.settings)
    folder, reason = session.measure(plan.cases, plan.protocol, plan.settings, request.out, name)
    made = Run(folder)
    made.write()
    if reason == "interrupted":
        raise KeyboardInterrupt
    return made


def over_peers(made: Run) -> Iterator[str]:
    """Our time over each peer's; one that was not measured beside ours is a miss too."""
    pairs = {pair.candidate: pair for pair in within(made)}
    ours = {case.id for case in made.cases if case.guest is None}
    for case in (case for case in made.cases if case.guest):
        pair = pairs.get(case.id)
        value = pair.ratio.value.inverse if pair and pair.ratio and pair.baseline in ours else None
        yield judged(
            f"{case.variant}, {case.framework} {case.mode}, {case.pass_}: ours over {case.guest}", value, MOST, 1.0
        )


def on_a_gpu(made: Run) -> Iterator[str]:
    """Our best mode over the peer's best, and over the ceiling."""
    rows = [row for row in made.rows() if row["valid"] and row["pass"] == "forward_backward"]
    ours, theirs = (
        min((row for row in rows if bool(row["net"]) == peer), key=_ms, default=None) for peer in (False, True)
    )
    what = "owt, batch 128, bf16, forward_backward"
    if ours is None or theirs is None or not ours["peak_fraction"]:
        yield f"{what}: MISSED, not measured"
        return
    fast = ours["center_ms"] <= theirs["center_ms"]
    multiple = 1 / ours["peak_fraction"]
    yield f"{what}: {_ms(ours):.3g} ms; the record of 2016 was {RECORD_MS:g} ms: met"
    yield f"{what}: over the peer's best, {ours['center_ms'] / theirs['center_ms']:.3f}: {'met' if fast else 'MISSED'}"
    within_reach = "met" if multiple <= MOST_OF_CEILING else "MISSED"
    yield f"{what}: {multiple:.2f} times the ceiling's time, at most {MOST_OF_CEILING:g}: {within_reach}"


def _ms(row: dict[str, Any]) -> float:
    return row["center_ms"]


def lrn_costs(made: Run) -> Iterator[str]:
    """What the fast LRN costs over what the native one does: time with it less time without, Round by Round."""

    def medians(pass_: str, **one: Any) -> dict[int, float]:
        def wanted(case: Case) -> bool:
            return case.pass_ == pass_ and all(getattr(case, name) == value for name, value in one.items())

        return made.round_medians_ns(next(case for case in made.cases if wanted(case)))

    for pass_ in PASSES:
        native, fast = (medians(pass_, lrn=lrn, guest=None) for lrn in ("native", "fast"))
        without = medians(pass_, guest="without_lrn")
        rounds = sorted(native.keys() & fast.keys() & without.keys())
        costs = [(fast[one] - without[one], native[one] - without[one]) for one in rounds]
        what = f"tutorial, torch eager, {pass_}: cost of the fast LRN over the native one's"
        yield judged(what, ratio_of_means(costs), MOST_OF_LRN)


def ratio_of_means(pairs: list[tuple[float, float]]) -> Interval | None:
    """Of two differences in each Round, one of which may be near 0 or below: the mean of the first over the mean of the
    second, with the interval that leaving out each Round in turn gives (jackknife). None below 3 Rounds."""
    count = len(pairs)
    if count < 3:
        return None
    tops, bottoms = (math.fsum(one[side] for one in pairs) for side in (0, 1))
    center = tops / bottoms
    left_out = [(tops - top) / (bottoms - bottom) for top, bottom in pairs]
    mean = math.fsum(left_out) / count
    half = t_quantile(0.975, count - 1) * math.sqrt(
        (count - 1) / count * math.fsum((one - mean) ** 2 for one in left_out)
    )
    return Interval(center, center - half, center + half)


def judged(what: str, value: Interval | None, most: float, reaches: float = math.inf) -> str:
    """``reaches``: what the interval's lower end may not lie above."""
    if value is None or value.low is None:
        return f"{what}: MISSED, not measured in 3 Rounds"
    met = value.center <= most and value.low <= reaches
    return f"{what}: {interval_text(value)}, at most {most:g}: {'met' if met else 'MISSED'}"


@click.command()
@click.argument("plans", nargs=-1, type=click.Choice(list(PLANS)))
@click.option("--rounds", default="10", show_default=True)
@click.option("--batch", default="8", show_default=True)
@click.option("--iterations", default="10", show_default=True)
@click.option("--out", default="results", show_default=True)
def command(plans: tuple[str, ...], **asked: str) -> None:
    """Time our nets beside their peers' and say whether they are as fast; exit 1 where one is not."""
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    try:
        sys.exit(main(list(plans), words))
    except UsageError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    command()
