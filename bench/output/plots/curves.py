"""Curves of a training: loss and held-out accuracy per epoch, all frameworks on one axis."""

import textwrap
from pathlib import Path

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.output.plots import style
from bench.record.training import Trained

APART = (
    "Frameworks begin with equal weights, pictures and crops. They part at the first rounding that decides a ReLU "
    "differently, and draw their own dropout."
)


def draw(trained: Trained, target: Path) -> None:
    """UsageError if it cannot be written."""
    settings = trained.settings
    with style.figure(10.0, 4.6, target) as figure:
        losses, accuracies = figure.subplots(1, 2)
        handles: list[Line2D] = []
        for framework in dict.fromkeys(epoch.framework for epoch in trained.epochs):
            epochs = trained.of(framework)
            numbers = [epoch.epoch for epoch in epochs]
            color = style.COLORS.get(framework, style.OTHER)
            losses.plot(numbers, [epoch.loss for epoch in epochs], color=color, linestyle="--", marker=".")
            losses.plot(numbers, [epoch.held_out_loss for epoch in epochs], color=color, marker="o", markersize=4)
            right = [epoch.accuracy for epoch in epochs]
            accuracies.plot(numbers, [each.value for each in right], color=color, marker="o", markersize=4)
            low, high = [each.low for each in right], [each.high for each in right]
            accuracies.fill_between(numbers, low, high, color=color, alpha=0.12, linewidth=0)
            handles.append(Line2D([], [], color=color, marker="o", markersize=4, label=framework))
        losses.set_ylabel("mean cross-entropy")
        losses.set_ylim(bottom=0)
        accuracies.set_ylabel("accuracy on held-out pictures")
        accuracies.set_ylim(0, 1)
        for panel in (losses, accuracies):
            panel.set_xlabel("epoch")
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            style.grid(panel)
        handles.append(Line2D([], [], color=style.FAINT, linestyle="--", marker=".", label="while training"))
        handles.append(Line2D([], [], color=style.FAINT, marker="o", markersize=4, label="held out"))
        named = f"{settings.variant} at {settings.size} px, batch {settings.batch}, rate {settings.lr:g}"
        figure.suptitle(f"{named}, {len(settings.classes)} classes, {trained.epochs[0].held_out} pictures held out")
        if len(trained.settings.frameworks) > 1:
            accuracies.set_title(textwrap.fill(APART, 62), fontsize=8, color=style.FAINT)
        style.legend(figure, handles, [str(handle.get_label()) for handle in handles])
