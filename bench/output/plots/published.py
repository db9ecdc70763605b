"""Data of the history plot: published AlexNet timings of 2014 to 2023, and a user's rows, as marks."""

from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import UsageError
from bench.output.plots import frames, style
from impls.layers import LayerError
from impls.variants import VARIANTS

FILE = "published.csv"
NUMBERS = ("batch", "forward_ms", "backward_ms", "forward_backward_ms", "images_per_s")


class Panel(NamedTuple):
    """A panel of the chart: its title, the words for its pass next to a speed, and the passes of its marks."""

    title: str
    words: str
    marks: tuple[str, ...]


PUBLISHED_PASSES = {
    "forward": Panel("forward (inference)", "forward", ("forward",)),
    "forward_backward": Panel("forward + backward", "with backward", ("forward_backward", "train")),
}
#: Kind of a published row -> pass; a full training step (``train``) is none of the timed passes.
PASS_OF = {"inference": "forward", "forward_backward": "forward_backward", "train": "train"}
SHOWN = "number net hardware library precision batch pass images_per_s date source caveat".split()
#: Rows published as ``original`` are, by their caveat, Caffe's net on an input of 224: the Variant ``bvlc`` at 224 px.
BVLC = "bvlc at 224 px"
#: Published nets equal to the Variants of these names, with a date, and without a data layer in the clock.
SHARED = ("owt", BVLC)
#: Columns of a user's rows that are used as text.
WORDS = "run_id variant framework mode device device_name precision size threads net flags valid".split()
MOST, LONGEST = 15, 46  # lines of names per panel, and characters per line
NOT_STATED, UNSIZED = "precision not stated", "size not stated"


def read_timings() -> pd.DataFrame:
    """Read the published timings: one row per timing, ms per batch, and ``day`` (NaT without a stated date).

    Every row has a ``source`` and a ``caveat``, which is quoted wherever its figures are; raises ValueError otherwise.
    ``net`` is the network that was really timed. Only those in SHARED equal the Variants of their names (BVLC is
    ``original`` in the file): ``tf_conv_only`` has no fully connected layers, ``tf_cnn_benchmarks`` other widths,
    ``unknown`` is not stated; ``caffenet`` is undated, and timed in full training steps or with its data layer.
    """
    with resources.files("bench.output.plots").joinpath(FILE).open(encoding="utf-8") as file:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    for name in NUMBERS:
        rows[name] = pd.to_numeric(rows[name].replace("", np.nan))
    good = {"kind": rows["kind"].isin(PASS_OF), "source": rows["source"] != "", "caveat": rows["caveat"] != ""}
    for name, known in good.items():
        if not known.all():
            raise ValueError(f"{FILE}, row {rows.index[~known][0] + 1}: missing or unknown {name}")
    caffes = (rows["net"] == "original") & rows["caveat"].str.startswith("bvlc_alexnet at 224")
    return rows.assign(net=rows["net"].mask(caffes, BVLC), day=pd.to_datetime(rows["date"].map(_day)))


def _day(date: str) -> pd.Timestamp | None:
    """Parse a date; without a day or month it is the middle of the month or year."""
    if not date:
        return None
    year, month, day = [*map(int, date.split("-")), 0, 0][:3]
    return pd.Timestamp(year, month or 7, day or (16 if month else 2))


def select_marks(timings: pd.DataFrame) -> pd.DataFrame:
    """Return the published marks of the chart, with the columns SHOWN, numbered ones first.

    A row timed in both passes has a mark in each panel. ``number`` is <NA> for a mark without one, ``pass`` is train
    for a full training step, and ``images_per_s`` is batch over time unless published itself.
    """
    return marks_of_timings(timings).sort_values(["number", "row", "pass"])[SHOWN].reset_index(drop=True)


def reasons_left_out(timings: pd.DataFrame) -> pd.Series:
    """Return the first reason why each row is not drawn, empty if it is."""
    reasons = {
        "without a date": timings["day"].isna(),
        "without a batch": timings["batch"].isna() & timings["images_per_s"].isna(),
        "of several GPUs at once": timings["hardware"].str.contains(r", (?:[2-9]|\d{2,}) x "),
        "whose loss was nan": timings["caveat"].str.startswith("loss was nan"),
    }
    return pd.Series(np.select(list(reasons.values()), list(reasons), ""), timings.index)


def marks_of_timings(timings: pd.DataFrame) -> pd.DataFrame:
    """Return one row per mark: the published columns, with its ``pass`` and ``images_per_s``, and

    ``row`` (of ``timings``), ``year`` (decimal), ``cpu``, ``look`` (the precision in words), ``series`` (net,
    processor and precision; empty for nets other than SHARED and full training steps), ``fastest`` (of its year,
    series and pass), ``number`` (by date, of rows with a fastest mark; else <NA>).
    """
    inference = timings["kind"] == "inference"
    ms = timings["forward_backward_ms"].where(~inference, timings["forward_ms"])
    rate = timings["images_per_s"].fillna(timings["batch"] * 1e3 / ms)
    own = timings.assign(images_per_s=rate, **{"pass": timings["kind"].map(PASS_OF)})
    inner = timings.assign(images_per_s=timings["batch"] * 1e3 / timings["forward_ms"], **{"pass": "forward"})
    drawn = reasons_left_out(timings) == ""
    both = [own[drawn], inner[drawn & ~inference & timings["forward_ms"].notna()]]
    marks = pd.concat(both).rename_axis("row").reset_index()
    marks["year"] = decimal(marks["day"])
    marks["cpu"] = marks["hardware"].str.startswith("CPU")
    marks["look"] = marks["precision"].replace("", NOT_STATED)
    name = marks["net"] + marks["cpu"].map({True: " CPU ", False: " GPU "}) + marks["look"]
    marks["series"] = name.where(marks["net"].isin(SHARED) & (marks["pass"] != "train"), "")
    groups = marks[marks["series"] != ""].groupby(["series", "pass", marks["day"].dt.year])
    marks["fastest"] = marks.index.isin(groups["images_per_s"].idxmax())
    first = marks[marks["fastest"]].sort_values(["day", "row"])["row"].drop_duplicates()
    marks["number"] = marks["row"].map(dict(zip(first, range(1, len(first) + 1), strict=True))).astype("Int64")
    return marks


