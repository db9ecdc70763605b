"""`train` as a user meets it: what it writes, how it goes on, and what it refuses."""

import csv
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from command import Command, Finished
from mounts import mounted

from bench import UsageError
from bench.cases.parse import parse_rate
from bench.commands.requests import TrainRequest
from bench.commands.train_plan import plan
from bench.controller import training as controller
from bench.pictures import flowers, folder, preparer
from bench.record import training
from bench.worker.pixels import map_stored
from impls.inits import INITS
from impls.preprocessing import PREPROCESSINGS, Preprocessing, principal_colors
from impls.variants import variant_named
from impls.weights import load, metadata, save

CLASSES = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
SMALL = ("--size", "67", "--framework", "torch", "--batch", "8", "--lr", "0.001")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "flowers"
    flowers.draw(path, per_class=6)
    return path


def train(command, pictures: Path, *words: str):
    return command("train", str(pictures), *words, "--out", str(command.results))


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def wait_for(path: Path, pattern: str, process) -> Path:
    """The first file of that pattern, while the process runs."""
    while process.poll() is None:
        if found := [each for each in path.glob(pattern) if each.stat().st_size]:
            return found[0]
        time.sleep(0.01)
    raise AssertionError(process.communicate()[1])


@pytest.fixture(scope="module")
def ran(tmp_path_factory, pictures) -> Finished:
    """A training of one epoch, which no test changes."""
    ran = train(Command(tmp_path_factory.mktemp("ran")), pictures, *SMALL, "--epochs", "1")
    assert ran.code == 0, ran.err
    return ran


@pytest.mark.process
def test_writes_history_curves_confusion_and_checkpoints(ran):
    assert "24 pictures to train on, 6 held out, 5 classes: daisy, dandelion" in ran.err
    assert "best held-out accuracy [95 %]" in ran.out
    assert {path.name for path in ran.folder.iterdir()} == {
        *("train.json", "history.csv", "batch.png", "curves.png", "confusion.csv", "confusion.png", "torch"),
    }
    (row,) = history(ran.folder)
    assert (row["framework"], row["epoch"], row["held_out"]) == ("torch", "1", "6")
    net = variant_named("half_width", 67, 5)
    best, last = ran.folder / "torch/best.safetensors", ran.folder / "torch/last.safetensors"
    assert not np.array_equal(load(last, net)["fc9"]["kernel"], INITS["fan_in"](net, 0)["fc9"]["kernel"])
    facts = metadata(best)
    assert (facts["variant"], facts["size"], facts["init"]) == ("half_width", "67", "fan_in")
    assert json.loads(facts["classes"]) == CLASSES
    assert preprocessing_of(best) == PREPROCESSINGS["plain"].at(67)
    counts = training.read(ran.folder).confusion["torch"]
    assert counts.trace() / counts.sum() == pytest.approx(float(row["held_out_accuracy"]))
    assert metadata(last)["epoch"] == "1"


def test_a_killed_training_goes_on_after_its_last_whole_checkpoint(command, inline, pictures):
    words = ("train", str(pictures), *SMALL, "--epochs", "3", "--out", str(command.results))
    process = command.start(*words)
    wait_for(command.results, "*/history.csv", process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (folder,) = command.results.iterdir()
    before = training.last_result(folder, "torch")
    again = inline("train", str(pictures), "--resume", str(folder))
    assert again.code == 0, again.err
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[before.epoch.epoch - 1]["loss"]) == before.epoch.loss
    assert training.last_result(folder, "torch").epoch.epoch == 3
    counts = training.read(folder).confusion["torch"]
    assert counts.trace() / counts.sum() == pytest.approx(max(float(row["held_out_accuracy"]) for row in rows))
    assert not list(folder.rglob("*.part"))
    ended = inline("train", str(pictures), "--resume", str(folder))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith("--resume: nothing is left of 3 epochs; pass a larger --epochs")


