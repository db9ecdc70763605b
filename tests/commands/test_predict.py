"""`predict` as a user meets it: what it writes, what it says, and what it refuses."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import caffe_pickles
import numpy as np
import pytest
from nets import configured
from PIL import Image

from bench.commands.predict_plan import plan
from bench.commands.requests import PredictRequest
from bench.pictures import flowers
from bench.pictures.folder import is_held_out, read
from bench.pictures.preparer import prepare
from impls import reference, state_dict
from impls.preprocessing import PREPROCESSINGS
from impls.variants import VARIANTS, variant_named
from impls.weights import initial, save, shapes

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
NET = variant_named("half_width", 67, 5)
PLAIN = PREPROCESSINGS["plain"].at(67)
JSON_PLAIN = (
    '{"name": "plain", "size": 67, "side": 72, "resize": "shorter", "colors": "RGB", '
    '"subtract": [127.5, 127.5, 127.5], "divide": [64.0, 64.0, 64.0]}'
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "photos"
    flowers.draw(path, per_class=6)
    return path


@pytest.fixture(scope="module")
def weights(pictures) -> Path:
    """A file as `train` writes it, of weights that were drawn."""
    path = pictures.parent / "best.safetensors"
    facts = {"variant": "half_width", "size": "67", "classes": json.dumps(CLASSES), "preprocessing": JSON_PLAIN}
    save(initial(NET), path, metadata=facts | {"pictures": read(pictures).digest})
    return path


def predict(command, *words: object, framework: str = "torch"):
    return command("predict", *map(str, words), "--framework", framework, "--out", str(command.results))


def record(folder: Path) -> list[dict[str, str]]:
    with open(folder / "record.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reference_shares(folder: Path) -> dict[str, np.ndarray]:
    """Probabilities by the float64 reference, by file name."""
    files = sorted(folder.glob("*/*.jpg"))
    wide = {layer: {n: a.astype(np.float64) for n, a in its.items()} for layer, its in initial(NET).items()}
    squares = [PLAIN.views(prepare(file, PLAIN).square)[0] for file in files]
    logits = reference.forward(NET, wide, PLAIN.normalized(np.stack(squares)).astype(np.float64), training=False).logits
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares = powers / powers.sum(1, keepdims=True)
    return {file.name: share for file, share in zip(files, shares, strict=True)}


def test_a_folder_in_all_frameworks_has_a_row_each_of_the_reference_and_the_same_first_class(
    command, pictures, weights
):
    ran = predict(command, pictures, "--weights", weights, framework="all")
    assert ran.code == 0, ran.err
    assert {path.name for path in ran.folder.iterdir()} == {
        *("record.csv", "predict.json", "per_class.csv", "confusion.csv", "confusion.png", "mistakes.png"),
    }
    rows, wanted = record(ran.folder), reference_shares(pictures)
    assert len(rows) == 90
    assert [row["framework"] for row in rows[:3]] == ["torch", "tensorflow", "jax"]
    for row in rows:
        share = wanted[row["file"].rpartition("/")[2]]
        found = {row[f"class_{number}"]: float(row[f"probability_{number}"]) for number in range(1, 6)}
        assert found == pytest.approx(dict(zip(CLASSES, share, strict=True)), rel=1e-4, abs=1e-7)
        assert row["class_1"] == CLASSES[share.argmax()]
        assert row["file"] == str(pictures / row["truth"] / row["file"].rpartition("/")[2])
    right = sum(row["class_1"] == row["truth"] for row in rows if row["framework"] == "jax")
    written = json.loads((ran.folder / "predict.json").read_text())
    assert written["outcome"]["accuracy"]["jax"]["top1"]["value"] == pytest.approx(right / 30)
    assert written["outcome"]["done"] is True
    assert written["settings"]["weights"]["file"] == "best.safetensors"
    assert written["settings"]["versions"].keys() == {"torch", "tensorflow", "jax"}
    assert "Largest difference of logits between torch, tensorflow, jax: " in ran.out
    assert "The most probable class is the same in all of them for each of 30 pictures" in ran.out
    assert "the weights were trained on 24 of these 30 pictures; --held-out leaves them out" in ran.err


def test_few_pictures_have_their_classes_with_bars_and_no_truth_without_a_class_folder(inline, pictures, weights):
    files = sorted(pictures.glob("roses/*"))[:2]
    ran = predict(inline, *files, "--weights", weights, "--top", "2")
    assert ran.code == 0, ran.err
    for file, row in zip(files, record(ran.folder), strict=True):
        share = reference_shares(pictures)[file.name]
        first = share.argmax()
        assert f"{CLASSES[first]}" in ran.out
        assert f"{share[first]:.4f}  {'#' * round(30 * share[first])} " in ran.out
        assert (row["truth"], row["file"]) == ("", str(file))
        assert "class_3" not in row
    assert "Accuracy" not in ran.out
    assert sorted(path.name for path in ran.folder.iterdir()) == ["predict.json", "record.csv"]


def test_json_is_all_that_is_on_stdout_and_says_the_same(inline, pictures, weights):
    ran = predict(inline, pictures, "--weights", weights, "--held-out", "--json")
    assert ran.code == 0, ran.err
    found = json.loads(ran.out)
    kept = {path.name for path in pictures.glob("*/*") if is_held_out(path.name)}
    assert {row["file"].rpartition("/")[2] for row in found["pictures"]} == kept
    assert len(kept) == found["outcome"]["files"] == found["outcome"]["accuracy"]["torch"]["pictures"] == 6
    assert found["folder"] == str(ran.folder)
    assert "trained on" not in ran.err
    wrong = [row for row in record(ran.folder) if row["class_1"] != row["truth"]]
    assert {each["file"] for each in found["mistakes"]} == {row["file"] for row in wrong}
    certain = [each["probability"] for each in found["mistakes"]]
    assert certain == sorted(certain, reverse=True)


class TestBroken:
    """Files and folders as people have them."""

    @pytest.fixture
    def folder(self, pictures, tmp_path) -> Path:
        made = tmp_path / "made"
        shutil.copytree(pictures / "roses", made / "roses")
        shutil.copytree(pictures / "roses", made / "Roses")
        (made / "weeds").mkdir()
        shutil.copy(pictures / "tulips/tulips_0000.jpg", made / "weeds/=x.jpg")
        (made / "roses/two\nlines.jpg").write_bytes(b"text")
        (made / "roses/empty.png").write_bytes(b"")
        with open(os.fsencode(made / "roses") + b"/\xff\xe9.jpg", "wb") as file:
            file.write((pictures / "roses/roses_0000.jpg").read_bytes())
        (made / "roses/cut.jpg").write_bytes((pictures / "roses/roses_0001.jpg").read_bytes()[:700])
        (made / "roses/loop").symlink_to("..")
        (made / "self").symlink_to("self")
        os.mkfifo(made / "pipe.jpg")
        Image.new("RGBA", (80, 70), (0, 200, 0, 90)).save(made / "loose.png")
        return made

    def test_they_are_named_skipped_and_counted(self, command, folder, weights):
        ran = predict(command, folder, folder.parent / "gone.jpg", "--weights", weights)
        assert ran.code == 0, ran.err
        for line in (
            "pipe.jpg: expected a regular file",
            f"{folder}: classes whose names differ in case only, which some file systems take for one: Roses, roses",
            "no class of the weights: 'Roses' (6 pictures); 'weeds' (1 picture); they are in record.csv",
            rf"{folder}/roses/two\nlines.jpg: expected a picture",
            f"{folder}/roses/empty.png: expected a picture",
            f"{folder}/roses/cut.jpg: cannot be decoded",
            "gone.jpg: cannot be decoded: No such file or directory",
            "left out: 6 of 21 files, which cannot be read",
        ):
            assert line in ran.err
        assert "Traceback" not in ran.err
        rows = record(ran.folder)
        assert len(rows) == 19
        (odd,) = [row for row in rows if row["file"].endswith(r"/\udcff\udce9.jpg")]
        (same,) = [row for row in rows if row["file"].endswith("/roses/roses_0000.jpg")]
        assert (odd["class_1"], odd["probability_1"], odd["truth"]) == (same["class_1"], same["probability_1"], "roses")
        (loose,) = [row for row in rows if row["file"].endswith("loose.png")]
        assert (loose["truth"], loose["note"]) == ("", "transparent parts shown on white")
        assert len([row for row in rows if row["error"] and not row["class_1"] and not row["framework"]]) == 4
        outcome = json.loads((ran.folder / "predict.json").read_text())["outcome"]
        assert (outcome["files"], outcome["predicted"], outcome["unreadable"]) == (19, 15, 4)
        assert outcome["other_entries"] >= 2
        assert outcome["accuracy"]["torch"]["pictures"] == 7  # of roses alone

    def test_strict_is_exit_1(self, inline, folder, weights):
        for path in (folder / "roses/empty.png", folder / "roses/roses_0000.jpg"):
            ran = predict(inline, path, folder / "loose.png", "--weights", weights, "--strict")
            assert ran.code == (1 if path.name == "empty.png" else 0), ran.err
            shutil.rmtree(inline.results)

    def test_nothing_readable_is_exit_2(self, inline, folder, weights):
        ran = predict(inline, folder / "roses/empty.png", folder / "pipe.jpg", "--weights", weights)
        assert ran.code == 2
        assert ran.err.splitlines()[-1] == "alexnet-bench: nothing could be read of 2 files"
        assert "pipe.jpg: cannot be decoded: expected a regular file" in ran.err
        assert [row["error"] != "" for row in record(ran.folder)] == [True, True]

    def test_an_empty_folder_is_a_mistake_and_leaves_no_results(self, inline, tmp_path, weights):
        (tmp_path / "nothing").mkdir()
        ran = predict(inline, tmp_path / "nothing", "--weights", weights)
        assert ran.code == 2
        assert ran.err.splitlines()[-1].startswith("alexnet-bench: expected pictures (.jpg, ")
        assert ran.err.endswith("; name files, or their folder\n")
        assert not inline.results.exists()

    def test_without_a_class_of_the_weights_there_is_no_accuracy_and_a_line_why(self, inline, folder, weights):
        shutil.rmtree(folder / "roses")
        ran = predict(inline, folder, "--weights", weights)
        assert ran.code == 0, ran.err
        assert "no accuracy: no class folder is one of the weights: expected daisy; dandelion; roses; sunf" in ran.err
        assert "Accuracy" not in ran.out
        assert not (ran.folder / "confusion.csv").exists()


MANY = 5_000  # pictures, some seconds of predictions after the first 64


def test_ctrl_c_keeps_the_rows_so_far_and_says_how_many(command, pictures, weights, tmp_path):
    many = tmp_path / "many"
    (many / "roses").mkdir(parents=True)
    for number in range(MANY):
        os.link(pictures / f"roses/roses_000{number % 6}.jpg", many / f"roses/{number}.jpg")
    process = command.start(
        *("predict", str(many), "--weights", str(weights), "--framework", "torch", "--out", str(command.results))
    )
    while process.poll() is None and not any(each.stat().st_size > 10_000 for each in command.results.glob("*/*.csv")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    ran = command.finish(process)
    assert ran.code == 130, ran.err
    rows = record(ran.folder)
    assert 64 <= len(rows) < MANY
    assert all(row["class_1"] for row in rows)
    assert f"interrupted: {len(rows):,} files are in " in ran.err.splitlines()[-1]
    outcome = json.loads((ran.folder / "predict.json").read_text())["outcome"]
    assert (outcome["done"], outcome["files"]) == (False, len(rows))
    assert not list(command.scratch.glob("alexnet-bench-*/*"))


def test_logits_that_are_not_finite_are_an_error_in_the_row_and_exit_1(inline, pictures, tmp_path):
    huge = initial(NET)
    for its in huge.values():
        its["kernel"] *= np.float32(1e12)
    facts = {"variant": "half_width", "size": "67", "preprocessing": JSON_PLAIN}
    save(huge, tmp_path / "huge.safetensors", metadata=facts)
    ran = predict(inline, pictures / "roses/roses_0000.jpg", "--weights", tmp_path / "huge.safetensors")
    assert ran.code == 1
    (row,) = record(ran.folder)
    assert (row["class_1"], row["error"]) == ("", "the logits are not finite")
    assert "torch: 1 picture without a prediction: logits that are not finite" in ran.out


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A file of `verify --save-weights`: variant and size, nothing else."""
    path = tmp_path_factory.mktemp("saved") / "owt.safetensors"
    net = VARIANTS["owt"].resized(67)
    save(initial(net), path, metadata={"variant": "owt", "size": "67"})
    return path


