"""What PyTorch is asked of a device, by its kind: real modules of this build, with functions that note their calls."""

from types import SimpleNamespace
from unittest import mock

import pytest

torch = pytest.importorskip("torch")

from impls import ACCELERATORS, torch_device  # noqa: E402
from impls.frameworks import TORCH  # noqa: E402
from impls.torch_model import Net  # noqa: E402

KINDS = TORCH.accelerators


@pytest.fixture
def asked(monkeypatch):
    """A call that replaces a function of a device's module, with its signature, and returns what notes its calls."""

    def replace(kind: str, name: str, **returned: object) -> mock.Mock:
        noted = mock.create_autospec(getattr(getattr(torch, kind), name), **returned)
        monkeypatch.setattr(getattr(torch, kind), name, noted)
        return noted

    monkeypatch.setattr(torch_device, "_chosen", torch.device("cpu"))
    return replace


def call(device: str) -> list[object]:
    return [] if device == "mps" else [torch.device(device)]  # of which there is one


class TestWait:
    @pytest.mark.parametrize("device", ["cuda:1", "mps", "xpu:1"])
    def test_it_is_the_device_itself_that_is_waited_for(self, asked, device):
        noted = asked(device.partition(":")[0], "synchronize")
        wait = torch_device.waiter(torch.device(device))
        assert noted.call_count == 0
        wait()
        wait()
        assert [list(each.args) for each in noted.call_args_list] == [call(device)] * 2

    def test_on_a_cpu_a_call_returns_when_it_is_done(self, asked):
        others = [asked(kind, "synchronize") for kind in KINDS]
        torch_device.waiter(torch.device("cpu"))()
        assert not any(other.called for other in others)

    def test_a_net_waits_for_its_own_device(self, asked):
        noted = asked("xpu", "synchronize")
        net = Net.__new__(Net)
        net.synchronize = torch_device.waiter(torch.device("xpu:1"))
        net.wait([torch.zeros(1)])
        noted.assert_called_once_with(torch.device("xpu:1"))


class TestMemory:
    @pytest.mark.parametrize("device", ["cuda:1", "xpu:1"])
    def test_a_peak_is_read_and_then_reset(self, asked, device):
        kind, calls = device.partition(":")[0], mock.Mock()
        for name in ("max_memory_allocated", "reset_peak_memory_stats"):
            calls.attach_mock(asked(kind, name, return_value=2**20), name)
        assert torch_device.peak_memory(torch.device(device)) == 2**20
        expected = [mock.call.max_memory_allocated(*call(device)), mock.call.reset_peak_memory_stats(*call(device))]
        assert calls.mock_calls == expected

    @pytest.mark.parametrize("device", ["cpu", "mps"])
    def test_without_a_counter_of_the_peak_there_is_none(self, device):
        assert torch_device.peak_memory(torch.device(device)) is None


class TestChoice:
    def test_all_devices_of_every_kind_are_listed(self, asked):
        for kind, count in {"cuda": 2, "mps": 1, "xpu": 3}.items():
            asked(kind, "device_count", return_value=count)
        expected = ["cpu", "cuda:0", "cuda:1", "mps", "xpu:0", "xpu:1", "xpu:2"]
        assert torch_device.devices() == expected

    @pytest.mark.parametrize("device", ["cuda", "cuda:1", "xpu:1"])
    def test_one_of_several_is_set(self, asked, device):
        kind, _, number = device.partition(":")
        noted = asked(kind, "set_device")
        torch_device.choose(device)
        noted.assert_called_once_with(torch.device(kind, int(number or 0)))
        assert torch_device.chosen() == torch.device(kind, int(number or 0))

    @pytest.mark.parametrize("device", ["cpu", "mps"])
    def test_one_of_a_kind_needs_no_setting(self, asked, device):
        others = [asked(kind, "set_device") for kind in ("cpu", "cuda", "xpu")]
        torch_device.choose(device)
        assert (torch_device.chosen().type, any(other.called for other in others)) == (device, False)

    def test_a_process_for_the_cpu_describes_none_of_the_others(self, asked):
        for kind in KINDS:
            asked(kind, "device_count", return_value=1)
        torch_device.choose("cpu")
        assert torch_device.described()["device_name"] is None


class TestFacts:
    @pytest.mark.parametrize("device", ["cuda:1", "xpu:1"])
    def test_the_name_is_that_of_the_chosen_device(self, asked, device):
        kind = device.partition(":")[0]
        noted = asked(kind, "get_device_name", return_value="a card")
        asked(kind, "set_device")
        torch_device.choose(device)
        assert torch_device.described()["device_name"] == "a card"
        noted.assert_called_once_with(torch.device(device))

    def test_apples_gpu_has_the_name_that_metal_gives_it_where_torch_asks(self, asked, monkeypatch):
        monkeypatch.setattr(torch.backends, "mps", SimpleNamespace(get_name=lambda: "Apple M4"))
        assert torch_device.name(torch.device("mps")) == "Apple M4"
        monkeypatch.setattr(torch.backends, "mps", SimpleNamespace())  # as in older versions
        assert torch_device.name(torch.device("mps")) == "Apple's GPU"

    @pytest.mark.parametrize(("version", "native"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
    def test_bf16_of_nvidias_is_by_compute_capability(self, asked, version, native):
        asked("cuda", "get_device_capability", return_value=version)
        assert torch_device.computes_bf16(torch.device("cuda:0")) is native

    def test_rocm_is_cuda_with_a_version_of_its_own_and_other_capabilities(self, asked, monkeypatch):
        asked("cuda", "get_device_capability", return_value=(11, 0))
        assert "hip" not in torch_device.described()
        monkeypatch.setattr(torch.version, "hip", "6.2.41133")
        assert torch_device.computes_bf16(torch.device("cuda:0")) is None
        assert torch_device.described()["hip"] == "6.2.41133"

    @pytest.mark.parametrize(("facts", "native"), [({"has_bfloat16_conversions": False}, False), ({}, None)])
    def test_bf16_of_intels_is_a_property_of_it(self, asked, facts, native):
        asked("xpu", "get_device_properties", return_value=SimpleNamespace(**facts))
        assert torch_device.computes_bf16(torch.device("xpu:1")) is native

    def test_apples_and_a_cpu_do_not_say(self):
        assert [torch_device.computes_bf16(torch.device(kind)) for kind in ("cpu", "mps")] == [None, None]


def test_pytorch_has_a_device_of_each_kind_that_its_record_names():
    for kind in KINDS:
        assert torch.device(kind).type == kind
        assert torch_device.module_of(torch.device(kind)).device_count() >= 0
        assert hasattr(getattr(torch, kind), "set_device") == ACCELERATORS[kind].indexed


def test_ranks_talk_over_the_library_that_pytorch_has_for_their_device():
    torch_team = pytest.importorskip("impls.torch_team")
    if not hasattr(torch.distributed, "get_default_backend_for_device"):
        pytest.skip("this torch does not say")
    defaults = {kind: torch.distributed.get_default_backend_for_device(kind) for kind in torch_team.BACKENDS}
    assert defaults == torch_team.BACKENDS
    indexed = {kind for kind in KINDS if ACCELERATORS[kind].indexed}
    assert indexed | {"cpu"} == torch_team.BACKENDS.keys()  # of others a machine has one
