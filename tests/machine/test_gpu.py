"""What NVML says of a GPU, on a stand-in for its binding: no GPU is needed here."""

import itertools
import sys
import time
import types

import pytest

from bench.machine import gpu


@pytest.fixture(autouse=True)
def asked_afresh(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu.start_nvml.cache_clear()
    yield
    gpu.start_nvml.cache_clear()


class NVMLError(Exception):
    pass


def binding(**changes):
    """pynvml for two cards; a handle is the card's index."""

    def unsupported(*args):
        raise NVMLError("not supported")

    module = types.ModuleType("pynvml")
    module.__dict__.update(
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index if index < 2 else unsupported(),
        nvmlDeviceGetHandleByUUID=unsupported,
        nvmlDeviceGetUUID=lambda handle: ("GPU-aaaa-1", "GPU-abcd-2")[handle],
        nvmlDeviceGetName=lambda handle: "NVIDIA H100",
        nvmlSystemGetDriverVersion=lambda: "570.86.15",
        nvmlDeviceGetClockInfo=lambda handle, kind: (1410, 1980)[handle] if kind == 1 else 0,
        nvmlDeviceGetTemperature=lambda handle, sensor: 41 + handle,
        nvmlDeviceGetPowerUsage=lambda handle: 312_345,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: 0x4,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 5250,
        nvmlDeviceGetTotalEccErrors=lambda handle, *kind: {(1, 0): 1}[kind],
        nvmlDeviceGetComputeRunningProcesses=lambda handle: [types.SimpleNamespace(pid=pid) for pid in (20, 10, 20)],
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        unsupported=unsupported,
    )
    module.__dict__.update(changes)
    return module


class TestWithoutADriver:
    @pytest.mark.parametrize("module", [None, "no driver"])
    def test_everything_is_none_and_nothing_raises(self, monkeypatch, module):
        it = binding(nvmlInit=binding().unsupported) if module else None
        monkeypatch.setitem(sys.modules, "pynvml", it)
        assert gpu.read("cuda:1") == dict.fromkeys(gpu.FACTS)
        assert gpu.cards() == []
        assert not gpu.nvml_available()

    def test_driver_version_falls_back_to_the_kernel_module(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", None)
        said = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023"
        monkeypatch.setattr(gpu.Path, "read_text", lambda path: said)
        assert gpu.driver() == "535.104.05"

    def test_reading_the_cpu_does_not_call_nvml(self, monkeypatch):
        monkeypatch.setattr(gpu, "_nvml", lambda: pytest.fail("asked"))
        assert gpu.read("cpu") == dict.fromkeys(gpu.FACTS)


class TestReading:
    def test_a_card_is_read_in_mhz_watts_and_degrees(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", binding())
        read = {"sm_mhz": 1980, "watts": 312.345, "temp_c": 42, "reasons": 4, "pids": [10, 20]}
        read |= {"ecc_errors": 1}
        assert gpu.read("cuda:1") == read
        assert gpu.cards()[1] == {"index": 1, "name": "NVIDIA H100", **read}
        assert (gpu.driver(), gpu.has_gpu(), gpu.nvml_available()) == ("570.86.15", True, True)

    def test_the_cards_that_a_worker_sees_are_counted_as_it_counts_them(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", binding())
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
        assert [gpu.read(device)["temp_c"] for device in ("cuda", "cuda:0", "cuda:1")] == [42, 42, 41]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab")
        assert gpu.read("cuda")["temp_c"] == 42
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert gpu.read("cuda") == dict.fromkeys(gpu.FACTS)

    def test_the_memory_is_that_of_the_card_or_unknown(self, monkeypatch):
        info = {"nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=(80, 139)[handle])}
        monkeypatch.setitem(sys.modules, "pynvml", binding(**info))
        assert [gpu.memory_bytes(device) for device in ("cuda", "cuda:1", "cuda:2")] == [80, 139, None]
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        assert gpu.memory_bytes("cuda") == 139
        assert [gpu.memory_bytes(device) for device in ("xpu", "mps", "cpu")] == [None] * 3

    def test_a_card_that_is_not_there_is_silent(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", binding())
        assert gpu.read("cuda:7") == dict.fromkeys(gpu.FACTS)

    def test_a_figure_that_a_card_lacks_is_none_and_the_others_are_read(self, monkeypatch):
        none = binding().unsupported
        monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlDeviceGetPowerUsage=none, nvmlDeviceGetTemperature=none))
        found = gpu.read("cuda")
        assert (found["watts"], found["temp_c"], found["sm_mhz"]) == (None, None, 1410)

    @pytest.mark.parametrize("newer", ["absent", "unsupported"])
    def test_an_older_driver_or_binding_is_asked_by_the_older_name(self, monkeypatch, newer):
        it = binding(nvmlDeviceGetCurrentClocksThrottleReasons=lambda handle: 0x40)
        if newer == "absent":
            del it.nvmlDeviceGetCurrentClocksEventReasons
        else:
            it.nvmlDeviceGetCurrentClocksEventReasons = it.unsupported
        monkeypatch.setitem(sys.modules, "pynvml", it)
        assert gpu.read("cuda")["reasons"] == 0x40


class TestEnergy:
    def test_the_counter_is_read_in_joules(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", binding())
        assert (gpu.joules("cuda:1"), gpu.joules("cpu")) == (5.25, None)

    def test_a_card_that_does_not_count_has_none(self, monkeypatch):
        none = binding().unsupported
        monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlDeviceGetTotalEnergyConsumption=none))
        assert gpu.joules("cuda") is None


class TestLost:
    @pytest.mark.parametrize(("code", "lost"), [(15, True), (3, False)])
    def test_nvml_says_whether_a_card_is_lost(self, monkeypatch, code, lost):
        def temperature(*args):
            error = NVMLError()
            error.value = code
            raise error

        monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlDeviceGetTemperature=temperature))
        assert gpu.is_lost("cuda") == lost

    def test_a_card_that_answers_is_not(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", binding())
        assert not gpu.is_lost("cuda")
        assert not gpu.is_lost("cpu")


class TestSampling:
    def test_readings_are_taken_until_the_end(self, monkeypatch):
        clocks = itertools.count(100)
        monkeypatch.setitem(sys.modules, "pynvml", binding(nvmlDeviceGetClockInfo=lambda *args: next(clocks)))
        monkeypatch.setattr(gpu, "SAMPLE_S", 0.001)
        sampler = gpu.Sampler("cuda")
        sampler.start()
        while len(sampler.readings) < 12:
            time.sleep(0.001)
        sampler.stop()
        readings = sampler.readings
        taken = len(readings)
        time.sleep(0.01)
        assert len(readings) == taken
        assert [reading["sm_mhz"] for reading in readings[:3]] == [100, 101, 102]
        assert [number for number, reading in enumerate(readings[:12]) if "watts" in reading] == [0, 10]
        assert set(readings[1]) == {*gpu.QUICK, "at_ns"}
        assert readings[0]["at_ns"] < readings[1]["at_ns"] <= time.perf_counter_ns()
        assert sampler.cpu_s > 0

    def test_a_cpu_and_a_card_without_nvml_have_none(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", None)
        monkeypatch.setattr(gpu, "SAMPLE_S", 0.0)
        for device in ("cpu", "cuda"):
            sampler = gpu.Sampler(device)
            sampler.start()
            time.sleep(0.01)
            sampler.stop()
            assert (sampler.readings, sampler.cpu_s) == ([], 0.0)


class TestJudging:
    @pytest.mark.parametrize(
        ("device", "visible", "card"),
        [
            ("cuda", None, 0),
            ("cuda:3", None, 3),
            ("cuda", "2", 2),
            ("cuda:1", "2, 0", 0),
            ("cuda:1", "GPU-12,GPU-34", "GPU-34"),
            ("cuda", "", None),
            ("cuda:2", "0,1", None),
            ("cuda:2", "0,2,-1,1", None),
        ],
    )
    def test_a_device_is_a_place_in_the_list_of_visible_ones(self, device, visible, card):
        assert gpu.select_card(device, visible) == card

    def test_reasons_are_spoken_bit_by_bit(self):
        assert gpu.reason_names(0x4 | 0x80) == ["power cap", "power brake"]
        assert gpu.reason_names(0) == gpu.reason_names(None) == []
        assert gpu.SLOWDOWN == 0xE8
