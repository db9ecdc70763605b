"""One rank of a Team in a process of its own: builds Nets one after another, calls their methods, saves what they give.

``python rank_program.py RANK.json``: the fields of ``Program``. The arrays of call number c of Net n are saved under
``n.c.NAME``, NAME as in ``answer``.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from training import SMALL

import impls
from bench.worker.checks import flat
from impls.net import Build, Rank, Settings, Sgd
from impls.splits import DATA
from impls.variants import Variant, variant_named
from impls.weights import initial


@dataclasses.dataclass(frozen=True)
class Script:
    """A Net and what is asked of it in turn; ``images`` is a file of its two batches, (2, batch, h, w, c), and
    ``labels`` the labels of each, (2, batch)."""

    variant: str
    size: int | None
    images: str
    labels: list[list[int]]
    calls: list[str]
    how: dict[str, Any] = dataclasses.field(default_factory=dict)
    lr: float = 0.01


@dataclasses.dataclass(frozen=True)
class Program:
    framework: str
    number: int
    addresses: list[str]
    scripts: list[Script]
    saved: str
    timeout_s: float = 120
    precision: str = "fp32"

    @property
    def built(self) -> Path:
        """There when the first Net is built."""
        return Path(self.saved).with_suffix(".built")


def named(name: str, size: int | None) -> Variant:
    return SMALL[name].resized(size) if name in SMALL else variant_named(name, size)


def answer(net: Any, call: str, lr: float) -> dict[str, Any]:
    """What one call gives, by name."""
    if call == "fill":
        return net.fill() or {}
    if call == "restart":
        return net.restart(Sgd(lr)) or {}
    if call == "state":
        return {f"{layer}.{name}": array for layer, its in net.state().items() for name, array in its.items()}
    if call == "facts":
        return {"facts": json.dumps([net.device(), net.layout(), net.traces(), net.peak_memory(), net.layers()])}
    handles = getattr(net, call)()
    net.wait(handles)
    first = {"first": net.fetch(handles)}
    if call == "forward":
        return first | {"logits": net.logits(handles)}
    if call == "all_reduce":
        return first | {"sums": net.reduced(handles)}
    if call == "train_step":
        trained = net.trained(handles)
        parameters, velocity = (
            {f"{kind}.{layer}.{name}": array for layer, its in arrays.items() for name, array in its.items()}
            for kind, arrays in (("parameter", trained.parameters), ("velocity", trained.velocity))
        )
        return first | {"loss": trained.loss} | parameters | velocity
    loss, gradients = (net.own_gradients if call == "apart" else net.gradients)(handles)
    return first | {"loss": loss} | flat(gradients)


def main(program: Program) -> None:
    record = impls.FRAMEWORKS[program.framework]
    adapter = impls.load(program.framework)
    rank = Rank(program.number, tuple(program.addresses), program.timeout_s)
    adapter.configure(Settings("cpu", 1, program.precision, rank=rank))
    saved: dict[str, Any] = {}
    for number, script in enumerate(program.scripts):
        variant, images = named(script.variant, script.size), np.load(script.images)
        usual = {"mode": record.modes[0], "layout": record.layouts[0], "precision": program.precision, "split": DATA}
        how = Build(images.shape[1], "cpu", **usual | script.how)
        net = adapter.build(variant, initial(variant), how)
        program.built.touch()
        net.load(list(images))
        net.label([np.array(labels, np.int32) for labels in script.labels])
        for place, call in enumerate(script.calls):
            for name, value in answer(net, call, script.lr).items():
                saved[f"{number}.{place}.{name}"] = np.array(value)
    np.savez(program.saved, **saved)


if __name__ == "__main__":
    fields = json.loads(Path(sys.argv[1]).read_text())
    main(Program(**fields | {"scripts": [Script(**script) for script in fields["scripts"]]}))
