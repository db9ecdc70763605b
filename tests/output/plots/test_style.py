"""What all plots share: a Figure that is laid out and drawn once, and mistakes in its texts."""

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench import UsageError
from bench.output.plots import style


@pytest.mark.parametrize(("suffix", "places_texts"), [("svg", True), ("svg", False), ("png", False)])
def test_a_plot_is_laid_out_once_and_drawn_once(tmp_path, monkeypatch, suffix, places_texts):
    """Also where a matplotlibrc asks for a layout of its own, and where texts are placed in between."""
    calls = []
    for owner, name in ((ConstrainedLayoutEngine, "execute"), (Figure, "draw")):
        before = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, name=name, it=before, **how: calls.append(name) or it(*args))
    monkeypatch.setitem(matplotlib.rcParams, "figure.autolayout", True)
    with style.figure(2, 2, tmp_path / f"a.{suffix}") as figure:
        figure.subplots().set_title("a")
        if places_texts:
            style.settle(figure)
    assert calls == ["execute", "draw"]


def test_a_text_that_is_no_formula_is_told_from_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match=r"^nothing to draw: a text in it looks like a formula but is not one$"):
        with style.figure(2, 2, tmp_path / "a.svg") as figure:
            figure.text(0, 0, r"$\frac$")
    with pytest.raises(ValueError, match=r"^a mistake of ours$"), style.figure(2, 2, tmp_path / "a.svg"):
        raise ValueError("a mistake of ours")
