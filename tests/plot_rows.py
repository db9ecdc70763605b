"""Rows of plots with known figures, and what a panel shows."""

import pandas as pd
from csvs import ROW as CSV_ROW

ROW = CSV_ROW | {"threads": 2}
SIX = [
    *(("jax", "jit", "nhwc"), ("torch", "compile", "nchw"), ("torch", "eager", "nchw")),
    *(("tensorflow", "xla", "nhwc"), ("torch", "eager", "channels_last"), ("tensorflow", "graph", "nhwc")),
]
SERIES = [ROW | {"framework": name, "mode": mode, "layout": layout} for name, mode, layout in SIX]
SPEED = {"center_ms": 10.0, "ci95_low_ms": 8.0, "ci95_high_ms": 12.5}
CEILINGS = {"matmul_gflop_per_s": 120.0, "conv_gflop_per_s": 100.0, "copy_gb_per_s": 10.0}


def words(panel):
    """Texts of a panel, without those of its axes."""
    return [text.get_text() for text in panel.texts if text.get_text()]


def overlapping(panel):
    """Pairs of texts in a panel that lie on each other."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in panel.texts if text.get_text()]
    level = [(text, box) for text, box in boxes if not text.startswith("copy")]  # a turned text's box is mostly empty
    return [(a, b) for i, (a, box) in enumerate(level) for b, other in level[:i] if box.overlaps(other)]


def points(*names, series=SERIES[2:4], passes=("forward", "backward"), kind="layer"):
    """Rows in columns, since every framework does the same work; each framework slower than the one before it."""
    places = {"conv1": 100, "conv2": 500, "conv3": 520, "conv5": 510, "relu1": 0.125, "relu2": 0.125, "fc6": 15.0}
    return [
        row
        | {"name": name, "pass": pass_, "kind": kind, "intensity": at, "gflop_per_s": min(10 * at, 100) / (2 + slow)}
        for pass_ in passes
        for slow, row in enumerate(series)
        for name in names
        for at in [places.get(name.rpartition(".")[2], 60.0)]
    ]


def profile(*layers, series=SERIES[2:4], passes=("forward", "backward"), whole=7.0):
    rows = [(name, kind, ms) for name, kind, ms in layers] + [("sum of layers", "", sum(ms for *_, ms in layers))]
    rows += [("whole net", "", whole)] if whole else []
    return pd.DataFrame(
        row | {"layer": name, "kind": kind, "pass": pass_, "center_ms": ms, "ci95_low_ms": ms, "ci95_high_ms": ms + 1}
        for pass_ in passes
        for row in series
        for name, kind, ms in rows
    )


ROWS = (("conv1", "conv", 6.0), ("relu1", "relu", 0.01), ("fc6", "fc", 2.0))
