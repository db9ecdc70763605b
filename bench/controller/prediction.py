"""Predict pictures in one or more frameworks' Workers, all alive at once; each picture is decoded once.

While Workers compute, threads of this process decode the pictures that follow, and the next chunk of them is stored.
Pixels, rows and logits of a few chunks are in memory, however many pictures there are.
"""

import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.controller.pool import WorkerPool
from bench.controller.settings import build_of
from bench.pictures.listing import Entry, escaped
from bench.pictures.preparer import Prepared, prepare_all, write_header
from bench.worker.messages import BuildNet, ComputeLogits
from bench.worker.pixels import PICTURES
from impls.pictures import PictureError
from impls.preprocessing import Preprocessing
from impls.variants import Variant
from impls.weights import Weights, write_shared

CHUNK = 64  # pictures per request: fewer and the requests take time, more and Ctrl-C is heard late
MOST_AHEAD = 2**28  # bytes of pictures that are decoded and wait


class Asked(NamedTuple):
    """A file to predict, and ``within``, what was named that it is in; names are made when needed, as there may be
    a million."""

    entry: Entry
    within: str

    @property
    def name(self) -> str:
        """Its path as it was named, on one line."""
        return escaped(os.path.join(self.within, self.entry.truth or "", self.entry.file))


@dataclass(frozen=True, eq=False)
class Answer:
    """A file that was predicted, or why it cannot be read.

    logits : by framework, ndarrays of shape (crops, classes), float32; empty for an unreadable file
    """

    asked: Asked
    picture: Prepared | PictureError
    logits: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(eq=False)
class _Chunk:
    """Answers in the order of the files, their readable pictures stored in a folder of their own."""

    folder: Path
    answers: list[Answer]
    readable: list[Answer]

    def file(self, case: Case) -> Path:
        return self.folder / f"{case.framework}.npy"

    def request(self, case: Case, preprocessing: Preprocessing) -> ComputeLogits:
        rows = list(range(len(self.readable)))
        return ComputeLogits(str(self.folder), rows, preprocessing, str(self.file(case)))


@dataclass(frozen=True)
class Predictor:
    """Workers of ``cases``, one per framework, and what they compute; ``threads`` decode."""

    pool: WorkerPool
    cases: Sequence[Case]
    net: Variant
    weights: Weights
    preprocessing: Preprocessing
    threads: int | None = None

    def start(self) -> dict[str, dict[str, str]]:
        """Build every Net; the versions of each framework. Raises UsageError, WorkerDied."""
        with tempfile.TemporaryDirectory(dir=self.pool.scratch) as scratch:
            folder = Path(scratch)
            try:
                write_shared(self.weights, folder / "weights")
            except OSError as error:
                raise _full(error) from error
            versions = {}
            for case in self.cases:
                facts = self.pool.worker(case).ready().versions
                versions[case.framework] = {name: str(known) for name, known in facts.items() if known is not None}
                build = build_of(case)
                self.pool.ask(case, BuildNet(case.variant, case.size, scratch, build, classes=self.net.classes))
        return versions

    def run(self, asked: Sequence[Asked]) -> Iterator[list[Answer]]:
        """Yield the answers of chunks in the order of the files; raises WorkerDied, UsageError."""
        waiting: _Chunk | None = None
        with closing(self._stored(asked)) as chunks:
            for chunk in chunks:
                done = self._finish(waiting) if waiting else []
                self._begin(chunk)
                waiting = chunk
                if done:
                    yield done  # while the Worker computes the next
        if waiting:
            yield self._finish(waiting)

    def _stored(self, asked: Sequence[Asked]) -> Generator[_Chunk]:
        """Decode and store chunks of as many readable pictures as fill whole batches."""
        batch = self.cases[0].batch
        size = batch * max(1, CHUNK // batch)
        side = self.preprocessing.side
        ahead = max(1, min(2 * size, MOST_AHEAD // (side * side * 3)))
        with closing(prepare_all((one.entry.path for one in asked), self.preprocessing, self.threads, ahead)) as found:
            answers, readable = list[Answer](), list[Answer]()
            for one, picture in zip(asked, found, strict=True):
                answer = Answer(one, picture)
                answers.append(answer)
                if isinstance(picture, Prepared):
                    readable.append(answer)
                if len(readable) == size or len(answers) == 4 * size:  # of many unreadable ones
                    yield self._store(answers, readable)
                    answers, readable = [], []
        if answers:
            yield self._store(answers, readable)

    def _store(self, answers: list[Answer], readable: list[Answer]) -> _Chunk:
        try:
            chunk = _Chunk(Path(tempfile.mkdtemp(dir=self.pool.scratch)), answers, readable)
            with open(chunk.folder / PICTURES, "wb") as file:
                write_header(file, len(readable), self.preprocessing.side)
                for answer in readable:
                    assert isinstance(answer.picture, Prepared)
                    file.write(answer.picture.square.tobytes())
        except OSError as error:
            raise _full(error) from error
        return chunk

    def _begin(self, chunk: _Chunk) -> None:
        """Send the first Worker its request. The others get theirs one by one: two at once would share the cores."""
        if chunk.readable:
            self.pool.send(self.cases[0], chunk.request(self.cases[0], self.preprocessing))

    def _finish(self, chunk: _Chunk) -> list[Answer]:
        for case in self.cases if chunk.readable else ():
            request = chunk.request(case, self.preprocessing)
            if case is not self.cases[0]:
                self.pool.send(case, request)
            self.pool.receive(case, request)
            found = np.load(chunk.file(case))
            for answer, logits in zip(chunk.readable, found, strict=True):
                answer.logits[case.framework] = logits
        for path in chunk.folder.iterdir():
            path.unlink()
        chunk.folder.rmdir()
        return chunk.answers


def _full(error: OSError) -> UsageError:
    why = f"cannot write to the scratch folder: {error.strerror or error}"
    return UsageError(f"{why}; make room there, or set TMPDIR to a folder that can be written")


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of each crop in float64, averaged: (classes,), of logits of shape (crops, classes)."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    powers = np.exp(shifted)
    mean: np.ndarray = (powers / powers.sum(1, keepdims=True)).mean(0)
    return mean
