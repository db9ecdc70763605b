"""Nothing of torch's nets is left on the CPU when they are built on another device: on a fake one, without a GPU."""

import subprocess

import pytest
import torch
from nets import configured
from paths import ROOT

configured("torch")
import fake_devices  # noqa: E402

from impls import torch_alexnet, torch_lrn  # noqa: E402
from impls.layers import Relu  # noqa: E402
from impls.variants import VARIANTS  # noqa: E402

pytestmark = [pytest.mark.process, pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")]

GPU_PYTHON = ROOT / ".venvs" / "torch" / "bin" / "python"


@pytest.mark.parametrize("layout", torch_alexnet.FORMATS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_pass_stays_on_its_device(variant, layout):
    for lrn in ("native", "fast"):
        found = {str(value.device) for value in fake_devices.devices_of(variant, "meta", "fp32", layout, lrn)}
        assert found == {"meta"}


def test_a_value_that_is_left_on_the_cpu_is_found(monkeypatch):
    def relu(x, layer, built):
        return torch.maximum(x, torch.zeros(x.shape[-1]))

    monkeypatch.setitem(torch_alexnet.OPS, Relu, relu)
    with pytest.raises(RuntimeError, match="at least two devices, meta and cpu"):
        list(fake_devices.devices_of("tutorial", "meta", "fp32", "nchw", "native"))


def test_an_array_that_is_left_on_the_cpu_is_found(monkeypatch):
    monkeypatch.setattr(torch_alexnet, "band", lambda layer, channels, device: torch_lrn.band(layer, channels, "cpu"))
    assert "cpu" in {str(value.device) for value in fake_devices.devices_of("tutorial", "meta", "fp32", "nchw", "fast")}


@pytest.mark.skipif(not GPU_PYTHON.exists(), reason="no GPU environment of torch: make setup DEVICE=cuda")
def test_a_cuda_build_keeps_forward_passes_of_every_net_on_cuda():
    command = [str(GPU_PYTHON), "tests/fake_devices.py", "cuda"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8 * len(VARIANTS)
