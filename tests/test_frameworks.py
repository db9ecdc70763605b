"""Every framework has its adapter, its record, its lines in pyproject.toml and its pins."""

import dataclasses
import fnmatch
import re
import subprocess
import sys
import tomllib

import pytest
from paths import ROOT

import impls
from impls import FRAMEWORKS, PEERS, Framework

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PINS = (ROOT / "constraints.txt").read_text()
PARSNIP = Framework(
    "parsnip", "impls.parsnip_alexnet", "parsnip", ("parsnip-dl",), ("plain",), ("nhwc",), also=("turnip",)
)


def missing_lines(framework, pyproject=PYPROJECT, pins=PINS):
    """Lines that a framework needs in pyproject.toml and constraints.txt and that are missing."""
    extras, tools = pyproject["project"]["optional-dependencies"], pyproject["tool"]
    lint = tools["ruff"]["lint"]
    contracts = {contract["name"]: contract for contract in tools["importlinter"]["contracts"]}
    forbidden = contracts["bench imports no framework and no adapter"]["forbidden_modules"]
    independent = contracts["each adapter imports its own framework only"]["modules"]
    untyped = [module for override in tools["mypy"]["overrides"] for module in override["module"]]
    path, packages = f"{framework.adapter.replace('.', '/')}.py", (framework.package, *framework.also)
    if framework.adapter not in forbidden:
        yield f"importlinter, bench imports no framework and no adapter: forbidden_modules: {framework.adapter}"
    if framework.adapter not in independent:
        yield f"importlinter, each adapter imports its own framework only: modules: {framework.adapter}"
    if not framework.peer:
        return
    if framework.name not in extras:
        yield f"project.optional-dependencies: {framework.name} = [...]"
    if framework.name not in re.split(r"[\[\],]", extras["all"][0]):
        yield f"project.optional-dependencies: all: {framework.name}"
    for package in packages:
        if package not in lint["flake8-tidy-imports"]["banned-api"]:
            yield f"ruff.lint.flake8-tidy-imports.banned-api: {package}"
        if package not in forbidden:
            yield f"importlinter, bench imports no framework and no adapter: forbidden_modules: {package}"
    if not any("TID251" in codes for glob, codes in lint["per-file-ignores"].items() if fnmatch.fnmatch(path, glob)):
        yield f"ruff.lint.per-file-ignores: {path} = TID251"
    if f"{framework.package}.*" not in untyped:
        yield f"mypy.overrides: {framework.package}.*"
    if not re.search(rf"^({'|'.join(framework.distributions)})==", pins, flags=re.MULTILINE):
        yield f"constraints.txt: {framework.distributions[0]}=="


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_pyproject_and_constraints_have_every_line_of_a_framework(name):
    assert list(missing_lines(FRAMEWORKS[name])) == []


def test_every_missing_line_of_a_new_framework_is_named():
    assert list(missing_lines(PARSNIP)) == [
        "importlinter, bench imports no framework and no adapter: forbidden_modules: impls.parsnip_alexnet",
        "importlinter, each adapter imports its own framework only: modules: impls.parsnip_alexnet",
        "project.optional-dependencies: parsnip = [...]",
        "project.optional-dependencies: all: parsnip",
        "ruff.lint.flake8-tidy-imports.banned-api: parsnip",
        "importlinter, bench imports no framework and no adapter: forbidden_modules: parsnip",
        "ruff.lint.flake8-tidy-imports.banned-api: turnip",
        "importlinter, bench imports no framework and no adapter: forbidden_modules: turnip",
        "ruff.lint.per-file-ignores: impls/parsnip_alexnet.py = TID251",
        "mypy.overrides: parsnip.*",
        "constraints.txt: parsnip-dl==",
    ]


def check_types(folder, *modules):
    """The output of mypy for modules used as Adapters."""
    file = folder / "adapters.py"
    lines = (f"import {module}\nadapter_{number}: Adapter = {module}" for number, module in enumerate(modules))
    file.write_text("\n".join(["from impls.net import Adapter", *lines]))
    return subprocess.run([sys.executable, "-m", "mypy", file], cwd=ROOT, capture_output=True, text=True).stdout


def test_mypy_holds_every_adapter_against_the_protocol(tmp_path):
    assert "Success" in check_types(tmp_path, *(framework.adapter for framework in FRAMEWORKS.values()))
    assert "expression has type Module" in check_types(tmp_path, "impls.reference")


def test_a_requirement_names_the_extras_of_frameworks_and_none_for_the_null_net():
    assert impls.requirement() == "'alexnet-bench[torch,tensorflow]'"
    assert impls.requirement("jax") == "'alexnet-bench[jax]'"
    assert impls.requirement("null") == "alexnet-bench"


def test_frameworks_that_share_a_variable_give_it_the_same_value():
    """A Worker gets the variables of all frameworks."""
    values = {}
    for framework in FRAMEWORKS.values():
        for variable in framework.environment:
            fields = dataclasses.replace(variable, value="")
            assert values.setdefault(fields, variable.value) == variable.value


def test_every_peer_has_a_color_of_its_own():
    assert len({framework.color for framework in PEERS.values()} - {""}) == len(PEERS)


@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_the_gpu_build_is_a_distribution_of_the_framework(name):
    assert FRAMEWORKS[name].gpu_build.startswith(FRAMEWORKS[name].distributions)
