"""Where samples lie, and the order they were taken in: every iteration is drawn, or counted in words."""

from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
import pytest
import teams
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from runs import A, B, arms, make

from bench import UsageError
from bench.output.plots import distribution, frames, series, style

MS = 10**6
CASE = {
    "run_id": "r",
    "variant": "owt",
    "device": "cpu",
    "device_name": "a CPU",
    "threads": 2,
    "batch": 8,
    "pass": "forward",
}
TORCH = CASE | {"case_id": "t", "framework": "torch", "mode": "eager"}
JAX = CASE | {"case_id": "j", "framework": "jax", "mode": "jit"}
FEW = ["case_id", "round", "phase", "start_ns", "duration_ns"]


def taken(*cases, rounds=3, ms=(10.0, 11.0, 12.0), burn_in=2, pause_s=0.0):
    """In each Round every Case's burn-in of 20 ms, then two turns of those ms, each after a lead iteration of 15."""
    rows, now = [], 5 * 10**12

    def add(case, round_, phase, one, cycle=None):
        nonlocal now
        at = {"round": round_, "attempt": 0, "phase": phase, "cycle": cycle, "start_ns": now}
        rows.append(case | at | {"duration_ns": round(one * MS), "valid": phase == "sample"})
        now += round(one * MS)

    for round_ in range(rounds):
        for case in cases:
            for _ in range(burn_in):
                add(case, round_, "burn_in", 20.0)
        for case in [*cases, *reversed(cases)]:
            add(case, round_, "lead", 15.0, 0)
            for one in ms:
                add(case, round_, "sample", one, 0)
        now += round(pause_s * 1e9)
    return pd.DataFrame(rows)


@pytest.fixture
def unsaved(monkeypatch):
    """A plot is laid out and not painted, which takes most of its time; both are painted once at the end."""
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *args, **kwargs: None)


def test_one_device_and_several_have_names_of_their_own(tmp_path):
    names = distribution.prepare(frames.samples([teams.make(tmp_path / "run").folder]))[0]["series"].unique()
    assert list(names) == ["torch eager 1 device", "torch eager 2 devices"]


def dots(panel, color, marker=None):
    """Places of a panel's markers in a color, filled or not."""
    lines = [
        line for line in panel.lines if line.get_linestyle() == "None" and to_hex(line.get_color()) == color.lower()
    ]
    chosen = [line for line in lines if marker in (None, line.get_marker())]
    return np.array([place for line in chosen for place in zip(*line.get_data(), strict=True)])


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def ticks(panel):
    return [label.get_text() for label in panel.get_yticklabels()]


def medians(panel, color=style.INK):
    """Where ticks or lines of a color begin."""
    lines = [one for one in panel.collections if isinstance(one, LineCollection)]
    found = [one for one in lines if to_hex(one.get_color()[0]) == color.lower()]
    return [tuple(map(float, path.vertices[0])) for one in found for path in one.get_paths()]


