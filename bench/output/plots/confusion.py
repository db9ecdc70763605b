"""Confusion matrix of a training: of each framework's best epoch, how often each class was taken for which."""

from pathlib import Path

from matplotlib.ticker import MaxNLocator

from bench.output.plots import frames, style
from bench.record.training import Trained

MOST_NAMED = 30  # classes whose names fit next to an axis
MOST_LETTERS = 24
MOST_COUNTED = 15  # classes whose counts fit in the cells


def draw(trained: Trained, target: Path) -> None:
    """UsageError if it cannot be written."""
    classes = [frames.literal(name, MOST_LETTERS) for name in trained.settings.classes]
    side = min(7.0, 2.4 + 0.35 * len(classes))
    with style.figure(side * len(trained.confusion) + 0.8, side + 0.6, target) as figure:
        panels = figure.subplots(1, len(trained.confusion), squeeze=False)[0]
        for panel, (framework, counts) in zip(panels, trained.confusion.items(), strict=True):
            shares = counts / counts.sum(1, keepdims=True).clip(1)
            panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            best = trained.best(framework)
            right = f"{counts.trace()} of {counts.sum()} right"
            panel.set_title(
                f"{framework}, epoch {best.epoch}: {right}" if best else f"{framework}: {right}", fontsize=10
            )
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