def test_files_that_a_kill_left_behind_follow_from_the_last_checkpoint(inline, ran, pictures, tmp_path):
    there = Path(shutil.copytree(ran.folder, tmp_path / "there"))
    best, table, counts = (there / name for name in ("torch/best.safetensors", "history.csv", "confusion.csv"))
    kept = [path.read_bytes() for path in (best, table, counts)]
    for path in (best, table, counts):
        path.unlink()
    again = inline("train", str(pictures), "--resume", str(there), "--epochs", "2")
    assert again.code == 0, again.err
    made = training.read(there)
    assert [epoch.epoch for epoch in made.epochs] == [1, 2]
    assert table.read_bytes().startswith(kept[1].rstrip())
    if made.best("torch").epoch == 1:
        assert [path.read_bytes() for path in (best, counts)] == [kept[0], kept[2]]
    assert int(metadata(best)["epoch"]) == made.best("torch").epoch
    assert made.confusion["torch"].trace() / 6 == pytest.approx(made.best("torch").held_out_accuracy)


def test_ctrl_c_keeps_the_epochs_and_says_how_to_go_on(command, pictures):
    words = ("train", str(pictures), *SMALL, "--epochs", "500", "--out", str(command.results))
    process = command.start(*words)
    wait_for(command.results, "*/history.csv", process)
    process.send_signal(signal.SIGINT)
    ran = command.finish(process)
    assert ran.code == 130, ran.err
    assert ran.err.splitlines()[-1].endswith(f"continue with `alexnet-bench train {pictures} --resume {ran.folder}`")
    assert (ran.folder / "curves.png").exists()
    assert len(history(ran.folder)) <= training.last_result(ran.folder, "torch").epoch.epoch


def test_a_loss_that_is_not_finite_names_rate_and_init_and_keeps_the_last_finite_checkpoint(inline, pictures):
    ran = train(inline, pictures, *SMALL, "--lr", "1e6", "--init", "he", "--epochs", "2")
    assert ran.code == 1
    (line,) = [line for line in ran.err.splitlines() if "not finite" in line]
    assert line.endswith(", at --lr 1e+06 from --init he: begin with a smaller --lr; no epoch was finished")
    kept = load(ran.folder / "torch/last.safetensors", variant_named("half_width", 67, 5))
    assert all(np.isfinite(array).all() for its in kept.values() for array in its.values())


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(inline, pictures, tmp_path):
    small = ("--size", "67", "--framework", "torch", "--batch", "8", "--epochs", "3")
    with mounted(tmp_path / "small", f"mount -t tmpfs -o size=70m tmpfs {tmp_path / 'small'}") as disk:
        inline.results = disk / "results"
        ran = train(inline, pictures, *small)
        assert ran.code == 2
        assert ran.err.splitlines()[-1].startswith(
            f"alexnet-bench: cannot write to {ran.folder}: No space left on device"
        )
        assert "Traceback" not in ran.err
        assert training.last_result(ran.folder, "torch") is None
        assert load(ran.folder / "torch/last.safetensors", variant_named("half_width", 67, 5))


