"""Folders as `train` and `predict` write them, for the report."""

import base64

import numpy as np

from bench.record import prediction, training
from bench.record.events import WeightsFile
from bench.record.prediction import Accuracy, Outcome, Rate
from impls.preprocessing import PREPROCESSINGS

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PLAIN = PREPROCESSINGS["plain"].at(99)


def trained(parent):
    folder = parent / "train<b>"
    folder.mkdir()
    settings = training.Settings(
        schema=training.SCHEMA,
        alexnet_bench="1",
        variant="half_width",
        size=99,
        preprocessing=PLAIN,
        classes=["<i>cat</i>", "dog"],
        frameworks=["torch"],
        epochs=3,
        lr=0.005,
        momentum=0.9,
        decay=5e-4,
        batch=8,
        seed=0,
        init="fan_in",
        freeze=[],
        weights=None,
        pictures=None,
        names="0",
    )
    training.write_settings(folder, settings)
    training.write_history(folder, [training.Epoch("torch", 1, 1.0, 1.1, 0.75, 40, 100.0, 2.0)])
    training.write_confusion(folder, settings.classes, {"torch": np.array([[20, 5], [5, 10]])})
    (folder / training.CURVES).write_bytes(PNG)
    return folder


def predicted(parent):
    folder = parent / "predict"
    folder.mkdir()
    settings = prediction.Settings(
        *(prediction.SCHEMA, "1", WeightsFile("best.safetensors", "abcdef0123"), "half_width", 99, PLAIN),
        *(["cat", "dog"], "the weights", ["torch"], "cpu", 8, ["photos"], False, {}),
    )
    rate = Rate(0.5, 0.4, 0.6)
    outcome = Outcome(True, 12, 10, 2, 0, {}, {"torch": Accuracy(10, rate, None)}, {"converted from CMYK": 3})
    prediction.write_settings(folder, settings, outcome)
    (folder / prediction.MATRIX).write_bytes(PNG)
    (folder / prediction.MISTAKES).write_bytes(PNG)
    return folder
