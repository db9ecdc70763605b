"""Where TensorFlow places the operations of a net that is built on the second of two devices."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

pytestmark = pytest.mark.process

#: What has no place of its own: it is where its argument is, or of the function's border.
ELSEWHERE = {"Placeholder", "Identity", "NoOp", "ReadVariableOp", "Const", "AssignVariableOp", "AssignSubVariableOp"}


@pytest.fixture(scope="module")
def placed() -> list[list]:
    pytest.importorskip("tensorflow")
    words = [sys.executable, str(ROOT / "tests" / "two_devices.py")]
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_operation_that_computes_is_on_the_device_of_its_net(placed):
    assert len(placed) == 8 * 2 * 3
    for *what, operations in placed:
        for kind, devices in operations.items():
            allowed = {"/device:CPU:1", ""} if kind in ELSEWHERE else {"/device:CPU:1"}
            assert set(devices) <= allowed, (what, kind, devices)
        assert {"Conv2D", "MatMul"} <= operations.keys()
