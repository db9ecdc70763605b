"""History: the published AlexNet timings of 2014 to 2023 as marks of a chart, and a user's rows beside them."""

from importlib import resources
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench import UsageError
from bench.output.plots import style
from impls.variants import VARIANTS

FILE = "published.csv"
NUMBERS = ("batch", "forward_ms", "backward_ms", "forward_backward_ms", "images_per_s")


class Panel(NamedTuple):
    """A pass of ours of which something is published: its heading, its words in a speed, and the marks under it."""

    title: str
    words: str
    marks: tuple[str, ...]


PUBLISHED_PASSES = {
    "forward": Panel("forward (inference)", "forward", ("forward",)),
    "forward_backward": Panel("forward + backward", "with backward", ("forward_backward", "train")),
}
#: What a published row timed, and the pass of ours that this is; a full training step is none.
PASS_OF = {"inference": "forward", "forward_backward": "forward_backward", "train": "train"}
SHOWN = "number net hardware library precision batch pass images_per_s date source caveat".split()
#: What is published as ``original`` is, by its caveat, Caffe's net on an input of 224: our ``bvlc`` at that size.
BVLC = "bvlc at 224 px"
#: Published nets that are our Variants of those names, with a date, and without a data layer in the clock.
SHARED = ("owt", BVLC)
#: Of a user's rows, what is used as text.
WORDS = "run_id variant framework mode device device_name precision size threads net flags valid".split()
MOST, LONGEST = 15, 46  # lines of names that a panel has room for, and characters of one
NOT_STATED, UNSIZED = "precision not stated", "size not stated"


def read_timings() -> pd.DataFrame:
    """The published timings, one row each; milliseconds a batch, and ``day`` (NaT where no date is stated).

    Source rule: every row carries the source it was read from and the caveat that stands wherever its figures do.
    ``net`` is the network that was really timed, and only SHARED are our Variants of those names (BVLC stands in the
    file as ``original``, by its family): ``tf_conv_only`` has no fully connected layers, ``tf_cnn_benchmarks`` other
    widths, ``unknown`` was not told; ``caffenet`` is our Variant, but undated, and timed in full training steps or with
    its data layer. ValueError where the rule is broken.
    """
    with resources.files("bench.output.plots").joinpath(FILE).open(encoding="utf-8") as file:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    for name in NUMBERS:
        rows[name] = pd.to_numeric(rows[name].replace("", np.nan))
    good = {"kind": rows["kind"].isin(PASS_OF), "source": rows["source"] != "", "caveat": rows["caveat"] != ""}
    for name, known in good.items():
        if not known.all():
            raise ValueError(f"{FILE}, row {rows.index[~known][0] + 1}: no {name}, or one that is not known")
    caffes = (rows["net"] == "original") & rows["caveat"].str.startswith("bvlc_alexnet at 224")
    return rows.assign(net=rows["net"].mask(caffes, BVLC), day=pd.to_datetime(rows["date"].map(_day)))


def _day(date: str) -> pd.Timestamp | None:
    """The middle of a month or a year of which no day is stated."""
    if not date:
        return None
    year, month, day = [*map(int, date.split("-")), 0, 0][:3]
    return pd.Timestamp(year, month or 7, day or (16 if month else 2))


def select_marks(timings: pd.DataFrame) -> pd.DataFrame:
    """The published marks that the chart has, with the columns SHOWN, those that have a number in its key first.

    A row that was timed both ways has a mark in each panel; ``number`` is <NA> where there is none, ``pass`` is train
    for a full training step, and ``images_per_s`` is batch over time where it was not published itself.
    """
    return marks_of_timings(timings).sort_values(["number", "row", "pass"])[SHOWN].reset_index(drop=True)


def reasons_left_out(timings: pd.DataFrame) -> pd.Series:
    """Why each row is not drawn, the first reason that holds; empty where it is."""
    reasons = {
        "without a date": timings["day"].isna(),
        "without a batch": timings["batch"].isna() & timings["images_per_s"].isna(),
        "of several GPUs at once": timings["hardware"].str.contains(r", (?:[2-9]|\d{2,}) x "),
        "whose loss was nan": timings["caveat"].str.startswith("loss was nan"),
    }
    return pd.Series(np.select(list(reasons.values()), list(reasons), ""), timings.index)


