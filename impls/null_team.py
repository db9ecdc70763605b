"""The null Net on every rank of a Team. Ranks send each other their batches, and meet in every pass that reduces."""

import time
from collections.abc import Sequence
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

import numpy as np

from impls import null_alexnet
from impls.net import Build, Gradients, LayerReport, Settings, layer_report, pattern
from impls.null_alexnet import Results
from impls.splits import DATA, part_of
from impls.variants import Variant
from impls.weights import Weights

Batches = list[list[np.ndarray]]  # of each rank
TRIES = 100  # for rank 0 to listen
SUM = 6  # the handle of a sum over all ranks; those of passes are smaller

_links: list[Connection] = []  # of rank 0 to each other rank, of these to rank 0
_number, _world = 0, 1


def join(settings: Settings) -> None:
    """Connect this process to the others; returns when all have met."""
    global _number, _world
    rank = settings.rank
    assert rank is not None
    _number, _world = rank.number, rank.world
    host, _, port = rank.addresses[0].rpartition(":")
    key = ",".join(rank.addresses).encode()
    if _number == 0:
        with Listener((host, int(port)), authkey=key) as listener:
            by_number: dict[int, Connection] = {}
            while len(by_number) < _world - 1:
                link = listener.accept()
                by_number[link.recv()] = link
        _links.extend(by_number[number] for number in sorted(by_number))
    else:
        _links.append(connected((host, int(port)), key))
        _links[0].send(_number)


def connected(address: tuple[str, int], key: bytes) -> Connection:
    """A connection to rank 0, which may not listen yet."""
    for _ in range(TRIES):
        try:
            return Client(address, authkey=key)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise ConnectionError(f"rank 0 does not listen on {address[0]}:{address[1]}")


def exchange(value: Any) -> list[Any]:
    """The values of all ranks, by number; returns when all have given theirs."""
    if _number == 0:
        values = [value, *(link.recv() for link in _links)]
        for link in _links:
            link.send(values)
        return values
    _links[0].send(value)
    received: list[Any] = _links[0].recv()
    return received


class TeamNet(null_alexnet.Net):
    """Implements impls.net.TeamNet."""

    def __init__(self, variant: Variant, weights: Weights, how: Build):
        super().__init__(variant, weights, how)
        self.everyone: Batches = []
        self.everyones_labels: Batches = []

    def load(self, batches: Sequence[np.ndarray]) -> None:
        super().load(batches)
        self.everyone = exchange(list(batches))

    def label(self, labels: Sequence[np.ndarray]) -> None:
        super().label(labels)
        self.everyones_labels = exchange(list(labels))

    def forward_backward(self) -> Any:
        exchange(None)
        return super().forward_backward()

    def train_step(self) -> Any:
        exchange(None)
        return super().train_step()

    def apart(self) -> Any:
        return super().forward_backward()

    def own_gradients(self, handles: Any) -> tuple[float, Gradients]:
        return self.named(handles, self.train(self.batches[handles % 2]))

    def reduced_gradients(self, turn: int, own: Results, labeled: bool) -> Gradients:
        ranks = [
            self.train(batches[turn], labels[turn] if labeled else None).gradients
            for batches, labels in zip(self.everyone, self.everyones_labels or self.everyone, strict=True)
        ]
        share = np.float32(1 / _world if labeled else 1)
        return {
            layer: {name: share * np.sum([each[layer][name] for each in ranks], axis=0) for name in arrays}
            for layer, arrays in own.gradients.items()
        }

    def layers(self) -> list[LayerReport]:
        """Of a net that is shared those of each rank, though every rank computes the whole."""
        if self.how.split in (None, DATA):
            return super().layers()
        rows = part_of(self.variant, self.how.split, _world).variant.placed()
        return [layer_report(row.layer, row.output, row.params, row.state) for row in rows]

    def fill(self) -> None:
        pass

    def all_reduce(self) -> Any:
        exchange(None)
        return SUM

    def reduced(self, handles: Any) -> np.ndarray:
        indices = np.arange(self.variant.params, dtype=np.uint32)
        total: np.ndarray = np.sum([pattern(number, indices) for number in range(_world)], axis=0)
        self.first[handles] = float(total[0])
        return total
