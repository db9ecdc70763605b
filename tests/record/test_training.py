"""Files of a training are read as they were written, whatever the names of the classes are."""

import numpy as np
import pytest

from bench import UsageError
from bench.output import training_table
from bench.output.plots import confusion as confusion_plot
from bench.output.plots import curves
from bench.record import training
from bench.record.training import Epoch, Settings
from impls.preprocessing import PREPROCESSINGS

CLASSES = ["=cmd|' /C calc'!A0", "a,b", "$x$", 'quote"d', "日本"]


def settings(**changes):
    facts = {
        **{"schema": training.SCHEMA, "alexnet_bench": "0", "variant": "half_width", "size": 99, "classes": CLASSES},
        **{"frameworks": ["torch", "jax"], "epochs": 3, "lr": 0.005, "momentum": 0.9, "decay": 5e-4, "batch": 32},
        **{"preprocessing": PREPROCESSINGS["2012"].at(99)},
        **{"seed": 0, "init": "fan_in", "freeze": [], "weights": None, "pictures": None, "names": "0"},
    }
    return Settings(**{**facts, **changes})


def epoch(framework, number, right, loss=1.0, held_out=20):
    return Epoch(framework, number, 1.5, loss, right / held_out, held_out, 100.0, 4.0)


EPOCHS = [epoch("torch", 1, 4), epoch("torch", 2, 12), epoch("torch", 3, 12, 0.9), epoch("jax", 1, 4)]
CONFUSION = {
    "torch": np.diag([4, 4, 4, 0, 0]) + np.eye(5, k=1, dtype=int) * 2,
    "jax": np.outer([4, 4, 4, 4, 4], [1, 0, 0, 0, 0]),
}


@pytest.fixture
def trained(tmp_path):
    training.write_settings(tmp_path, settings())
    training.write_history(tmp_path, EPOCHS)
    training.write_confusion(tmp_path, CLASSES, CONFUSION)
    return training.read(tmp_path)


def test_settings_epochs_and_confusion_are_read_as_written(trained):
    assert trained.settings == settings()
    assert list(trained.epochs) == EPOCHS
    assert {name: counts.tolist() for name, counts in trained.confusion.items()} == {
        name: counts.tolist() for name, counts in CONFUSION.items()
    }


def test_no_cell_of_a_class_is_a_formula(trained):
    cells = (trained.folder / "confusion.csv").read_text().split(",")
    assert not [cell for cell in cells if cell.strip('"').startswith("=")]


def test_best_is_the_highest_accuracy_then_the_lowest_loss(trained):
    assert trained.best("torch") == EPOCHS[2]


def test_chance_is_said_where_the_interval_reaches_the_most_frequent_class(trained):
    lines = [line for line in training_table.remarks(trained) if "still at chance" in line]
    (line,) = lines
    assert line.startswith("jax: still at chance: the interval reaches 20%, the share of the most frequent class; ")


def test_plots_are_drawn_with_any_names(trained):
    curves.draw(trained, trained.folder / "curves.png")
    confusion_plot.draw(trained, trained.folder / "confusion.png")
    assert (trained.folder / "confusion.png").stat().st_size > 10_000


def test_many_classes_are_drawn_without_their_names(tmp_path):
    many = [f"class {number}" for number in range(200)]
    training.write_settings(tmp_path, settings(classes=many, frameworks=["torch"]))
    training.write_history(tmp_path, EPOCHS[:3])
    training.write_confusion(tmp_path, many, {"torch": np.eye(200, dtype=int)})
    confusion_plot.draw(training.read(tmp_path), tmp_path / "confusion.png")


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("train.json", "{", "cannot read what `train` wrote"),
        ("train.json", '{"schema": 1}', "cannot read what `train` wrote"),
        ("history.csv", "framework,epoch\ntorch,x\n", "cannot read what `train` wrote"),
        ("confusion.csv", "framework,truth,predicted,count\ntorch,unknown,a,1\n", "cannot read what `train` wrote"),
    ],
)
def test_a_damaged_file_is_one_line(trained, file, text, expected):
    (trained.folder / file).write_text(text)
    with pytest.raises(UsageError, match=expected):
        training.read(trained.folder)
