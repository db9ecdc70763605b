"""Records of kinds of devices, and which frameworks have them."""

import pytest

from bench import UsageError
from bench.cases.parse import parse_device, refuse_device, refuse_visible
from bench.machine import gpu
from impls import ACCELERATORS, FRAMEWORKS, accelerator_of
from impls.accelerators import exact


def test_a_kind_is_found_by_its_name_and_by_that_of_one_of_several():
    assert all(accelerator_of(kind) is record and record.kind == kind for kind, record in ACCELERATORS.items())
    assert accelerator_of("cuda:7") is ACCELERATORS["cuda"]


def test_the_first_of_several_has_its_number():
    named = ["cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:0"]
    assert list(map(exact, named)) == ["cpu", "cuda:0", "cuda:1", "mps", "xpu:0", "xpu:0"]
    assert all(parse_device(exact(device)) for device in named)


def test_no_two_kinds_have_a_name_in_common():
    names = [name for record in ACCELERATORS.values() for name in record.names]
    assert sorted(names) == sorted(set(names))


def test_frameworks_name_kinds_that_there_are():
    for framework in FRAMEWORKS.values():
        assert set(framework.accelerators) <= ACCELERATORS.keys() - {"cpu"}


@pytest.mark.parametrize(("framework", "device"), [("tensorflow", "mps"), ("jax", "xpu:1"), ("null", "mps")])
def test_a_framework_without_the_device_is_refused_with_those_that_have_it(framework, device):
    with pytest.raises(UsageError) as error:
        refuse_device(framework, device)
    assert str(error.value) == f"{framework} has no {device.partition(':')[0]}: choose --framework torch"
    for other in ("cpu", "cuda:1"):
        refuse_device(framework, other)


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK"])
def test_a_variable_that_selects_devices_is_for_the_whole_command(name):
    with pytest.raises(UsageError, match=f"--env: set it for the whole command instead: {name}=1 alexnet-bench"):
        refuse_visible("--env", name)
    refuse_visible("--env", "TORCH_LOGS")


def test_nvml_is_not_asked_for_devices_of_other_vendors(monkeypatch):
    read = []
    monkeypatch.setattr(gpu, "_handle", read.append)
    for device in ("cpu", "mps", "xpu", "xpu:1"):
        assert set(gpu.read(device).values()) == {None}
    assert read == []
    gpu.read("cuda")
    assert read == [0]
