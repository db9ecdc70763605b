"""Flags of a row: what raises one, and what just does not."""

import pytest
from runs import B, make


@pytest.mark.parametrize(("share", "flagged"), [(0.5e-3, False), (2e-3, True)])
def test_more_than_a_thousandth_of_overhead_is_flagged(tmp_path, share, flagged):
    run = make(tmp_path / "r", base_ns=10**6, slower=1.0, unlike={"overhead_ns": share * 10**6})
    assert ("overhead" in run.row(B)["flags"].split()) == flagged