def test_files_that_are_no_weights_are_named_as_for_run(inline, pictures, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    ran = train(inline, pictures, "--framework", "torch", "--weights", str(tmp_path / "photo.jpg"))
    assert "--weights: photo.jpg: expected a .npy file in Caffe's layout" in ran.err.splitlines()[-1]
    gone = train(inline, pictures, "--framework", "torch", "--weights", str(tmp_path / "gone.pth"))
    assert gone.err.splitlines()[-1].endswith("--weights: gone.pth: cannot read: No such file or directory")


REFUSED = {
    "--freeze conv9": "--freeze: half_width has no layer 'conv9' to train: choose of conv1, conv2",
    "--freeze conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8,fc9": "--freeze: expected fewer than all layers",
    "--classes 3": "--classes: expected at least the 5 of the folder, found 3",
    "--batch 25": "expected at least one batch of pictures to train on, found 24 of a batch of 25; pass a smaller",
    "--lr 0": "--lr: expected a number above 0, found '0'",
    "--lr nan": "--lr: expected a number above 0, found 'nan'",
    "--init best": "unknown init 'best'",
    "--preprocessing alexnet": "unknown preprocessing 'alexnet': choose plain, torchvision, caffe or 2012",
    "--size 30": "half_width",
    "--weights nothing.safetensors": "--weights: nothing.safetensors: cannot read: No such file or directory",
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_is_one_line(inline, pictures, words):
    usual = ["--framework", "torch", *([] if "--size" in words else ["--size", "67"])]
    ran = train(inline, pictures, *usual, *words.split())
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("alexnet-bench: ")
    assert REFUSED[words] in ran.err.splitlines()[-1]
    assert not inline.results.exists()


@pytest.mark.parametrize("text", ["inf", "-1", "0", "x"])
def test_a_rate_is_a_number_above_0(text):
    with pytest.raises(UsageError, match="--lr: expected a number above 0"):
        parse_rate("--lr", text)


class TestWeights:
    """What a training begins with."""

    @pytest.fixture
    def before(self, tmp_path):
        """A checkpoint at 67 px of three classes, by its metadata."""
        net = variant_named("half_width", 67, 3)
        facts = {"variant": "half_width", "size": "67", "classes": json.dumps(["a", "b", "c"])}
        save(INITS["he"](net, 9), tmp_path / "before.safetensors", metadata=facts)
        return tmp_path / "before.safetensors"

    def test_another_number_of_classes_replaces_the_output_layer_alone_and_is_said(self, before, pictures):
        planned = plan(TrainRequest(framework="torch", weights=before), folder.read(pictures))
        assert (planned.settings.variant, planned.settings.size) == ("half_width", 67)
        given, drawn = load(before, variant_named("half_width", 67, 3)), INITS["fan_in"](planned.net, 0)
        for layer, arrays in planned.initial.items():
            wanted = drawn if layer == "fc9" else given
            assert all(np.array_equal(array, wanted[layer][name]) for name, array in arrays.items())
        assert planned.note == (
            "before.safetensors: fc9 was of other classes (a, b, c) and is drawn; every other layer is taken from it"
        )

    def test_the_same_number_of_other_classes_too(self, before, pictures, tmp_path):
        for name in ("daisy", "roses", "tulips"):
            shutil.copytree(pictures / name, tmp_path / "three" / name)
        planned = plan(TrainRequest(framework="torch", weights=before), folder.read(tmp_path / "three"))
        assert "fc9 was of other classes" in planned.note

    def test_the_same_classes_go_on_with_all_layers(self, pictures, tmp_path):
        net = variant_named("half_width", 67, 5)
        facts = {"variant": "half_width", "size": "67", "classes": json.dumps(CLASSES)}
        save(INITS["he"](net, 9), tmp_path / "same.safetensors", metadata=facts)
        planned = plan(TrainRequest(framework="torch", weights=tmp_path / "same.safetensors"), folder.read(pictures))
        assert np.array_equal(planned.initial["fc9"]["kernel"], INITS["he"](net, 9)["fc9"]["kernel"])
        assert planned.note == "same.safetensors: every layer is taken from it"

    @pytest.mark.parametrize(
        ("facts", "preprocessing"),
        [
            ({"preprocessing": msgspec.json.encode(PREPROCESSINGS["caffe"].at(67)).decode()}, "caffe"),
            ({}, "plain"),  # of an earlier release, which had no other
        ],
    )
    def test_pixels_are_as_the_file_says(self, before, pictures, facts, preprocessing):
        save(INITS["he"](variant_named("half_width", 67, 3), 9), before, metadata=metadata(before) | facts)
        planned = plan(TrainRequest(framework="torch", weights=before), folder.read(pictures))
        assert planned.settings.preprocessing == PREPROCESSINGS[preprocessing].at(67)

    def test_pixels_can_be_others_than_those_of_the_file(self, before, pictures):
        """A layer is drawn anyway, and what follows from new pixels is learnt."""
        request = TrainRequest(framework="torch", weights=before, preprocessing="torchvision")
        assert plan(request, folder.read(pictures)).settings.preprocessing == PREPROCESSINGS["torchvision"].at(67)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"variant": "owt"}, "they are of variant half_width, found --variant owt; leave it out"),
            ({"size": 99}, "they are of size 67, found --size 99; leave it out"),
        ],
    )
    def test_a_checkpoint_of_another_net_is_refused(self, before, pictures, changes, expected):
        with pytest.raises(UsageError, match=expected):
            plan(TrainRequest(framework="torch", weights=before, **changes), folder.read(pictures))


