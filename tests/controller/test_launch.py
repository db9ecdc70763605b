"""How a Worker is started: its environment and its oldest Python."""

import ast
import json
import os
import tomllib
from pathlib import Path

import pytest
from paths import ROOT

from bench.controller.launch import environment
from bench.worker.bootstrap import OLDEST
from impls import ACCELERATORS, FRAMEWORKS, frameworks
from impls.net import Settings

ENVIRONMENTS = json.loads((ROOT / "tests" / "data" / "worker_environment.json").read_text())


@pytest.mark.parametrize(("device", "threads", "precision", "preset", "more"), ENVIRONMENTS["cases"])
def test_the_environment_of_a_worker_has_these_values(device, threads, precision, preset, more, monkeypatch):
    """Of these frameworks' variables, and of its own: conditions that would change with no other sign."""
    held = {name: FRAMEWORKS[name] for name in ("torch", "tensorflow", "jax", "null")}
    monkeypatch.setattr(frameworks, "FRAMEWORKS", held)
    monkeypatch.setattr(os, "environ", ENVIRONMENTS["environ"])
    found = environment(Settings(device, threads, precision, preset), {}, Path("/a/cache"))
    assert found == ENVIRONMENTS["always"] | more


@pytest.mark.parametrize(
    ("device", "seen"),
    [
        ("cpu", {"CUDA_VISIBLE_DEVICES": ""}),
        ("cuda", {"HIP_VISIBLE_DEVICES": "3"}),
        ("mps", {"CUDA_VISIBLE_DEVICES": ""}),
        ("xpu:1", {"CUDA_VISIBLE_DEVICES": "", "ZE_AFFINITY_MASK": "0,1"}),
    ],
)
def test_a_worker_sees_the_devices_of_its_own_kind_that_the_command_sees(device, seen, monkeypatch):
    monkeypatch.setattr(os, "environ", {"ZE_AFFINITY_MASK": "0,1", "HIP_VISIBLE_DEVICES": "3"})
    found = environment(Settings(device, 1, "fp32"), {}, Path("/a/cache"))
    variables = [name for kind in ACCELERATORS.values() for name in kind.visible_by]
    assert {name: found[name] for name in variables if name in found} == seen


def test_variables_that_a_user_adds_or_removes_take_precedence():
    extra = {"TF_XLA_FLAGS": None, "JAX_PLATFORMS": "tpu"}
    found = environment(Settings("cpu", 1, "fp32"), extra, Path("/a/cache"))
    assert ("TF_XLA_FLAGS" in found, found["JAX_PLATFORMS"]) == (False, "tpu")


def test_the_oldest_python_of_a_worker_is_that_of_the_package_and_reads_its_code():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"].startswith(f">={OLDEST[0]}.{OLDEST[1]},")
    for path in (*(ROOT / "bench" / "worker").glob("*.py"), *(ROOT / "impls").glob("*.py")):
        ast.parse(path.read_text(), feature_version=OLDEST)
    assert "enum import StrEnum" in (ROOT / "bench" / "worker" / "replies.py").read_text()  # new in 3.11
