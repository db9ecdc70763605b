"""Flags of a row: what raises one, and what just does not."""

import dataclasses

import pytest
from runs import A, B, make

from impls import ACCELERATORS


@pytest.mark.parametrize(("share", "flagged"), [(0.5e-3, False), (2e-3, True)])
def test_more_than_a_thousandth_of_overhead_is_flagged(tmp_path, share, flagged):
    run = make(tmp_path / "r", base_ns=10**6, slower=1.0, unlike={"overhead_ns": share * 10**6})
    assert ("overhead" in run.row(B)["flags"].split()) == flagged


@pytest.mark.parametrize(("device", "flags"), [("cpu", []), ("cuda:1", ["gpu_not_watched", "never_run"])])
def test_rows_on_a_kind_of_device_of_which_nobody_has_sent_a_run_say_so(tmp_path, device, flags):
    case = dataclasses.replace(B, device=device)
    row = make(tmp_path / "r", [case]).row(case)
    assert [flag for flag in ("gpu_not_watched", "never_run") if flag in row["flags"].split()] == flags


@pytest.mark.parametrize(("versions", "flagged"), [({"cuda": "13.0"}, False), ({"cuda": None, "hip": "6.2"}, True)])
def test_a_run_with_cuda_is_none_with_rocm(tmp_path, monkeypatch, versions, flagged):
    first, case = (dataclasses.replace(each, device="cuda") for each in (A, B))
    monkeypatch.setitem(ACCELERATORS, "cuda", dataclasses.replace(ACCELERATORS["cuda"], never_run=False))
    row = make(tmp_path / "r", [first, case], unlike={"versions": versions}).row(case)
    assert ("never_run" in row["flags"].split()) == flagged


def test_once_there_is_a_run_of_it_no_row_says_so(tmp_path, monkeypatch):
    case = dataclasses.replace(B, device="xpu")
    monkeypatch.setitem(ACCELERATORS, "xpu", dataclasses.replace(ACCELERATORS["xpu"], never_run=False))
    assert "never_run" not in make(tmp_path / "r", [case]).row(case)["flags"].split()