def decimal(days: pd.Series) -> pd.Series:
    """Convert days to decimal years."""
    return days.dt.year + (days.dt.day_of_year - 1) / 366


def marks_of_rows(rows: pd.DataFrame | None, edge: float) -> pd.DataFrame:
    """Return a user's summary rows as marks: their own columns, and

    ``net`` (the Variant's name, with a suffix if the net differs from it), ``guest`` (name of a user's own net),
    ``images_per_s``, ``dated``, ``year`` (decimal; ``edge``, or the latest year if later, for a Run without a date).
    Leaves out rows of parts of a net, of several devices, of another pass and those slowed down on purpose; raises
    UsageError if no row is left.
    """
    if rows is None or rows.empty:
        return pd.DataFrame(columns=[*WORDS, "pass", "guest", "images_per_s", "year", "dated"])
    texts = {name: rows[name].map(style.format_value) if name in rows else pd.Series("", rows.index) for name in WORDS}
    ms = pd.to_numeric(rows["mean_ms"], errors="coerce")
    if "center_ms" in rows:
        ms = pd.to_numeric(rows["center_ms"], errors="coerce").fillna(ms)
    rate = pd.to_numeric(rows["batch"], errors="coerce") * 1e3 / ms
    good = rows["pass"].isin(PUBLISHED_PASSES) & (texts["valid"] != "False") & np.isfinite(rate) & (rate > 0)
    if "world" in rows:  # published ones of several devices are left out too
        good &= ~(rows["world"] > 1)
    good &= (
        ~frames.uncounted(rows)
        & ~texts["variant"].str.contains(".", regex=False)
        & ~texts["flags"].str.contains("slowed_down")
    )
    if not good.any():
        raise UsageError(
            f"history: expected a valid {' or '.join(PUBLISHED_PASSES)} of a whole net, found none; time a net"
        )
    params = pd.to_numeric(rows["params"], errors="coerce") if "params" in rows else pd.Series(np.nan, rows.index)
    named = zip(*(texts[name] for name in ("variant", "size", "flags")), params, strict=True)
    net = [_net(*facts) for facts in named]
    day = pd.to_datetime(texts["run_id"].str.extract(r"^(\d{8})T\d{6}Z")[0], format="%Y%m%d", errors="coerce")
    years = decimal(day).astype(float)
    last = np.fmax(edge, years[good].max())
    facts = texts | {"guest": texts["net"], "net": net, "images_per_s": rate}
    return rows.assign(**facts, day=day, dated=day.notna(), year=years.fillna(last))[good]


def _net(variant: str, size: str, flags: str, params: float) -> str:
    """Name a row's net. Without a size it may not be the Variant's own, so such a row is in no published series; nor is
    the row of an older version whose net had other layers."""
    if not size and variant in (*VARIANTS, *SHARED):
        variant = f"{variant}, {UNSIZED}"
    elif np.isfinite(params) and size.isdigit() and variant in VARIANTS and _differs(variant, int(size), params):
        variant = f"{variant} at {size} px, of other layers"
    elif variant in VARIANTS and size != str(VARIANTS[variant].input_size):
        variant = f"{variant} at {size} px"
    return f"{variant}, not proven" if "not_proven" in flags else variant


def _differs(variant: str, size: int, params: float) -> bool:
    try:
        return VARIANTS[variant].resized(size).params != params
    except LayerError:
        return True


def choose_names(new: pd.DataFrame, pass_: str) -> dict[str, Any]:
    """Return the names to print next to a user's marks, mapped to the mark's index: the fastest per framework, net and
    machine, from the slowest up. The net of a name longer than LONGEST is on a second line."""
    groups = new[new["pass"] == pass_].groupby(["framework", "net", "guest", "device", "device_name"])
    best = new.loc[groups["images_per_s"].idxmax()].sort_values("images_per_s", ascending=False)
    names: dict[str, Any] = {}
    for index, row in best.iterrows():
        words = [row["guest"] or row["framework"], row["mode"], row["precision"].replace("fp32", "")]
        label = " ".join(filter(None, words))
        rate = f", {row['device']}: {format_speed(row['images_per_s'])}"
        net = row["net"] if new["net"].nunique() > 1 else ""
        name = f"{label} {net}".strip() + rate
        if len(name) > LONGEST:
            name = cut(label, LONGEST - len(rate)) + rate + (f"\n{net}" if net else "")
        if len("\n".join([*names, name]).split("\n")) > MOST:
            break
        names[name] = index
    return dict(reversed(names.items()))


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def format_speed(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}/s" if images_per_s >= 100 else f"{images_per_s:.3g}/s"
