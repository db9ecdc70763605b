"""PyTorch's adapter on an accelerator that no module of it names, made of PyTorch's own hooks (tests/toy_device.py)."""

import json
import subprocess
import sys

import pytest
from paths import ROOT

registration = pytest.importorskip("torch.utils.backend_registration")
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not hasattr(registration, "_setup_privateuseone_for_python_backend"),
        reason="this torch cannot have a device written in Python",
    ),
]
NETS = ["bvlc", "keras_bn"]


@pytest.fixture(scope="module")
def found():
    words = [sys.executable, str(ROOT / "tests" / "toy_device.py"), *NETS]
    done = subprocess.run(words, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("net", NETS)
def test_logits_gradients_and_parameters_are_those_of_the_cpu(found, net):
    on_cpu, on_toy = (found["nets"][device][net] for device in ("cpu", "toy"))
    assert len(on_cpu["sums"]) > 30
    assert on_toy["sums"] == pytest.approx(on_cpu["sums"], rel=1e-5)
    assert on_toy["fetched"] == pytest.approx(on_cpu["fetched"], rel=1e-4)


def test_the_output_was_on_the_device_and_each_wait_was_for_it(found):
    assert {net["device"] for net in found["nets"]["toy"].values()} == {"toy:0"}
    assert {net["device"] for net in found["nets"]["cpu"].values()} == {"cpu"}
    assert found["waited"] == ["toy"] * len(NETS)


def test_its_memory_name_and_number_are_what_its_module_says(found):
    assert found["devices"] == ["cpu", "toy:0"]
    assert {net["peak"] for net in found["nets"]["toy"].values()} == {2**20}
    assert {net["peak"] for net in found["nets"]["cpu"].values()} == {None}
    assert (found["cpu"], found["toy"]) == ([None, None], ["Toy 0", None])
