"""The layers of a Variant as rows of layers.csv, and their comparison with what a framework reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.cases.case import Case
from bench.worker.replies import LayerReport
from impls.variants import Variant

REPORTED = ("height", "width", "channels", "params", "state")


def table(net: Variant) -> list[dict[str, Any]]:
    """The columns of layers.csv from the rows alone."""
    return [
        {
            "variant": net.name,
            "layer": placed.layer.name,
            "kind": placed.layer.kind,
            "height": placed.output[0],
            "width": placed.output[1],
            "channels": placed.output[2],
            "params": placed.params,
            "state": placed.state,
            "macs": placed.macs,
        }
        for placed in net.placed()
    ]


def differences(net: Variant, rows: Sequence[dict[str, Any]], beside: Mapping[str, Sequence[LayerReport]]) -> list[str]:
    """A line for each layer on which a framework and the table disagree."""
    lines = []
    for framework, theirs in beside.items():
        if [row["layer"] for row in rows] != [their.layer for their in theirs]:
            lines.append(f"{net.name} on {framework}: expected {len(rows)} layers, found {len(theirs)}")
            continue
        for row, their in zip(rows, theirs, strict=True):
            for what in REPORTED:
                if row[what] != (found := getattr(their, what)):
                    lines.append(
                        f"{net.name} on {framework}, {row['layer']}: {what} expected {row[what]}, found {found}; "
                        "run `alexnet-bench verify`"
                    )
    return lines


def recorded(case: Case, reported: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """Rows of a Run's layers.csv."""
    return [
        row | {"framework": case.framework} | {f"reported_{key}": getattr(theirs, key) for key in REPORTED}
        for row, theirs in zip(table(case.net), reported, strict=True)
    ]


def shape(row: Mapping[str, Any]) -> str:
    return " x ".join(str(row[name]) for name in ("height", "width", "channels"))