class TestWeights:
    """What files of weights say of their net, and what has to be said in addition."""

    def planned(self, path: Path, **asked):
        return plan(PredictRequest(pictures=(), weights=path, framework="torch", **asked))

    def test_a_checkpoint_of_train_needs_nothing_more(self, weights):
        made = self.planned(weights)
        assert (made.net.name, made.net.input_size, made.net.classes) == ("half_width", 67, 5)
        assert (made.preprocessing.name, made.preprocessing.side) == ("plain", 72)
        assert (made.classes.shown, made.classes.source) == (tuple(CLASSES), "the weights")

    def test_a_file_of_save_weights_lacks_the_preprocessing(self, inline, saved, pictures):
        ran = predict(inline, pictures, "--weights", saved)
        assert ran.code == 2
        assert ran.err.splitlines()[-1] == (
            "alexnet-bench: --weights: owt.safetensors does not say of which preprocessing its net is; "
            "pass --preprocessing, one of plain, torchvision, caffe, 2012"
        )
        made = self.planned(saved, preprocessing="torchvision")
        assert (made.net.input_size, made.preprocessing.name, made.preprocessing.side) == (67, "torchvision", 72)
        assert (made.classes.source, made.classes.shown[150]) == ("ILSVRC-2012", "sea lion")

    def test_a_file_without_metadata_lacks_both(self, inline, pictures, tmp_path):
        save(initial(NET), tmp_path / "bare.safetensors")
        ran = predict(inline, pictures, "--weights", tmp_path / "bare.safetensors")
        assert ran.code == 2
        assert "does not say of which variant and preprocessing its net is; pass --variant, one of " in ran.err
        made = self.planned(tmp_path / "bare.safetensors", variant="half_width", size=67, preprocessing="plain")
        assert made.classes.shown == tuple(f"class {number}" for number in range(5))

    def test_caffes_file_is_bvlc_with_caffes_preprocessing(self, tmp_path):
        arrays = initial(VARIANTS["bvlc"])
        tree = {layer: [array.astype(np.float32) for array in its.values()] for layer, its in arrays.items()}
        (tmp_path / "bvlc_alexnet.npy").write_bytes(caffe_pickles.saved(tree))
        made = self.planned(tmp_path / "bvlc_alexnet.npy")
        assert (made.net.name, made.net.input_size) == ("bvlc", 227)
        assert (made.preprocessing.name, made.preprocessing.colors) == ("caffe", "BGR")
        assert made.classes.place("n02391049") == 340

    def test_torchvisions_names_are_owt_with_torchvisions_preprocessing(self, tmp_path, inline, pictures):
        torch = pytest.importorskip("torch")
        configured("torch")  # before it computes
        save_file = pytest.importorskip("safetensors.numpy").save_file
        net = VARIANTS["owt"].with_classes(1001)
        rng = np.random.default_rng(0)
        theirs = {
            f"{state_dict.MODULES[layer]}.{state_dict.NAMES[name]}": rng.random(state_dict._theirs(shape), np.float32)
            for layer, arrays in shapes(net).items()
            for name, shape in arrays.items()
        }
        torch.save({name: torch.from_numpy(array) * 0.01 for name, array in theirs.items()}, tmp_path / "alexnet.pth")
        made = self.planned(tmp_path / "alexnet.pth")
        assert (made.net.name, made.net.input_size, made.preprocessing.name) == ("owt", 224, "torchvision")
        (note,) = made.notes
        assert note == ("1,001 outputs: the first may be a class `background`; pass --labels FILE, one name per line")
        save_file(theirs, tmp_path / "alexnet.safetensors")
        ran = predict(inline, pictures / "roses/roses_0000.jpg", "--weights", tmp_path / "alexnet.safetensors")
        assert ran.code == 0, ran.err
        assert record(ran.folder)[0]["class_1"].startswith("class ")

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            ("--variant owt", "--weights: they are of variant half_width, found --variant owt; leave it out"),
            ("--size 99", "--weights: they are of size 67, found --size 99; leave it out"),
            ("--preprocessing caffe", "--weights: they are of preprocessing plain, found --preprocessing caffe"),
            ("--mode eager,compile", "--mode: expected one per framework, found eager,compile"),
            ("--top 0", "--top"),
            ("--batch 0", "--batch"),
        ],
    )
    def test_a_mistake_is_one_line_and_leaves_no_results(self, inline, pictures, weights, words, expected):
        ran = predict(inline, pictures, "--weights", weights, *words.split())
        assert ran.code == 2
        assert expected in ran.err.splitlines()[-1]
        assert not inline.results.exists()

    def test_a_file_that_is_gone_is_one_line(self, inline, pictures):
        ran = predict(inline, pictures, "--weights", "gone.safetensors")
        assert ran.code == 2
        assert ran.err.splitlines()[-1].endswith("gone.safetensors: cannot read: No such file or directory")


def test_a_batch_is_no_larger_than_the_pictures_fill(weights):
    made = plan(PredictRequest(pictures=(), weights=weights, framework="torch"))
    assert [made.at_most(count).cases[0].batch for count in (0, 1, 5, 1000)] == [1, 1, 5, 32]


def test_weights_are_required(inline):
    done = inline("predict", "a.jpg")
    assert done.code == 2
    assert "Missing option '--weights'" in done.err


def test_another_kind_of_file_is_no_weights(inline, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    done = inline("predict", str(tmp_path / "a.jpg"), "--weights", str(tmp_path / "a.jpg"))
    assert done.code == 2
    assert "--weights: a.jpg: expected a .npy file in Caffe's layout" in done.err
