"""A Run with hostile text in every field that can hold text."""

import dataclasses
from pathlib import Path

from runs import A, B, changed, make

from bench.record.run import Run

HOSTILE = (
    "<script>document['title']='ran'</script>",
    '"><img src=x onerror="document[\'title\']=1">',
    "javascript:document['title']='ran'",
    "</style><b id=x>&amp;",
    "{{ 7 * 7 }}",
    "`<i>`",
)


def run_with_text(folder: Path, text: str) -> Run:
    """A Run with this text in every field that can hold text."""
    cpu = {"host": text, "cpu": text, "system": text, "usable_cores": 2, "packages": {text: text}}
    versions = {"versions": {"tensorflow": text, "device_name": text}, "python": text, "layout": text, "device": text}
    header = {"run_id": text, "fingerprint": cpu, "env": {"A": text}, "weights": {"file": text, "sha256": text}}
    header["guests"] = [{"file": text, "function": text, "sha256": text, "label": text, "arm": None}]
    third = dataclasses.replace(A, framework="jax", mode="jit", layout="nhwc")
    run = make(folder, [A, B, third], unlike=versions, disturbed=[1], **header)
    fault = {"event": "fault", "group": 0, "round": 0, "attempt": 0, "worker": text, "kind": "died", "reason": text}
    numbers = ("height", "width", "channels", "params", "state")
    layer = dict.fromkeys(("variant", "layer", "kind", "framework"), text) | dict.fromkeys((*numbers, "macs"), 1)
    layer |= dict.fromkeys((f"reported_{name}" for name in numbers), 2)
    void = {"event": "void", "group": 0, "round": 7, "attempt": 0, "reason": text}
    failed = {"event": "failed", "case_id": third.id, "reason": text}
    return changed(run, fault | {"stderr_tail": text}, {"event": "layers", "rows": [layer]}, void, failed)
