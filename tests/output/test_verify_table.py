"""The table of `verify`: no figure of it is cut off."""

import dataclasses

import pytest
from null_runs import NULL_CASE

from bench.controller import parity
from bench.controller.parity import Judged
from bench.output import verify_table
from bench.output.verify_table import CaseCheck
from bench.worker.replies import CheckKind


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_longest_names_leave_room_for_every_kind(capsys, precision):
    names = {"variant": "single_tower", "framework": "tensorflow", "mode": "graph", "layout": "nhwc", "batch": 128}
    case = dataclasses.replace(NULL_CASE, **names, precision=precision)
    checks = [
        CaseCheck(case, Judged.of_error(CheckKind(kind), kind, limit / 2, limit))
        for kind, limit in parity.LIMITS[precision].items()
        if kind != CheckKind.REDUCED  # which has no column
    ]
    verify_table.print_checks(checks)
    out = capsys.readouterr().out
    assert {"single_tower", "tensorflow", "graph", "equal"} <= set(out.split())
    assert "…" not in out
    assert out.count("e-") == 2 * len(checks)
