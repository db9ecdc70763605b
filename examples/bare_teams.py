"""Compare a training step of a Team of two ranks with a plain script over the same engine, turn by turn.

    examples/bare_teams.py torch
    examples/bare_teams.py tensorflow

The plain script is what `torchrun` starts: torchvision's module in DistributedDataParallel with torch.optim.SGD; or a
Keras model under MultiWorkerMirroredStrategy with keras.optimizers.SGD. Every rank has one core. A turn of ours, one of
the script, one of the script, one of ours, and so on. Exit 1 if ours takes more than 1.02 of the time.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import click
import numpy as np

from bench.cases.case import Case
from bench.controller import parity
from bench.controller.devices import devices_here
from bench.controller.launch import environment
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import LOOPBACK, Team, addresses_of
from bench.stats.descriptive import Interval
from bench.worker.messages import CallFirst, Measure
from bench.worker.team_batches import TEAM_UNITS
from impls import FRAMEWORKS
from impls.net import Settings

MOST = 1.02
WORLD = 2
VARIANTS = {"torch": "owt", "tensorflow": "tutorial"}
HERE = Path(__file__).resolve().parent


@click.command()
@click.argument("framework", type=click.Choice(list(VARIANTS)))
@click.option("--batch", default=4, help="per rank")
@click.option("--turns", default=12, help="pairs of turns")
@click.option("--iterations", default=3, help="per turn, after one that does not count")
@click.option("--rank", "rank", default=None, hidden=True)
def main(framework: str, batch: int, turns: int, iterations: int, rank: str | None) -> None:
    if rank is not None:
        number, *addresses = rank.split(",")
        plain = {"torch": plain_torch, "tensorflow": plain_tensorflow}[framework]
        answer(plain(int(number), addresses, batch))
        return
    with tempfile.TemporaryDirectory() as scratch:
        team = ours(framework, batch, Path(scratch))
        script = [
            start(framework, batch, number, addresses)
            for addresses in [addresses_of([LOOPBACK] * WORLD)]
            for number in (0, 1)
        ]
        try:
            logs = compare(team, script, turns, iterations)
        finally:
            team.kill()
            for child in script:
                child.kill()
    ratio = Interval.of_logs(logs)
    ends = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low and ratio.high else ""
    what = f"{framework}, {VARIANTS[framework]}, {WORLD} ranks, batch {batch}"
    print(f"{what}: ours over the script {ratio.center:.3f}{ends}")
    sys.exit(ratio.center > MOST)


def ours(framework: str, batch: int, scratch: Path) -> Team:
    """A Team with its Net, called once."""
    record = FRAMEWORKS[framework]
    case = Case(
        *(VARIANTS[framework], framework, record.modes[0], "cpu", "fp32", record.layouts[0], batch, "train_step"),
        world=WORLD,
    )
    folder = scratch / "parity"
    parity.prepare(case.net, folder, batch=batch, units=TEAM_UNITS, labeled=True)
    team = WorkerSettings(1, 600.0, devices=devices_here(WORLD, on_gpu=False)).launch("team", case, scratch)
    assert isinstance(team, Team)
    team.wait_until_configured()
    team.ask(build_request(case, folder, passes=["train_step"]))
    team.ask(CallFirst("train_step"))
    return team


def start(framework: str, batch: int, number: int, addresses: tuple[str, ...]) -> "subprocess.Popen[str]":
    """A rank of the plain script, with the environment of ours."""
    env = environment(Settings("cpu", 1, "fp32"), {"GLOO_SOCKET_IFNAME": "lo"}, Path(tempfile.gettempdir()))
    words = [framework, "--batch", str(batch), "--rank", ",".join([str(number), *addresses])]
    return subprocess.Popen(
        [sys.executable, __file__, *words],
        env=env | {"PYTHONPATH": f"{HERE.parent}:{HERE}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, devices_here(WORLD, on_gpu=False)[number].cores),
    )


def compare(team: Team, script: list["subprocess.Popen[str]"], turns: int, iterations: int) -> list[float]:
    """ln(time of ours / time of the script) of each pair of turns."""
    logs = []
    for turn in range(turns + 1):
        seconds = {}
        for which in ("ours", "script") if turn % 2 else ("script", "ours"):
            if which == "ours":
                measured = team.ask(Measure("train_step", iterations + 1))
                seconds[which] = sum(measured.ns[1:]) / 1e9
            else:
                for child in script:
                    assert child.stdin
                    child.stdin.write(f"{iterations}\n")
                    child.stdin.flush()
                seconds[which] = fmean(json.loads(child.stdout.readline()) for child in script if child.stdout)
        if turn:  # the first pair is burn-in
            logs.append(math.log(seconds["ours"] / seconds["script"]))
    return logs


def answer(steps: Iterator[None]) -> None:
    """For each line of stdin run so many steps after one, and print their seconds."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        next(steps)
        began = time.perf_counter()
        for _ in range(int(line)):
            next(steps)
        out.write(json.dumps(time.perf_counter() - began) + "\n")
        out.flush()


def plain_torch(number: int, addresses: list[str], batch: int) -> Iterator[None]:
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    from torchvision_alexnet import AlexNet

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", init_method=f"tcp://{addresses[0]}", rank=number, world_size=len(addresses))
    module = AlexNet()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0  # ours has none
    model = DistributedDataParallel(module)
    optimizer = torch.optim.SGD(model.parameters(), 1e-10, momentum=0.9, weight_decay=5e-4)
    images, labels = torch.randn(batch, 3, 224, 224), torch.randint(1000, (batch,))
    while True:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        yield


def plain_tensorflow(number: int, addresses: list[str], batch: int) -> Iterator[None]:
    os.environ["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
    )
    import keras
    import tensorflow as tf
    from keras_alexnet import model_of

    tf.config.threading.set_intra_op_parallelism_threads(1)
    ring = tf.distribute.experimental.CommunicationImplementation.RING
    strategy = tf.distribute.MultiWorkerMirroredStrategy(
        communication_options=tf.distribute.experimental.CommunicationOptions(implementation=ring)
    )
    with strategy.scope():
        model = model_of(224, batch, "float32")
        optimizer = keras.optimizers.SGD(1e-10, momentum=0.9, weight_decay=5e-4)
        loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
    rng = np.random.default_rng(number)
    images = tf.constant(rng.standard_normal((batch, 224, 224, 3), np.float32))
    labels = tf.constant(rng.integers(1000, size=batch))

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True)) / (batch * WORLD)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )

    run = tf.function(lambda: strategy.run(step))
    while True:
        run()
        yield


if __name__ == "__main__":
    main()
