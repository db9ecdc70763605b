"""Compare the speed of our nets with that of their peers, turn by turn in one Run: examples/peers.py [PLAN...]

Three Runs: torch's owt and torchvision's module; TensorFlow's tutorial, the article's program and a Keras model;
torch's tutorial with both forms of LRN and without LRN. About half an hour on 2 cores. The plan ``train`` has
two Runs of training steps: ours and torchvision's module with torch.optim.SGD; ours and a Keras model in a custom loop.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench import UsageError
from bench.cases.case import Case
from bench.commands.cli import parse_words
from bench.commands.plan import plan_run
from bench.commands.results import measure
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
    "train-torch": [
        *("--variant", "owt", "--framework", "torch", "--pass", "train_step"),
        *("--net", f"{HERE}/torchvision_alexnet.py:build"),
    ],
    "train-tensorflow": [
        *("--variant", "tutorial", "--framework", "tensorflow", "--pass", "train_step"),
        *("--net", f"{HERE}/keras_alexnet.py:build"),
    ],
    "gpu": [
        *("--variant", "owt", "--framework", "torch", "--device", "cuda", "--precision", "bf16"),
        *("--mode", "compile,cudagraphs", "--layout", "nchw,channels_last"),
        *("--net", f"{HERE}/torchvision_alexnet.py:build", "--batch", "128"),
    ],
}
#: Plans that are several Runs.
PARTS = {"train": ("train-torch", "train-tensorflow")}
DEFAULT_PLANS = ("torchvision", "tensorflow", "lrn")  # gpu needs a GPU
# owt, batch 128, fp16 on a Titan X: soumith/convnet-benchmarks, output_cudnn_fp16.log at 2888b23, 2016
RECORD_MS = 71.66
MOST_OF_CEILING = 2.5  # times as long as its multiply-adds take at the ceiling
MOST = 1.02  # of a peer's time, and the interval's lower end at most 1
MOST_OF_LRN = 0.5  # of the cost of the native LRN


def main(plans: list[str], options: list[str]) -> int:
    """Measure and judge these plans with more options of `run`; 0 if all targets are met, else 1."""
    lines = []
    judges = {"lrn": lrn_costs, "gpu": on_a_gpu}
    for name in [part for plan in plans or DEFAULT_PLANS for part in PARTS.get(plan, (plan,))]:
        run = measure_plan(f"peers-{name}", [*options, *PLANS[name]])
        run_table.run_table(run, within(run))
        lines += list(judges.get(name, over_peers)(run))
    print(*lines, sep="\n")
    return 0 if all(line.endswith(": met") for line in lines) else 1


def measure_plan(name: str, words: list[str]) -> Run:
    """The Run that `run` makes with these words on its command line."""
    request = parse_words("run", words)
    plan = plan_run(request)
    preflight(plan.cases, plan.settings)
    folder, reason = measure(plan, request.out, name)
    run = Run(folder)
    run.write()
    if reason == "interrupted":
        raise KeyboardInterrupt
    return run


def over_peers(run: Run) -> Iterator[str]:
    """Our time over each peer's, one line per peer; a peer that was not compared with ours is MISSED."""
    pairs = {pair.candidate: pair for pair in within(run)}
    ours = {case.id for case in run.cases if case.guest is None}
    for case in (case for case in run.cases if case.guest):
        pair = pairs.get(case.id)
        value = pair.ratio.value.inverse if pair and pair.ratio and pair.baseline in ours else None
        yield judge_target(
            f"{case.variant}, {case.framework} {case.mode}, {case.pass_}: ours over {case.guest}", value, MOST, 1.0
        )


def on_a_gpu(run: Run) -> Iterator[str]:
    """Our best mode compared with the peer's best, and with the ceiling."""
    rows = [row for row in run.rows() if row["valid"] and row["pass"] == "forward_backward"]
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


def lrn_costs(run: Run) -> Iterator[str]:
    """Cost of the fast LRN over the cost of the native: time with it less time without, Round by Round."""

    def medians(pass_: str, **axes: Any) -> dict[int, float]:
        def wanted(case: Case) -> bool:
            return case.pass_ == pass_ and all(getattr(case, name) == value for name, value in axes.items())

        return run.round_medians_ns(next(case for case in run.cases if wanted(case)))

    for pass_ in dict.fromkeys(case.pass_ for case in run.cases):
        native, fast = (medians(pass_, lrn=lrn, guest=None) for lrn in ("native", "fast"))
        without = medians(pass_, guest="without_lrn")
        rounds = sorted(native.keys() & fast.keys() & without.keys())
        costs = [(fast[round_] - without[round_], native[round_] - without[round_]) for round_ in rounds]
        what = f"tutorial, torch eager, {pass_}: cost of the fast LRN over the native LRN's"
        yield judge_target(what, ratio_of_means(costs), MOST_OF_LRN)


def ratio_of_means(pairs: list[tuple[float, float]]) -> Interval | None:
    """The mean of the first over the mean of the second of each Round's pair, either of which may be 0 or negative.

    The 95 % interval is the jackknife's, which leaves out each Round in turn. None below 3 Rounds.
    """
    count = len(pairs)
    if count < 3:
        return None
    tops, bottoms = (math.fsum(pair[side] for pair in pairs) for side in (0, 1))
    center = tops / bottoms
    left_out = [(tops - top) / (bottoms - bottom) for top, bottom in pairs]
    mean = math.fsum(left_out) / count
    half = t_quantile(0.975, count - 1) * math.sqrt(
        (count - 1) / count * math.fsum((value - mean) ** 2 for value in left_out)
    )
    return Interval(center, center - half, center + half)


def judge_target(what: str, value: Interval | None, most: float, reaches: float = math.inf) -> str:
    """The line of one target: met if the center is at most ``most`` and the lower end at most ``reaches``."""
    if value is None or value.low is None:
        return f"{what}: MISSED, no ratio from 3 or more Rounds"
    met = value.center <= most and value.low <= reaches
    return f"{what}: {interval_text(value)}, at most {most:g}: {'met' if met else 'MISSED'}"


@click.command()
@click.argument("plans", nargs=-1, type=click.Choice([*PLANS, *PARTS]))
@click.option("--rounds", default="10", show_default=True)
@click.option("--batch", default="8", show_default=True)
@click.option("--iterations", default="10", show_default=True)
@click.option("--out", default="results", show_default=True)
def command(plans: tuple[str, ...], **asked: str) -> None:
    """Time our nets and their peers in turn; exit 1 if a target is MISSED."""
    words = [word for name, value in asked.items() for word in (f"--{name}", value)]
    try:
        sys.exit(main(list(plans), words))
    except UsageError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    command()
