"""How fast `predict` is next to its two halves; pytest tests/speed/test_predict.py -s prints it. No time is asserted.

1,000 JPEGs of 500 x 375 pixels are decoded alone, computed alone from stored squares, and predicted, in turn, in one
process with one Worker. Both halves use all cores, so a perfect division of these gives 1 / (1/decode + 1/forward).
"""

import dataclasses
import io
import os
import shutil
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from PIL import Image

from bench.cases.case import Case
from bench.commands.predict_plan import files_of, plan
from bench.commands.requests import PredictRequest
from bench.controller.pool import WorkerPool
from bench.controller.predicted import Predicted
from bench.controller.prediction import Asked, Predictor
from bench.pictures.preparer import prepare_all
from bench.record import prediction
from bench.record.csvfile import Growing
from bench.worker.messages import ComputeLogits
from bench.worker.pixels import PICTURES
from impls.variants import variant_named
from impls.weights import initial, save

COUNT = int(os.environ.get("PICTURES", "1000"))
REPEATS = int(os.environ.get("REPEATS", "5"))
GOAL = 0.8  # of the slower half
DIFFERENT = 25  # files; the others are copies of these
THREADS = [None if word == "None" else int(word) for word in os.environ.get("DECODERS", "None").split(",")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Parts of a photograph, 500 x 375, in class folders."""
    folder = tmp_path_factory.mktemp("pictures")
    with cbook.get_sample_data("grace_hopper.jpg") as file, Image.open(io.BytesIO(file.read())) as photo:
        whole = photo.convert("RGB").resize((1024, 1200))
    dice = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir()
    for number in range(COUNT):
        path = folder / "ab"[number % 2] / f"{number:04d}.jpg"
        if number < DIFFERENT:
            left, top = (int(dice.integers(0, most)) for most in (524, 825))
            whole.crop((left, top, left + 500, top + 375)).save(path, quality=90)
        else:
            shutil.copy(folder / "ab"[number % DIFFERENT % 2] / f"{number % DIFFERENT:04d}.jpg", path)
    return folder


class Alternatives:
    """The three, each of which returns images per second."""

    def __init__(self, predictor: Predictor, case: Case, asked: tuple[Asked, ...], folder: Path, found: dict):
        self.predictor, self.case, self.asked, self.folder, self.found = predictor, case, asked, folder, found
        self.stored = folder / "stored"
        self.stored.mkdir()
        paths = [one.entry.path for one in asked]
        squares = [done.square for done in prepare_all(paths, predictor.preprocessing)]
        np.save(self.stored / PICTURES, np.stack(squares))

    def decode(self) -> None:
        paths = (one.entry.path for one in self.asked)
        for _ in prepare_all(paths, self.predictor.preprocessing, ahead_of=128):
            pass

    def forward(self) -> None:
        for rows in self._chunks():
            request = ComputeLogits(
                str(self.stored), list(rows), self.predictor.preprocessing, str(self.folder / "logits.npy")
            )
            self.predictor.pool.ask(self.case, request)

    def _chunks(self):
        for first in range(0, len(self.asked), 64):
            yield range(first, min(first + 64, len(self.asked)))

    def predict(self, threads: int | None = None) -> None:
        predictor = dataclasses.replace(self.predictor, threads=threads)
        predicted = Predicted(**self.found)
        with Growing(self.folder / prediction.RECORD, prediction.columns(5)) as record:
            for answers in predictor.run(self.asked):
                record.append(row.cells() for row in predicted.add(answers))
        assert predicted.predicted == len(self.asked)

    def rate(self, name: str, *more: object) -> float:
        began = time.perf_counter()
        getattr(self, name)(*more)
        return len(self.asked) / (time.perf_counter() - began)


@pytest.mark.parametrize(("variant", "size"), [("owt", 224), ("half_width", 99)])
def test_predict_next_to_its_halves(pictures, tmp_path, variant, size):
    net = variant_named(variant, size, 2)
    facts = {"variant": variant, "size": str(size), "classes": '["a", "b"]'}
    save(initial(net), tmp_path / "w.safetensors", metadata=facts)
    request = PredictRequest(
        pictures=(pictures,), weights=tmp_path / "w.safetensors", framework="torch", preprocessing="plain"
    )
    planned = plan(request)
    asked = files_of(request, tmp_path, None).asked
    found = {
        "frameworks": ["torch"],
        "classes": planned.classes,
        "preprocessing": planned.preprocessing,
        "top": 5,
    }
    with WorkerPool(planned.workers) as pool:
        predictor = Predictor(pool, planned.cases, planned.net, planned.weights, planned.preprocessing)
        predictor.start()
        each = Alternatives(predictor, planned.cases[0], asked, tmp_path, found)
        each.forward()  # burn-in
        kinds = ["decode", "forward", *(f"predict {threads}" for threads in THREADS)]
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for repeat in range(REPEATS):
            for kind in kinds if repeat % 2 else kinds[::-1]:
                words = kind.split()
                rates[kind].append(each.rate(words[0], *(None if w == "None" else int(w) for w in words[1:])))
    print(f"\n{variant} at {size} px, torch, {COUNT} JPEGs of 500 x 375, images/s (least to most of {REPEATS}):")
    for kind, values in rates.items():
        print(f"  {kind:14} {statistics.median(values):7.1f} ({min(values):.1f} to {max(values):.1f})")
    for kind in kinds[2:]:
        triples = list(zip(rates["decode"], rates["forward"], rates[kind], strict=True))
        shares = [both / min(decode, forward) for decode, forward, both in triples]
        ideal = [1 / (1 / decode + 1 / forward) / min(decode, forward) for decode, forward, _ in triples]
        spread = f"{min(shares):.3f} to {max(shares):.3f}"
        print(
            f"  {kind} / slower half: {statistics.median(shares):.3f} ({spread}); goal {GOAL}, "
            f"perfect division {statistics.median(ideal):.3f}"
        )
