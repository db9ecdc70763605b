"""A new framework, given by its adapter and its record alone, works in every command."""

import json
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

pytestmark = pytest.mark.process

RECORD = """
CARROT = Framework(
    "carrot",
    adapter="impls.carrot_alexnet",
    package="contourpy",
    distributions=("contourpy",),
    modes=("plain",),
    layouts=("nhwc",),
    environment=(Variable("CARROT_CACHE", "{cache}/carrot"), Variable("CARROT_THREADS", "{threads}")),
    libraries=("scipy_openblas",),  # numpy's own, whose name says scipy
    color="#CC79A7",
)

#: In the order"""
NAMES = ("verify", "layers", "run", "env")
COMMANDS = """
import contextlib, pathlib
from bench.commands.cli import main

def call(*args):
    with contextlib.suppress(SystemExit), open(f"{args[0]}.out", "w") as out, contextlib.redirect_stdout(out):
        main(args)

net = ("--framework", "carrot", "--variant", "half_width", "--size", "67", "--json")
call("verify", *net)
call("layers", *net[:4], "--json")
few = ("--batch", "2", "--rounds", "1", "--iterations", "2", "--burn-in", "1", "--no-gate")
call("run", *net, *few, "--out", "results")
call("env", "--framework", "carrot", "--json")
run, = map(str, pathlib.Path("results").iterdir())
call("plot", f"{run}/summary.csv", "--output", "times.svg")
call("report", run, "--output", "report.html")
"""


def test_a_framework_is_its_adapter_and_its_record(tmp_path):
    for folder in ("bench", "impls"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "tests" / "data" / "carrot_alexnet.py", tmp_path / "impls")
    record = tmp_path / "impls" / "frameworks.py"
    text = record.read_text().replace("\n#: In the order", RECORD).replace("JAX, NULL)", "JAX, CARROT, NULL)")
    record.write_text(text)
    done = subprocess.run([sys.executable, "-c", COMMANDS], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    verified, layers, run, env = (json.loads((tmp_path / f"{name}.out").read_text()) for name in NAMES)
    assert {check["kind"] for check in verified["checks"]} == {"logits", "loss", "gradient", "change", "velocity"}
    assert all(check["ok"] for check in verified["checks"])
    assert all(row["reported"]["carrot"]["params"] == row["params"] for row in layers)
    assert [(row["framework"], row["mode"], row["valid"]) for row in run["cases"]] == [("carrot", "plain", True)] * 2
    assert env["frameworks"]["carrot"]["libraries"]
    for picture in (tmp_path / "times.svg", tmp_path / "report.html"):
        assert "#cc79a7" in picture.read_text().lower()