class TestPreprocessing:
    def test_an_npy_of_caffe_is_trained_with_caffes_pixels_and_so_are_its_checkpoints(self, inline, pictures, tmp_path):
        arrays = INITS["fan_in"](variant_named("half_width", 67, 5), 9)
        as_caffes = np.array({layer: [its["kernel"], its["bias"]] for layer, its in arrays.items()}, object)
        np.save(tmp_path / "net.npy", as_caffes, allow_pickle=True)
        words = ("--weights", str(tmp_path / "net.npy"), "--variant", "half_width", "--epochs", "1")
        ran = train(inline, pictures, *SMALL, *words)
        assert ran.code == 0, ran.err
        caffes = PREPROCESSINGS["caffe"].at(67)
        assert training.read(ran.folder).settings.preprocessing == caffes
        best = ran.folder / "torch/best.safetensors"
        assert preprocessing_of(best) == caffes
        then = plan(TrainRequest(framework="torch", weights=best), folder.read(pictures))
        assert then.settings.preprocessing == caffes
        assert then.note == "best.safetensors: every layer is taken from it"

    def test_2012_varies_the_colors_that_the_training_pictures_have_also_after_a_resume(
        self, inline, pictures, tmp_path, monkeypatch
    ):
        sent, whole = [], controller.StartTraining
        monkeypatch.setattr(controller, "StartTraining", lambda *words: sent.append(whole(*words)) or sent[-1])
        # its pixels are 60 times larger than the plain ones
        ran = train(inline, pictures, *SMALL, "--lr", "1e-6", "--epochs", "1", "--preprocessing", "2012")
        assert ran.code == 0, ran.err
        record = PREPROCESSINGS["2012"].at(67)
        assert training.read(ran.folder).settings.preprocessing == record
        files = [ran.folder / "torch" / name for name in (training.BEST, training.LAST)]
        assert [preprocessing_of(file) for file in files] == [record] * 2
        again = inline("train", str(pictures), "--resume", str(ran.folder), "--epochs", "2")
        assert again.code == 0, again.err
        assert training.read(ran.folder).settings.preprocessing == record
        preparer.store(folder.read(pictures), record, tmp_path / "stored")
        stored = map_stored(tmp_path / "stored")
        colors = principal_colors(stored.pictures[~stored.held_out])
        assert [request.colors for request in sent] == [colors.tolist()] * 2
        assert [request.preprocessing for request in sent] == [record] * 2
        other = inline("train", str(pictures), "--resume", str(ran.folder), "--epochs", "3", "--preprocessing", "plain")
        assert other.err.endswith("--resume: a training goes on with its own settings; leave out --preprocessing\n")

    def test_without_the_option_pixels_are_plain_and_no_colors_are_varied(self, pictures):
        planned = plan(TrainRequest(framework="torch", size=67), folder.read(pictures))
        assert planned.settings.preprocessing == PREPROCESSINGS["plain"].at(67)
        assert planned.settings.preprocessing.color_noise == 0


def preprocessing_of(path: Path) -> Preprocessing:
    return msgspec.json.decode(metadata(path)["preprocessing"], type=Preprocessing)


def test_a_resumed_training_needs_its_classes_and_keeps_its_settings(inline, ran, pictures, tmp_path):
    shutil.copytree(pictures / "roses", tmp_path / "two" / "roses")
    shutil.copytree(pictures / "tulips", tmp_path / "two" / "tulips")
    other = inline("train", str(tmp_path / "two"), "--resume", str(ran.folder), "--epochs", "2")
    assert other.code == 2
    assert "--resume: it was trained on the pictures of flowers, found other pictures or classes" in other.err
    shutil.copytree(pictures, tmp_path / "more")
    shutil.copy(pictures / "roses/roses_0000.jpg", tmp_path / "more/roses/another.jpg")
    more = inline("train", str(tmp_path / "more"), "--resume", str(ran.folder), "--epochs", "2")
    assert (more.code, more.err.count("found other pictures or classes")) == (2, 1)
    changed = inline("train", str(pictures), "--resume", str(ran.folder), "--epochs", "2", "--lr", "1")
    assert changed.code == 2
    assert changed.err.endswith("--resume: a training goes on with its own settings; leave out --lr\n")
    none = inline("train", str(pictures), "--resume", str(tmp_path))
    assert none.err.endswith(f"{tmp_path}: expected a folder of `train`, found no train.json\n")
