"""Result of `verify` for a model and its port: a verdict, tables for the terminal, and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.controller.agreement import WIDEST, Point
from bench.controller.comparison import Comparison, LayerPoint
from bench.output import console
from bench.output.labels import counted
from impls.text import one_line

MOST_ROWS = 40  # of a table; --json has all
CLOSE = 5  # layers shown before the one that parts


def as_json(compared: Comparison) -> dict[str, Any]:
    return {
        "models": compared.labels,
        "equal": compared.equal,
        "verdict": verdict(compared),
        "pairs": [pair.line() for pair in compared.pairs],
        "varied": compared.varied,
        "outputs": [asdict(point) | {"ok": point.ok} for point in compared.outputs],
        "layers": [asdict(layer) for layer in compared.layers],
        "training": [asdict(point) | {"ok": point.ok} for point in compared.training],
        "gradients": [asdict(point) | {"ok": point.ok} for point in compared.gradients],
        "state": [asdict(point) | {"ok": point.ok} for point in compared.state],
        "undecided": compared.undecided,
        "left_out": compared.left_out,
    }


def verdict(compared: Comparison) -> str:
    """Whether the two agree; if not, where they part first, and what to do about it."""
    if compared.equal:
        kinds = [name for name, points in (("gradients", compared.gradients), ("state", compared.state)) if points]
        agreed = " and ".join([", ".join(["outputs", *kinds[:-1]]), *kinds[-1:]])
        lacking = [f"not compared: {why}" for why in compared.left_out if why.startswith("gradients")]
        return "; ".join([f"equal: {agreed} agree", *_undecided(compared), *lacking])
    if all(point.ok for point in compared.outputs):
        return f"DIFFERS in training mode: outputs agree, but {_trained(compared)}"
    before = ""
    for layer in compared.layers:
        name = f"{layer.first} = {layer.second}"
        if layer.input and not layer.input.ok:
            between = f"between {before} and {name}" if before else f"before {name}"
            return (
                f"DIFFERS {between}: {_off(layer.input)}; compare what has no parameters there: "
                "activation, pooling, padding, flatten, scaling"
            )
        if not layer.output.ok:
            return f"DIFFERS at {name}: " + (_order(compared, layer) or _inside(layer))
        before = name
    (worst, *_) = [point for point in compared.outputs if not point.ok]
    where = f"after {before}, the last layer compared" if before else "in its outputs"
    return f"DIFFERS {where}: {_off(worst)}" + (
        "; compare what follows, such as a softmax in one of them" if before else ""
    )


def _trained(compared: Comparison) -> str:
    """The first difference of a pass in training mode, and what to compare."""
    if compared.training:
        (first, *others) = compared.training
        return _off(first) + (f", and {len(others)} more such" if others else "")
    for point in compared.gradients:
        if not point.ok:
            return f"the gradient of {_off(point)}; compare what differs in training, such as BatchNorm"
    worst = next(point for point in compared.state if not point.ok)
    return (
        f"the pass's change of {_off(worst)}; compare the momentum of BatchNorm, where torch's 0.1 is 0.9 in Keras "
        "and flax"
    )


def _undecided(compared: Comparison) -> list[str]:
    """What rounding moves too much to be compared."""
    if not compared.undecided:
        return []
    what = f"{len(compared.undecided)} of {len(compared.pairs)} parameters, such as {compared.undecided[0]}"
    return [f"not decided: {what}, whose gradients or changes rounding may move by more than {WIDEST:.0%}"]


def _inside(layer: LayerPoint) -> str:
    agrees = "its input agrees, its " if layer.input else "it or its padding: its "
    return (
        f"{agrees}{_off(layer.output)}; compare its stride, padding, dilation, groups and epsilon, "
        "and that --map pairs its own parameters"
    )


def _order(compared: Comparison, layer: LayerPoint) -> str:
    """The trap of a flatten: the same inputs in another order, and weights that are still in the first's."""
    kernels = [pair for pair in compared.pairs if pair.first.layer == layer.first and len(pair.first.shape) == 2]
    if not layer.order or layer.carried or not kernels:
        return ""
    pair = kernels[0]
    mine, its = layer.order.grid, tuple(layer.order.grid[axis] for axis in layer.order.axes)
    return (
        f"its inputs are the same values in another order, flattened from {mine} in {compared.labels[0]} and "
        f"from {its} in {compared.labels[1]}, so its weight needs that order too; if your port loads it so, "
        "say so in --map: "
        f"{pair.first.name} = {pair.second.name} order={layer.order}"
    )


