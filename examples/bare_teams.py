"""Compare a pass of a Team of two ranks with a plain script over the same engine, turn by turn.

    examples/bare_teams.py torch
    examples/bare_teams.py tensorflow --pass forward_backward
    examples/bare_teams.py alone

The plain script is what `torchrun` starts: torchvision's module in DistributedDataParallel with torch.optim.SGD; or a
Keras model under MultiWorkerMirroredStrategy with keras.optimizers.SGD; in forward_backward without optimizer. Every
rank has one core. `alone` compares torch on one device, as `--devices 1` starts it, with torch as it is without. Sides
take turns, and the order is mirrored every time. Exit 1 if ours takes more than 1.02 of the time.
"""

import contextlib
import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import click
import numpy as np

from bench.cases.case import Case
from bench.controller import parity
from bench.controller.devices import devices_here
from bench.controller.launch import environment
from bench.controller.settings import WorkerSettings, build_request
from bench.controller.team import LOOPBACK, addresses_of
from bench.stats.descriptive import Interval
from bench.worker.messages import CallFirst, Measure
from bench.worker.team_batches import TEAM_UNITS
from impls import FRAMEWORKS
from impls.net import Settings

MOST = 1.02
WORLD = 2
VARIANTS = {"torch": "owt", "tensorflow": "tutorial", "alone": "owt"}
PASSES = ("train_step", "forward_backward")
Turn = Callable[[int], float]  # seconds of so many iterations, after one that does not count
HERE = Path(__file__).resolve().parent


@click.command()
@click.argument("framework", type=click.Choice(list(VARIANTS)))
@click.option("--pass", "pass_", type=click.Choice(PASSES), default=PASSES[0], show_default=True)
@click.option("--batch", default=4, help="per rank")
@click.option("--turns", default=12, help="pairs of turns")
@click.option("--iterations", default=3, help="per turn, after one that does not count")
@click.option("--rank", "rank", default=None, hidden=True)
def main(framework: str, pass_: str, batch: int, turns: int, iterations: int, rank: str | None) -> None:
    if rank is not None:
        number, *addresses = rank.split(",")
        plain = {"torch": plain_torch, "tensorflow": plain_tensorflow}[framework]
        answer(plain(int(number), addresses, batch, pass_ == "train_step"))
        return
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if framework == "alone":
            devices = devices_here(1, on_gpu=False)
            settings = WorkerSettings(len(devices[0].cores), 600.0)
            candidate = turn_of(dataclasses.replace(settings, devices=devices), "torch", pass_, batch, scratch, stack)
            baseline = turn_of(settings, "torch", pass_, batch, scratch, stack)
        else:
            settings = WorkerSettings(1, 600.0, devices=devices_here(WORLD, on_gpu=False))
            candidate = turn_of(settings, framework, pass_, batch, scratch, stack)
            baseline = turn_of_script(framework, pass_, batch, stack)
        ratio = Interval.of_logs(compare(candidate, baseline, turns, iterations))
    ends = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low and ratio.high else ""
    sides = "with --devices 1 over without" if framework == "alone" else f"{WORLD} ranks, ours over the script"
    print(f"{framework}, {VARIANTS[framework]}, {pass_}, batch {batch}: {sides} {ratio.center:.3f}{ends}")
    sys.exit(ratio.center > MOST)


def turn_of(
    settings: WorkerSettings, framework: str, pass_: str, batch: int, scratch: Path, stack: contextlib.ExitStack
) -> Turn:
    """A turn of our Net, called once: of a Team if there are several devices."""
    record, world = FRAMEWORKS[framework], max(1, len(settings.devices))
    case = Case(
        *(VARIANTS[framework], framework, record.modes[0], "cpu", "fp32", record.layouts[0], batch, pass_), world=world
    )
    folder = Path(tempfile.mkdtemp(dir=scratch))
    parity.prepare(case.net, folder / "parity", batch=batch, units=TEAM_UNITS, labeled=True)
    worker = settings.launch("ours", case, folder)
    stack.callback(worker.kill)
    worker.wait_until_configured()
    worker.ask(build_request(case, folder / "parity", passes=[pass_]))
    worker.ask(CallFirst(pass_))
    return lambda count: sum(worker.ask(Measure(pass_, count + 1)).ns[1:]) / 1e9


def turn_of_script(framework: str, pass_: str, batch: int, stack: contextlib.ExitStack) -> Turn:
    """A turn of the plain script, whose ranks are started here."""
    addresses = addresses_of([LOOPBACK] * WORLD)
    children = [start(framework, pass_, batch, number, addresses) for number in range(WORLD)]
    for child in children:
        stack.callback(child.kill)

    def turn(count: int) -> float:
        for child in children:
            assert child.stdin
            child.stdin.write(f"{count}\n")
            child.stdin.flush()
        return fmean(json.loads(child.stdout.readline()) for child in children if child.stdout)

    return turn


def start(framework: str, pass_: str, batch: int, number: int, addresses: Sequence[str]) -> "subprocess.Popen[str]":
    """A rank of the plain script, with the environment of ours."""
    env = environment(Settings("cpu", 1, "fp32"), {"GLOO_SOCKET_IFNAME": "lo"}, Path(tempfile.gettempdir()))
    words = [framework, "--pass", pass_, "--batch", str(batch), "--rank", ",".join([str(number), *addresses])]
    return subprocess.Popen(
        [sys.executable, __file__, *words],
        env=env | {"PYTHONPATH": f"{HERE.parent}:{HERE}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, devices_here(WORLD, on_gpu=False)[number].cores),
    )


def compare(candidate: Turn, baseline: Turn, turns: int, iterations: int) -> list[float]:
    """ln(time of the candidate / time of the baseline) of each pair of turns."""
    logs = []
    for turn in range(turns + 1):
        pair = [(candidate, 1), (baseline, -1)]
        log = sum(sign * math.log(run(iterations)) for run, sign in (pair if turn % 2 else reversed(pair)))
        if turn:  # the first pair is burn-in
            logs.append(log)
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


def plain_torch(number: int, addresses: list[str], batch: int, update: bool) -> Iterator[None]:
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
        logits = model(images)
        if update:
            torch.nn.functional.cross_entropy(logits, labels).backward()
            optimizer.step()
        else:
            (0.5 * logits.square().sum()).backward()
        yield


def plain_tensorflow(number: int, addresses: list[str], batch: int, update: bool) -> Iterator[None]:
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

    def differentiate() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.nn.l2_loss(model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)

    run = tf.function(lambda: strategy.run(step if update else differentiate))
    while True:
        run()
        yield


if __name__ == "__main__":
    main()
