"""What a machine has of NVIDIA, from planted folders and a stand-in for NVML."""

import os

import gpus
import pytest
from planted_machines import CARD, WELL, plant

from bench.machine import gpu_facts
from bench.machine.gpu_facts import Card, Facts, Holder

GIB = 2**30


@pytest.mark.usefixtures("no_nvml")
class TestFacts:
    def test_of_a_machine_with_a_gpu_that_works(self, tmp_path):
        assert gpu_facts.read(plant(tmp_path, WELL)) == Facts(on_bus=1, files=1, driver="580.95.05")

    def test_of_an_empty_folder(self, tmp_path):
        assert gpu_facts.read(tmp_path) == Facts()
        assert Facts().count == 0

    @pytest.mark.parametrize(
        ("vendor", "kind", "counted"),
        [
            ("0x10de", "0x030000", 1),
            ("0x10de", "0x040300", 0),  # the audio function of a card
            ("0x10de", "0x068000", 0),  # NVSwitch
            ("0x1002", "0x030000", 0),  # AMD
        ],
    )
    def test_a_display_controller_of_nvidia_is_a_gpu(self, tmp_path, vendor, kind, counted):
        plant(tmp_path, {f"{CARD}/vendor": f"{vendor}\n", f"{CARD}/class": f"{kind}\n"})
        assert gpu_facts.read(tmp_path).on_bus == counted

    @pytest.mark.parametrize(
        "files",
        [
            {".dockerenv": ""},
            {"run/.containerenv": ""},
            {"proc/1/cgroup": "0::/kubepods.slice/pod1\n"},
            {"proc/1/cgroup": "3:cpu:/docker/12ab\n"},
        ],
        ids=["docker", "podman", "kubernetes", "docker with cgroup v1"],
    )
    def test_a_container_is_told_by_its_files(self, tmp_path, files):
        assert gpu_facts.read(plant(tmp_path, WELL | files)).container

    @pytest.mark.parametrize(
        ("files", "way"),
        [
            ({".singularity.d/startscript": ""}, "--nv"),
            (
                {"run/secrets/kubernetes.io/serviceaccount/token": "", ".dockerenv": ""},
                "nvidia.com/gpu for it in the pod",
            ),
            ({"run/.containerenv": ""}, "--device nvidia.com/gpu=all"),
            ({"proc/1/cgroup": "0::/\n"}, "--gpus all"),
        ],
    )
    def test_each_kind_of_container_is_given_gpus_in_its_own_way(self, tmp_path, files, way):
        assert way in gpu_facts.read(plant(tmp_path, WELL | files)).container

    def test_wsl_has_a_device_and_perhaps_the_driver_of_windows(self, tmp_path):
        found = gpu_facts.read(plant(tmp_path, {"dev/dxg": ""}))
        assert (found.wsl, found.wsl_driver) == (True, False)
        assert gpu_facts.read(plant(tmp_path, {"usr/lib/wsl/lib/libcuda.so.1": ""})).wsl_driver

    @pytest.mark.parametrize("device", ["kfd", "nvmap"])
    def test_a_gpu_of_another_kind_is_noticed(self, tmp_path, device):
        assert gpu_facts.read(plant(tmp_path, {f"dev/{device}": ""})).other


class TestFactsOfNvml:
    def test_a_card_with_who_computes_on_it(self, tmp_path, nvml):
        nvml(gpus.card(pids=[7, os.getpid()], held=20 * GIB, memory=80 * GIB, mode=3), cuda=12040)
        plant(tmp_path, {"proc/7/comm": "train.py\n", "proc/7/stat": "7 (train.py) S 1 7"})
        found = gpu_facts.read(tmp_path)
        (card,) = found.cards
        assert (found.nvml, found.cuda, found.count) == (0, "12.4", 1)
        assert (card.uuid, card.mode, card.mig, card.total, card.free) == ("GPU-aaaa-1", 3, False, 80 * GIB, 60 * GIB)
        assert card.holders == (Holder(7, "train.py", 10 * GIB), Holder(os.getpid(), "", 10 * GIB, own=True))

    def test_a_grandchild_is_our_own(self, tmp_path, nvml):
        nvml(gpus.card(pids=[9]))
        plant(tmp_path, {"proc/9/stat": "9 (a) b) S 8 1", "proc/8/stat": f"8 (sh) S {os.getpid()} 1"})
        assert gpu_facts.read(tmp_path).cards[0].holders[0].own

    def test_mig_devices_are_listed(self, tmp_path, nvml):
        nvml(gpus.card(mig=1, slices=["MIG-1", "MIG-2"]), gpus.card(mig=1), gpus.card())
        cards = gpu_facts.read(tmp_path).cards
        assert [(card.mig, card.slices) for card in cards] == [(True, ("MIG-1", "MIG-2")), (True, ()), (False, ())]

    def test_what_a_card_lacks_is_unknown(self, tmp_path, nvml):
        nvml({"uuid": "GPU-1"})
        assert gpu_facts.read(tmp_path).cards == (Card("GPU-1"),)

    def test_an_error_of_nvml_is_kept(self, tmp_path, nvml):
        nvml(init=18)
        assert gpu_facts.read(tmp_path).nvml == 18
