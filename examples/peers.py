"""Are our nets as fast as anyone's? Ours beside each peer's, turn by turn in one Run: python examples/peers.py

Three Runs: torch's owt beside torchvision's module; TensorFlow's tutorial beside the article's program and a Keras
model; torch's tutorial with both forms of LRN beside the same net without it. About half an hour on 2 cores.
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bench import cli, options, run, screen
from bench.case import PASSES, Case
from bench.crew import preflight
from bench.pairs import within
from bench.results import Run
from bench.stats import Interval

HERE = Path(__file__).resolve().parent
PLANS: dict[str, dict[str, Any]] = {
    "torchvision": {"variant": "owt", "framework": "torch", "net": ("torchvision_alexnet.py:build",)},
    "tensorflow": {
        "variant": "tutorial",
        "framework": "tensorflow",
        "net": ("article.py:build", "keras_alexnet.py:build"),
    },
    "lrn": {"variant": "tutorial", "framework": "torch", "lrn": "native,fast", "net": ("without_lrn.py:build",)},
}
MOST = 1.02  # of a peer's time, with the interval's lower end at or below 1
MOST_OF_LRN = 0.5  # of what the native LRN costs


def main(plans: list[str], rounds: str, batch: str, iterations: str) -> int:
    lines = []
    for name in plans or PLANS:
        changes = PLANS[name] | {"rounds": rounds, "batch": batch, "iterations": iterations}
        changes["net"] = tuple(str(HERE / net) for net in changes["net"])
        made = measured(f"peers-{name}", changes)
        screen.run_table(made, within(made))
        lines += list(lrn_costs(made) if name == "lrn" else over_peers(made))
    print(*lines, sep="\n")
    return 0 if all("MISSED" not in line for line in lines) else 1


def measured(name: str, changes: dict[str, Any]) -> Run:
    """A Run as `run` makes it, with these options."""
    context = click.Context(cli.run)
    usual = {one.name: one.get_default(context) for one in cli.run.params if one.name}
    asked = usual | {"net": (), "python": (), "env": ()} | changes
    protocol, cases, conditions = options.protocol(asked), options.cases(asked), options.conditions(asked)
    preflight(cases, conditions)
    folder, reason = run.measure(cases, protocol, conditions, Path(asked["out"]), name)
    made = Run(folder)
    made.write()
    if reason == "interrupted":
        raise KeyboardInterrupt
    return made


def over_peers(made: Run) -> Iterator[str]:
    """Our time over each peer's."""
    cases = {case.id: case for case in made.cases}
    for pair in within(made):
        case = cases[pair.candidate]
        if case.guest:
            what = f"{case.variant}, {case.framework} {case.mode}, {case.pass_}: ours over {case.guest}"
            yield judged(what, pair.ratio.value.inverse if pair.ratio else None, MOST, reaches_one=True)


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
        known = [math.log(ours / theirs) for ours, theirs in costs if ours > 0 and theirs > 0]
        value = Interval.of_logs(known) if known else None
        what = f"tutorial, torch eager, {pass_}: cost of the fast LRN over the native one's"
        yield judged(what, value, MOST_OF_LRN, reaches_one=False)


def judged(what: str, value: Interval | None, most: float, *, reaches_one: bool) -> str:
    if value is None:
        return f"{what}: MISSED, not measured"
    met = value.center <= most and not (reaches_one and value.low is not None and value.low > 1)
    return f"{what}: {screen.bracketed(value)}, at most {most:g}: {'met' if met else 'MISSED'}"


@click.command()
@click.argument("plans", nargs=-1, type=click.Choice(list(PLANS)))
@click.option("--rounds", default="10", show_default=True)
@click.option("--batch", default="8", show_default=True)
@click.option("--iterations", default="10", show_default=True)
def command(plans: tuple[str, ...], **asked: str) -> None:
    """Time our nets beside their peers' and say whether they are as fast; exit 1 where one is not."""
    sys.exit(main(list(plans), **asked))


if __name__ == "__main__":
    command()
