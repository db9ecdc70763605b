"""Predictions chunk by chunk: every file once, in order, whatever is broken; memory does not grow with their number."""

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from bench.commands.plan import plain_cases
from bench.commands.requests import PredictRequest
from bench.controller.pool import WorkerPool
from bench.controller.predicted import MOST_MISTAKES, NOT_FINITE, Predicted
from bench.controller.prediction import CHUNK, Answer, Asked, Predictor, probabilities
from bench.controller.settings import WorkerSettings
from bench.controller.worker_process import WorkerDied
from bench.pictures.class_names import ClassNames
from bench.pictures.listing import Entry
from bench.pictures.preparer import Prepared, prepare
from impls import reference
from impls.pictures import PictureError
from impls.preprocessing import PREPROCESSINGS
from impls.variants import variant_named
from impls.weights import initial

NET = variant_named("half_width", 67, 3)
PLAIN = PREPROCESSINGS["plain"].at(67)
NAMES = ClassNames(("a", "b", "c"), "the test")
BATCH = 16


def asked(folder, names):
    return tuple(Asked(Entry(str(folder), name, None), "here") for name in names)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten pictures, each other noise."""
    folder = tmp_path_factory.mktemp("pictures")
    dice = np.random.Generator(np.random.PCG64(0))
    for number in range(10):
        Image.fromarray(dice.integers(0, 256, (80, 90 + number, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def predictor():
    request = PredictRequest(pictures=(), weights=None, framework="torch")
    (case,) = plain_cases(request, ["torch"], ["half_width"], batch=BATCH)
    case = dataclasses.replace(case, size=67)
    with WorkerPool(WorkerSettings(1, 300.0)) as pool:
        made = Predictor(pool, [case], NET, initial(NET), PLAIN)
        versions = made.start()
        assert versions["torch"]["torch"]
        assert "None" not in versions["torch"].values()
        yield made


class TestPredictor:
    pytestmark = pytest.mark.process

    def test_every_file_is_answered_once_in_order_with_its_own_logits(self, predictor, pictures):
        names = [f"{number % 10}.png" for number in range(2 * CHUNK + 5)]
        for place in (0, 7, CHUNK, 2 * CHUNK + 4):
            names[place] = "broken.png"
        chunks = list(predictor.run(asked(pictures, names)))
        assert len(chunks) == 3
        answers = list(itertools.chain(*chunks))
        assert [answer.asked.entry.file for answer in answers] == names
        assert all(isinstance(answer.picture, PictureError) == (not answer.logits) for answer in answers)
        squares = {f"{number}.png": prepare(pictures / f"{number}.png", PLAIN).square for number in range(10)}
        weights = {layer: {n: a.astype(np.float64) for n, a in its.items()} for layer, its in initial(NET).items()}
        images = PLAIN.normalized(np.stack([PLAIN.views(square)[0] for square in squares.values()])).astype(np.float64)
        wanted = dict(zip(squares, reference.forward(NET, weights, images, training=False).logits, strict=True))
        for answer in answers:
            if answer.logits:
                (found,) = answer.logits["torch"]
                reached = wanted[answer.asked.entry.file]
                assert np.abs(found - reached).max() <= 1e-5 * np.abs(reached).max()

    def test_nothing_but_broken_files_asks_the_worker_nothing_and_comes_to_an_end(self, predictor, pictures):
        chunks = list(predictor.run(asked(pictures, ["broken.png"] * (5 * CHUNK))))
        assert [len(chunk) for chunk in chunks] == [4 * CHUNK, CHUNK]
        assert not any(answer.logits for chunk in chunks for answer in chunk)

    def test_no_stored_pictures_are_left(self, predictor, pictures):
        before = set(predictor.pool.scratch.iterdir())
        list(predictor.run(asked(pictures, ["1.png"] * 70)))
        assert set(predictor.pool.scratch.iterdir()) == before

    def test_a_worker_that_dies_leaves_the_answers_before(self, predictor, pictures):
        found = predictor.run(asked(pictures, ["1.png"] * (4 * CHUNK)))
        assert len(next(found)) == CHUNK
        predictor.pool.worker(predictor.cases[0]).process.process.kill()
        with pytest.raises(WorkerDied, match="killed by SIGKILL"):
            list(found)


def answer(number, logits, truth="a", picture=None):
    square = np.full((PLAIN.side, PLAIN.side, 3), number % 256, np.uint8)
    picture = picture or Prepared(square, 90, 80, "PNG", "RGB", ())
    values = {name: np.array([each], np.float32) for name, each in logits.items()}
    return Answer(Asked(Entry(f"/x/{truth}", f"{number}.png", truth), "x"), picture, values)


def predicted(*frameworks):
    return Predicted(frameworks or ("torch",), NAMES, PLAIN, top=2)


class TestPredicted:
    def test_rows_have_the_truth_and_the_first_classes(self):
        found = predicted()
        (row,) = found.add([answer(1, {"torch": [1.0, 3.0, 2.0]})])
        assert (row.file, row.framework, row.truth) == ("x/a/1.png", "torch", "a")
        assert [guess.name for guess in row.guesses] == ["b", "c"]
        powers = np.exp([1.0, 3.0, 2.0])
        assert [guess.probability for guess in row.guesses] == pytest.approx((powers / powers.sum())[[1, 2]].tolist())

    def test_a_truth_that_is_no_class_is_kept_and_not_counted(self):
        found = predicted()
        (row,) = found.add([answer(1, {"torch": [1.0, 3.0, 2.0]}, truth="z")])
        assert (row.truth, found.tallies["torch"].total, found.predicted) == ("z", 0, 1)

    def test_an_unreadable_file_has_one_row_without_a_framework(self):
        found = predicted("torch", "jax")
        (row,) = found.add([answer(1, {}, picture=PictureError("1.png", "cannot be decoded: cut: off"))])
        assert (row.framework, row.error, row.guesses) == ("", "cannot be decoded: cut: off", [])
        assert (found.unreadable, found.problems) == (1, ["x/a/1.png: cannot be decoded: cut: off"])

    def test_logits_that_are_not_finite_are_an_error_of_that_framework_alone(self):
        found = predicted("torch", "jax")
        rows = found.add([answer(1, {"torch": [1.0, np.nan, 2.0], "jax": [3.0, 1.0, 2.0]})])
        assert [row.error for row in rows] == [NOT_FINITE, ""]
        assert rows[0].guesses == []
        assert dict(found.not_finite) == {"torch": 1}
        assert (found.tallies["torch"].total, found.tallies["jax"].total) == (0, 1)
        assert found.differences.pictures == 0

    def test_the_worst_mistakes_are_the_most_certain_ones_and_few_are_kept(self):
        found = predicted()
        dice = np.random.Generator(np.random.PCG64(1))
        certain = dice.permutation(300)
        found.add([answer(number, {"torch": [0.0, 0.01 * each, -9.0]}) for number, each in enumerate(certain, 1)])
        worst = found.mistakes
        assert len(worst) == MOST_MISTAKES
        assert [certain[int(each.name.split("/")[-1][:-4]) - 1] for each in worst] == list(range(299, 275, -1))
        assert worst[0].pixels.shape == (67, 67, 3)
        assert worst[0].pixels.base is None  # not a view that keeps the whole square

    def test_crops_are_averaged_after_softmax(self):
        two = np.array([[0.0, np.log(3.0)], [np.log(3.0), 0.0]], np.float32)
        assert probabilities(two).tolist() == pytest.approx([0.5, 0.5])
        assert probabilities(np.array([[0.0, 1e4]], np.float32)).tolist() == [0.0, 1.0]