def marks_of_timings(timings: pd.DataFrame) -> pd.DataFrame:
    """One row a mark: the published columns, with the ``pass`` and its images_per_s, and besides

    ``row`` (of ``timings``), ``year`` (decimal), ``cpu``, ``look`` (its precision in words), ``series`` (net,
    processor and precision; empty for what is in none: nets other than SHARED, full training steps), ``fastest`` (of
    its year, series and pass), ``number`` (of a row that is fastest somewhere, by date; else <NA>).
    """
    inference = timings["kind"] == "inference"
    ms = timings["forward_backward_ms"].where(~inference, timings["forward_ms"])
    rate = timings["images_per_s"].fillna(timings["batch"] * 1e3 / ms)
    own = timings.assign(images_per_s=rate, **{"pass": timings["kind"].map(PASS_OF)})
    inner = timings.assign(images_per_s=timings["batch"] * 1e3 / timings["forward_ms"], **{"pass": "forward"})
    drawn = reasons_left_out(timings) == ""
    both = [own[drawn], inner[drawn & ~inference & timings["forward_ms"].notna()]]
    found = pd.concat(both).rename_axis("row").reset_index()
    found["year"] = decimal(found["day"])
    found["cpu"] = found["hardware"].str.startswith("CPU")
    found["look"] = found["precision"].replace("", NOT_STATED)
    name = found["net"] + found["cpu"].map({True: " CPU ", False: " GPU "}) + found["look"]
    found["series"] = name.where(found["net"].isin(SHARED) & (found["pass"] != "train"), "")
    groups = found[found["series"] != ""].groupby(["series", "pass", found["day"].dt.year])
    found["fastest"] = found.index.isin(groups["images_per_s"].idxmax())
    first = found[found["fastest"]].sort_values(["day", "row"])["row"].drop_duplicates()
    found["number"] = found["row"].map(dict(zip(first, range(1, len(first) + 1), strict=True))).astype("Int64")
    return found


def decimal(days: pd.Series) -> pd.Series:
    """Days as decimal years."""
    return days.dt.year + (days.dt.day_of_year - 1) / 366


def marks_of_rows(rows: pd.DataFrame | None, edge: float) -> pd.DataFrame:
    """A user's summary rows, one a mark: what they came with, and besides

    ``net`` (the Variant's name, and more where it is another net than that), ``guest`` (a user's own net's name),
    ``images_per_s``, ``dated``, ``year`` (decimal; ``edge``, or what is later, where the Run has no date). Rows of
    parts of a net, of another pass and those slowed down on purpose are left out; UsageError where no row is left.
    """
    if rows is None or rows.empty:
        return pd.DataFrame(columns=[*WORDS, "pass", "guest", "images_per_s", "year", "dated"])
    said = {name: rows[name].map(style.format_value) if name in rows else pd.Series("", rows.index) for name in WORDS}
    ms = pd.to_numeric(rows["mean_ms"], errors="coerce")
    if "center_ms" in rows:
        ms = pd.to_numeric(rows["center_ms"], errors="coerce").fillna(ms)
    rate = pd.to_numeric(rows["batch"], errors="coerce") * 1e3 / ms
    good = rows["pass"].isin(PUBLISHED_PASSES) & (said["valid"] != "False") & np.isfinite(rate) & (rate > 0)
    good &= ~said["variant"].str.contains(".", regex=False) & ~said["flags"].str.contains("slowed_down")
    if not good.any():
        raise UsageError(
            f"history: expected a valid {' or '.join(PUBLISHED_PASSES)} of a whole net, found none; time a net"
        )
    net = [_net(*facts) for facts in zip(said["variant"], said["size"], said["flags"], strict=True)]
    day = pd.to_datetime(said["run_id"].str.extract(r"^(\d{8})T\d{6}Z")[0], format="%Y%m%d", errors="coerce")
    years = decimal(day).astype(float)
    last = np.fmax(edge, years[good].max())
    found = rows.assign(
        **said, guest=said["net"], images_per_s=rate, day=day, dated=day.notna(), year=years.fillna(last)
    )
    return found.assign(net=net)[good]


def _net(variant: str, size: str, flags: str) -> str:
    """Without a size nobody knows whether it is the Variant's own: such a row is in no published series."""
    if not size and variant in (*VARIANTS, *SHARED):
        variant = f"{variant}, {UNSIZED}"
    elif variant in VARIANTS and size != str(VARIANTS[variant].input_size):
        variant = f"{variant} at {size} px"
    return f"{variant}, not proven" if "not_proven" in flags else variant


def choose_names(new: pd.DataFrame, pass_: str) -> dict[str, Any]:
    """Names of ours, from the slowest up, each with its mark's row: the fastest of each framework, net and machine.
    A name too long for a line has its net, whole, in a second."""
    groups = new[new["pass"] == pass_].groupby(["framework", "net", "guest", "device", "device_name"])
    best = new.loc[groups["images_per_s"].idxmax()].sort_values("images_per_s", ascending=False)
    found: dict[str, Any] = {}
    for index, row in best.iterrows():
        said = " ".join(
            filter(None, [row["guest"] or row["framework"], row["mode"], row["precision"].replace("fp32", "")])
        )
        rate = f", {row['device']}: {format_speed(row['images_per_s'])}"
        net = row["net"] if new["net"].nunique() > 1 else ""
        name = f"{said} {net}".strip() + rate
        if len(name) > LONGEST:
            name = cut(said, LONGEST - len(rate)) + rate + (f"\n{net}" if net else "")
        if len("\n".join([*found, name]).split("\n")) > MOST:
            break
        found[name] = index
    return dict(reversed(found.items()))


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def format_speed(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}/s" if images_per_s >= 100 else f"{images_per_s:.3g}/s"
