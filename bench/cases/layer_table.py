"""The layers of a Variant as rows of layers.csv, compared with those reported by a framework."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.cases.case import Case
from bench.worker.replies import LayerReport
from impls.variants import Variant

REPORTED = ("height", "width", "channels", "params", "state")


def table(net: Variant) -> list[dict[str, Any]]:
    """The columns of layers.csv that follow from the Variant."""
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


def differences(
    net: Variant, rows: Sequence[dict[str, Any]], reports: Mapping[str, Sequence[LayerReport]]
) -> list[str]:
    """A message for each layer that a framework reports differently."""
    lines = []
    for framework, layers in reports.items():
        if [row["layer"] for row in rows] != [layer.layer for layer in layers]:
            lines.append(f"{net.name} on {framework}: expected {len(rows)} layers, found {len(layers)}")
            continue
        for row, layer in zip(rows, layers, strict=True):
            for what in REPORTED:
                if row[what] != (found := getattr(layer, what)):
                    lines.append(
                        f"{net.name} on {framework}, {row['layer']}: {what} expected {row[what]}, found {found}; "
                        "run `alexnet-bench verify`"
                    )
    return lines


def reported_rows(case: Case, reported: Sequence[LayerReport]) -> list[dict[str, Any]]:
    """Rows of a Run's layers.csv: the table, of a shared net for one device, next to what the framework reports."""
    return [
        row | {"framework": case.framework} | {f"reported_{key}": getattr(layer, key) for key in REPORTED}
        for row, layer in zip(table(case.on_each), reported, strict=True)
    ]


def format_shape(row: Mapping[str, Any]) -> str:
    return " x ".join(str(row[name]) for name in ("height", "width", "channels"))