@pytest.mark.usefixtures("unsaved")
class TestDistribution:
    def test_every_valid_sample_is_a_dot_in_its_frameworks_color(self, tmp_path):
        rows = taken(TORCH, JAX, TORCH | {"case_id": "both", "pass": "forward_backward"})
        figure = distribution.draw(rows, tmp_path / "d.png")
        forward, both = figure.axes
        assert [panel.get_title() for panel in figure.axes] == ["forward", "forward + backward"]
        counts = [len(dots(forward, style.COLORS[name])) for name in ("torch", "jax")]
        assert [*counts, len(dots(both, style.COLORS["torch"]))] == [18, 18, 18]
        assert sorted(set(dots(forward, style.COLORS["jax"])[:, 0])) == [10.0, 11.0, 12.0]
        assert ticks(forward) == ["torch eager\n18 samples, 3 Rounds", "jax jit\n18 samples, 3 Rounds"]
        assert ticks(both) == ["torch eager\n18 samples, 3 Rounds"]

    def test_each_round_has_a_lane_with_its_median_above_the_quartiles_of_all(self, tmp_path):
        rows = taken(TORCH)
        rows["duration_ns"] += rows["round"] * 100 * MS
        (panel,) = distribution.draw(rows, tmp_path / "d.png").axes
        lanes = [(x, y) for x, y in medians(panel)]
        assert [x for x, _ in lanes] == [11.0, 111.0, 211.0, 111.0]
        assert sorted(y for _, y in lanes) == [y for _, y in lanes]
        found = dots(panel, style.COLORS["torch"])
        for number, (top, bottom) in enumerate(pairwise([y for _, y in lanes])):
            mine = found[found[:, 0] // 100 == number]
            assert len(mine) == 6
            assert ((mine[:, 1] > top) & (mine[:, 1] < bottom)).all()
        (box,) = panel.patches
        q1, q3, p95 = np.quantile(found[:, 0], [0.25, 0.75, 0.95])
        assert (box.get_x(), box.get_width()) == pytest.approx((q1, q3 - q1))
        assert any(x == pytest.approx(p95) for x, _ in medians(panel, style.COLORS["torch"]))

    def test_one_run_drawn_twice_looks_the_same(self, tmp_path):
        first, second = (distribution.draw(taken(TORCH), tmp_path / "d.png").axes[0] for _ in range(2))
        assert (dots(first, style.COLORS["torch"]) == dots(second, style.COLORS["torch"])).all()

    def test_a_severe_outlier_is_counted_beyond_the_axis(self, tmp_path):
        rows = taken(TORCH, ms=(10.0, 11.0, 12.0, 13.0, 12.0, 11.0, 10.0, 11.0))
        rows.loc[[25, 45], "duration_ns"] = [1234 * MS, 2345 * MS]
        (panel,) = distribution.draw(rows, tmp_path / "d.png").axes
        left, right = panel.get_xlim()
        assert 0 < left < 10 < 13 < right < 20
        assert [text.get_text() for text in panel.texts] == ["2 beyond, up to 2,345 ms"]
        assert (dots(panel, style.COLORS["torch"], ">")[:, 0] == right).all()
        assert len(dots(panel, style.COLORS["torch"])) == 48

    def test_without_an_outlier_the_axis_shows_all(self, tmp_path):
        (panel,) = distribution.draw(taken(TORCH), tmp_path / "d.png").axes
        assert not panel.texts
        assert panel.get_xlim()[0] < 10 < 12 < panel.get_xlim()[1]

    def test_cases_far_apart_stand_on_a_logarithmic_axis(self, tmp_path):
        rows = taken(TORCH, JAX)
        rows.loc[rows["case_id"] == "j", "duration_ns"] *= 20
        (panel,) = distribution.draw(rows, tmp_path / "d.png").axes
        assert panel.get_xscale() == "log"
        assert distribution.draw(taken(TORCH, JAX), tmp_path / "d.png").axes[0].get_xscale() == "linear"

    def test_runs_batches_variants_and_arms_are_told_apart(self, tmp_path):
        def labels(*cases):
            figure = distribution.draw(taken(*cases, rounds=1), tmp_path / "d.png")
            return [label.rsplit("\n", 1)[0] for label in ticks(figure.axes[0])]

        assert labels(TORCH, TORCH | {"run_id": "s"}) == ["torch eager r", "torch eager s"]
        batches = [TORCH | {"batch": batch, "case_id": f"b{batch}"} for batch in (32, 8)]
        assert labels(*batches) == ["torch eager batch 8", "torch eager batch 32"]
        variants = [TORCH | {"variant": name, "case_id": name} for name in ("caffenet", "owt")]
        assert labels(*variants) == ["torch eager caffenet", "torch eager owt"]
        assert labels(*[TORCH | {"arm": arm, "case_id": arm} for arm in "AB"]) == ["torch eager A", "torch eager B"]
        assert labels(TORCH, TORCH | {"case_id": "u"}) == ["torch eager t", "torch eager u"]

    def test_rows_left_out_are_counted_below_the_axis(self, tmp_path):
        rows = taken(TORCH)
        rows.loc[rows["round"] == 2, "valid"] = False
        rows["duration_ns"] = rows["duration_ns"].astype(float)
        rows.loc[[0, 3, 4], "duration_ns"] = [np.nan, -1.0, np.inf]
        rows.loc[[1], "phase"] = "cooling"
        (panel,) = distribution.draw(rows, tmp_path / "d.png").axes
        assert panel.get_xlabel() == (
            "ms (less is faster)\nleft out: 3 without a duration, 1 of an unknown phase, 6 not valid"
        )
        assert ticks(panel) == ["torch eager\n10 samples, 2 Rounds"]

    def test_title_counts_one_thread_as_one(self, tmp_path):
        rows = taken(TORCH | {"device_name": "a CPU", "threads": 1}, rounds=1)
        assert distribution.draw(rows, tmp_path / "d.png").get_suptitle().endswith("a CPU, 1 thread")

    def test_another_programs_rows_are_named_by_their_case(self, tmp_path):
        figure = distribution.draw(taken(TORCH, JAX, rounds=1)[FEW], tmp_path / "d.png")
        (panel,) = figure.axes
        assert ticks(panel) == ["j\n6 samples, 1 Round", "t\n6 samples, 1 Round"]
        assert len(dots(panel, style.OTHER)) == 12
        assert figure.get_suptitle() == "samples"

    def test_rows_of_ours_and_of_another_program_share_a_picture(self, tmp_path):
        rows = pd.concat([taken(TORCH), taken(JAX | {"case_id": "theirs", "run_id": "s"})[[*FEW, "run_id"]]])
        figure = distribution.draw(rows, tmp_path / "d.png")
        names = [label.split("\n")[0] for panel in figure.axes for label in ticks(panel)]
        assert names == ["torch eager", "theirs"]

    def test_without_a_valid_sample_the_error_counts_the_rows(self, tmp_path):
        rows = taken(TORCH, rounds=1)
        rows["valid"] = False
        expected = (
            "nothing to draw: expected a valid row of phase sample with a duration_ns above 0, "
            "found invalid sample 6, burn-in 2, lead iteration 2; name a Run with at least one finished Round"
        )
        with pytest.raises(UsageError, match=expected):
            distribution.draw(rows, tmp_path / "d.png")
        with pytest.raises(UsageError, match="found no row; name a Run"):
            distribution.draw(rows[:0], tmp_path / "d.png")


@pytest.mark.usefixtures("unsaved")
class TestSeries:
    def test_every_iteration_is_drawn_once_in_its_passes_panel_as_what_it_is(self, tmp_path):
        rows = taken(TORCH, TORCH | {"case_id": "both", "pass": "forward_backward"}, JAX)
        rows.loc[rows["round"] == 2, "valid"] = False
        figure = series.draw(rows, tmp_path / "s.png")
        forward, both, alone = figure.axes
        assert [panel.get_title(loc="left") for panel in figure.axes] == [
            "forward",
            "forward + backward",
            "Round 1 alone, turn by turn",
        ]
        for panel, color in ((forward, "torch"), (forward, "jax"), (both, "torch")):
            found = dots(panel, style.COLORS[color])
            assert len(found) == 3 * (2 + 2 * 4)
            assert len(dots(panel, style.COLORS[color], "x")) == 6
        hollow = [line for line in forward.lines if line.get_markerfacecolor() == "none"]
        assert [set(line.get_ydata()) for line in hollow] == [{20.0}] * 2
        assert len(dots(alone, style.COLORS["torch"])) == 2 * (2 + 2 * 4)
        assert legend(figure) == [
            *("torch eager", "jax jit", "burn-in", "lead iteration", "invalid sample", "median of a Round")
        ]

    def test_x_is_the_time_since_the_first_iteration(self, tmp_path):
        rows = taken(TORCH, JAX, rounds=1).sample(frac=1, random_state=0)
        (panel,) = series.draw(rows, tmp_path / "s.png").axes
        ordered = rows.sort_values("start_ns")
        since = (ordered["start_ns"] - ordered["start_ns"].min()) / 1e9
        for name, case in (("torch", "t"), ("jax", "j")):
            assert sorted(dots(panel, style.COLORS[name])[:, 0]) == pytest.approx(
                list(since[ordered["case_id"] == case])
            )
        assert panel.get_xlabel() == "s since the first iteration"

    def test_a_turn_is_a_line_of_its_own(self, tmp_path):
        (panel,) = series.draw(taken(TORCH, JAX, rounds=1), tmp_path / "s.png").axes
        lines = [line for line in panel.lines if line.get_linestyle() == "-"]
        pieces = [np.isnan(line.get_ydata()).sum() + 1 for line in lines]
        assert pieces == [3, 3]  # burn-in and two turns: the lead iteration parts jax's, which nothing stands between
        rows = taken(TORCH, rounds=1)
        (panel,) = series.draw(rows[rows["phase"] != "lead"], tmp_path / "s.png").axes
        assert np.isnan(panel.lines[0].get_ydata()).sum() == 1

    def test_pauses_are_shortened_and_their_sum_is_named(self, tmp_path):
        forward, _ = series.draw(taken(TORCH, pause_s=100.0), tmp_path / "s.png").axes
        assert forward.get_xlim()[1] < 1
        assert _.get_xlabel() == "s since the first iteration, without 200 s of pauses"

    def test_rounds_are_bounded_and_named_and_burn_in_is_on_grey(self, tmp_path):
        rows = taken(TORCH)
        again = rows[rows["round"] == 2].assign(attempt=1, start_ns=lambda those: those["start_ns"] + 10**10)
        forward, _ = series.draw(pd.concat([rows, again]), tmp_path / "s.png").axes
        assert [text.get_text() for text in forward.texts] == ["Round 1", "Round 2", "Round 3", "Round 3 again"]
        bands = next(one for one in forward.collections if isinstance(one, PolyCollection))
        assert to_hex(bands.get_facecolor()[0]) == style.SHADE.lower()
        assert len(bands.get_paths()) == 4
        hollow = next(line for line in forward.lines if line.get_markerfacecolor() == "none")
        spans = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in bands.get_paths()]
        assert all(any(low <= x <= high for low, high in spans) for x in hollow.get_xdata())

    def test_labels_of_many_rounds_do_not_touch(self, tmp_path):
        figure = series.draw(taken(TORCH, rounds=40), tmp_path / "s.png")
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert 5 < len(boxes) < 40
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))

    def test_each_round_has_a_line_at_the_median_of_its_valid_samples(self, tmp_path):
        rows = taken(TORCH)
        rows["duration_ns"] += rows["round"] * MS
        rows.loc[rows["round"] == 1, "valid"] = False
        forward, _ = series.draw(rows, tmp_path / "s.png").axes
        assert [y for _, y in medians(forward, style.COLORS["torch"])] == [11.0, 13.0]

    def test_two_arms_have_markers_and_lines_of_their_own(self, tmp_path):
        run = make(tmp_path / "aa", arms(A), rounds=2)
        run.write()
        figure = series.draw(frames.samples([run.folder]), tmp_path / "s.png")
        looks = [(one.get_marker(), one.get_linestyle()) for one in figure.legends[0].get_lines()[:2]]
        assert legend(figure)[:2] == ["torch eager A", "torch eager B"]
        assert looks == [("o", "-"), ("v", ":")]
        lines = [one for one in figure.axes[0].collections if isinstance(one, LineCollection)]
        dashes = [one.get_linestyle()[0][1] for one in lines if to_hex(one.get_color()[0]) == "#d55e00"]
        assert dashes[0] is None
        assert dashes[1] is not None

    def test_iterations_beyond_the_axis_are_marked_and_counted(self, tmp_path):
        rows = taken(TORCH)
        rows.loc[1, "duration_ns"] = 9999 * MS
        forward, _ = series.draw(rows, tmp_path / "s.png").axes
        assert forward.get_title(loc="right") == "1 beyond, up to 9,999 ms"
        assert forward.get_ylim()[1] < 30
        assert len(dots(forward, style.COLORS["torch"])) == 30
        assert [y for _, y in dots(forward, style.COLORS["torch"], "^")] == [forward.get_ylim()[1]]

    @pytest.mark.parametrize(
        ("start", "why"), [(7, "all rows have one start_ns"), (None, "not every row has a start_ns")]
    )
    def test_without_start_times_x_is_the_number_of_the_iteration(self, tmp_path, start, why):
        (panel,) = series.draw(taken(TORCH, rounds=1).assign(start_ns=start), tmp_path / "s.png").axes
        assert sorted(dots(panel, style.COLORS["torch"])[:, 0]) == list(range(1, 11))
        assert panel.get_xlabel() == f"iteration, in the order of the table: {why}"

    def test_a_run_that_went_on_after_a_restart_keeps_its_order(self, tmp_path):
        rows = taken(TORCH)
        rows.loc[rows["round"] == 2, "start_ns"] -= 5 * 10**12
        forward, _ = series.draw(rows, tmp_path / "s.png").axes
        assert [text.get_text() for text in forward.texts] == ["Round 1", "Round 2", "Round 3"]

    def test_few_columns_and_no_burn_in_are_enough(self, tmp_path):
        rows = taken(TORCH, JAX, burn_in=0)[FEW]
        figure = series.draw(rows[rows["phase"] == "sample"], tmp_path / "s.png")
        assert len(dots(figure.axes[0], style.OTHER)) == 36
        assert legend(figure) == ["j", "t", "median of a Round"]

    @pytest.mark.filterwarnings("error")
    def test_one_iteration_is_a_picture(self, tmp_path):
        rows = taken(TORCH, rounds=1)
        (panel,) = series.draw(rows[-1:], tmp_path / "s.png").axes
        assert len(dots(panel, style.COLORS["torch"])) == 1

    def test_a_run_whose_samples_are_all_invalid_is_still_drawn(self, tmp_path):
        figure = series.draw(taken(TORCH).assign(valid=False), tmp_path / "s.png")
        assert len(dots(figure.axes[0], style.COLORS["torch"], "x")) == 18
        assert "median of a Round" not in legend(figure)

    def test_several_runs_have_no_clock_in_common(self, tmp_path):
        rows = pd.concat([taken(TORCH), taken(TORCH | {"run_id": "s"})])
        with pytest.raises(UsageError, match=r"series: expected one Run, found 2 \(r, s\): draw each by itself"):
            series.draw(rows, tmp_path / "s.png")

    def test_without_any_duration_the_error_says_so(self, tmp_path):
        rows = taken(TORCH, rounds=1).assign(duration_ns=-1)
        with pytest.raises(UsageError, match="a row with a duration_ns above 0, found without a duration 10; name"):
            series.draw(rows, tmp_path / "s.png")


def test_a_run_is_painted(tmp_path):
    run = make(tmp_path / "run", [A, B, replace(A, pass_="forward_backward")], rounds=2, disturbed=[1], base_ns=10**7)
    series.draw(frames.samples([run.folder]), tmp_path / "series.svg")
    assert "torch eager" in (tmp_path / "series.svg").read_text()


@pytest.mark.parametrize("draw", [distribution.draw, series.draw])
def test_many_samples_are_pixels_in_a_small_file_and_no_global_setting_changes(tmp_path, draw):
    dice, before = np.random.default_rng(0), dict(matplotlib.rcParams)
    draw(taken(TORCH, rounds=2, ms=10 + dice.random(1000)), tmp_path / "many.svg")
    assert dict(matplotlib.rcParams) == before
    assert "<image" in (tmp_path / "many.svg").read_text()
    assert (tmp_path / "many.svg").stat().st_size < 400_000