def _off(point: Point) -> str:
    if point.error is None:
        return f"{point.what}: {point.note}"
    return f"{point.what} is off by {point.error:.1e}, allowed {point.limit:.0e}"


def print_comparison(compared: Comparison) -> None:
    """The pairs, a table per kind, what was not compared, and the verdict."""
    first, second = compared.labels
    lines = [pair.line() for pair in compared.pairs]
    shown = lines if len(lines) <= MOST_ROWS else lines[:CLOSE]
    guessed = sum(not pair.mapped for pair in compared.pairs)
    how = f", {guessed} by order of creation and shape" if guessed else ", all from the map"
    console.say(f"{counted(len(lines), 'pair')} of parameters{how}: {first} = {second}")
    for line in shown:
        console.say(one_line(f"  {line}"))
    if len(shown) < len(lines):
        console.say(f"  ... and {len(lines) - len(shown)} more: --save-map FILE writes all")
    if compared.varied:
        constant = counted(compared.varied, "parameter")
        console.say(f"  {constant} of equal values, such as zeros, got random ones, the same in both models")
    out = console.console()
    title = "relative L2 error of layers, in the order of their calls"
    rows = [
        [layer.first, layer.second, _cell(layer.input, layer.order is not None), _cell(layer.output)]
        for layer in _near(compared)
    ]
    if rows:
        limit = compared.layers[0].output.limit
        table = console.new_table(f"{title} (≤ {limit:.0e})")
        for heading in (first, second, "input", "output"):
            table.add_column(one_line(heading), overflow="fold")
        for row in rows:
            table.add_row(*row)
        out.print(table)
        if len(rows) < len(compared.layers):
            console.say(f"  {len(compared.layers) - len(rows)} more layers: --json has all")
    table = console.new_table("relative L2 error")
    for heading in ("", "worst", "allowed", ""):
        table.add_column(heading, overflow="fold")
    for name, points in (
        ("outputs", compared.outputs),
        ("gradients", compared.gradients),
        ("state", compared.state),
    ):
        if points:
            worst = max(points, key=lambda point: float("inf") if point.error is None else point.error / point.limit)
            what = f"{name}: {worst.what}" if len(points) > 1 else name
            table.add_row(what, _cell(worst), f"{worst.limit:.0e}", "equal" if worst.ok else "DIFFERS")
    out.print(table)
    for point in compared.training[:MOST_ROWS]:
        console.say(one_line(f"training: {_off(point)}"))
    for why in _undecided(compared):
        console.say(one_line(why))
    for why in compared.left_out:
        console.say(one_line(f"not compared: {why}"))
    console.say(one_line(verdict(compared)))


def _near(compared: Comparison) -> Sequence[LayerPoint]:
    """All layers, or of many those near the first that parts."""
    layers = compared.layers
    if len(layers) <= MOST_ROWS:
        return layers
    parted = (i for i, layer in enumerate(layers) if not layer.output.ok or (layer.input and not layer.input.ok))
    begin = max(0, next(parted, 0) - CLOSE)
    return layers[begin : begin + 2 * CLOSE]


def _cell(point: Point | None, reordered: bool = False) -> str:
    if point is None:
        return "-"
    text = point.note if point.error is None else f"{point.error:.1e}"
    return text + ("" if point.ok else " DIFFERS") + (" in another order" if reordered else "")
