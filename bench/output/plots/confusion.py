"""Confusion matrix: how often pictures of each class were taken for which, in each framework."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator

from bench.output.plots import frames, style
from bench.record.training import Trained

MOST_NAMED = 30  # classes whose names fit next to an axis
MOST_LETTERS = 24
MOST_COUNTED = 15  # classes whose counts fit in the cells


def draw(trained: Trained, target: Path) -> None:
    """Of each framework's best epoch; UsageError if it cannot be written."""
    epochs = {framework: best.epoch for framework in trained.confusion if (best := trained.best(framework))}
    heads = {name: f"{name}, epoch {epochs[name]}" if name in epochs else name for name in trained.confusion}
    draw_counts(trained.settings.classes, {heads[name]: counts for name, counts in trained.confusion.items()}, target)


def draw_counts(names: Sequence[str], by_title: Mapping[str, np.ndarray], target: Path) -> None:
    """A panel per title, which how many are right is added to. UsageError if it cannot be written.

    Parameters
    ----------
    by_title : mapping of title to ndarray of shape (classes, classes), int
        True classes in rows.
    """
    classes = [frames.literal(name, MOST_LETTERS) for name in names]
    side = min(7.0, 2.4 + 0.35 * len(classes))
    with style.figure(side * len(by_title) + 0.8, side + 0.6, target) as figure:
        panels = figure.subplots(1, len(by_title), squeeze=False)[0]
        for panel, (title, counts) in zip(panels, by_title.items(), strict=True):
            shares = counts / counts.sum(1, keepdims=True).clip(1)
            panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            panel.set_title(f"{title}: {counts.trace():,} of {counts.sum():,} right", fontsize=10)
            panel.set_xlabel("predicted")
            for axis in (panel.xaxis, panel.yaxis):
                if len(classes) <= MOST_NAMED:
                    axis.set_ticks(range(len(classes)), classes)
                else:
                    axis.set_major_locator(MaxNLocator(integer=True))
            for label in panel.get_xticklabels():
                label.set(rotation=90 if len(classes) > 5 else 45, rotation_mode="anchor", ha="right", va="center")
            if len(classes) <= MOST_COUNTED:
                for truth, row in enumerate(counts):
                    for predicted, count in enumerate(row):
                        color = "white" if shares[truth, predicted] > 0.5 else style.INK
                        panel.text(predicted, truth, f"{count}", ha="center", va="center", fontsize=9, color=color)
        panels[0].set_ylabel("true class")
