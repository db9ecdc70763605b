"""Why no GPU is found: the line that facts give, in commands too."""

import dataclasses
import subprocess
import sys

import gpus
import pytest
from paths import ROOT
from planted_machines import CARD, WELL, plant, without

from bench.machine import gpu_cause
from bench.machine.gpu_cause import Search, cause, refuse, shared_memory
from bench.machine.gpu_facts import Card, Facts, Holder

GIB = 2**30
HELD = Card("GPU-aaaa-1", total=80 * GIB, free=GIB // 2, holders=(Holder(7, "train.py", 79 * GIB),))
ONE = Facts(on_bus=1, files=1, driver="580.95.05", nvml=0, cuda="13.0", cards=(Card("GPU-aaaa-1"),))
TWO = dataclasses.replace(ONE, on_bus=2, files=2, cards=(Card("GPU-aaaa-1"), Card("GPU-bbbb-2")))
NO_BINDING = dataclasses.replace(ONE, nvml=None, cuda="", cards=())


def search(device="cuda", built_for="13.0", **facts):
    return Search("torch", device, built_for=built_for, **facts)


#: By name of the cause: the search, the facts, the line.
GPUS_ALL = "start it with --gpus all"
CAUSES = {
    "not built for CUDA": (
        search(built_for=""),
        ONE,
        "it is not built for CUDA; pass --device cpu, or a GPU build (make setup DEVICE=cuda, or --python torch=PATH)",
    ),
    "not built for CUDA, and no card": (
        search(built_for=""),
        Facts(),
        "it is not built for CUDA, and this machine has no NVIDIA GPU on its PCI bus; pass --device cpu",
    ),
    "no card": (search(), Facts(), "this machine has no NVIDIA GPU on its PCI bus; pass --device cpu"),
    "no driver": (
        search(),
        Facts(on_bus=2),
        "2 NVIDIA GPUs are on the PCI bus, but the driver is not loaded; install NVIDIA's driver, or "
        "`sudo modprobe nvidia`",
    ),
    "no driver, and a device file that is left": (
        search(),
        Facts(on_bus=1, files=1, nvml=9),
        "there is a /dev/nvidia0, but the driver is not loaded; install NVIDIA's driver, or `sudo modprobe nvidia`",
    ),
    "no device file": (
        search(),
        Facts(on_bus=1, driver="580.95.05"),
        "1 NVIDIA GPU is on the PCI bus and driver 580.95.05 is loaded, but there is no /dev/nvidia0; "
        "`sudo nvidia-modprobe -u -c=0`, then check `nvidia-smi`",
    ),
    "a card that is lost": (
        search(),
        Facts(driver="580.95.05"),
        "driver 580.95.05 is loaded, but no NVIDIA GPU is on the PCI bus; check `dmesg` for one that was lost",
    ),
    "a container with the card of its host": (
        search(),
        Facts(on_bus=1, container=GPUS_ALL),
        "this container was started without the GPUs of its host; start it with --gpus all",
    ),
    "a container with the driver of its host": (
        search(),
        Facts(driver="580.95.05", container=GPUS_ALL),
        "this container was started without the GPUs of its host; start it with --gpus all",
    ),
    "a container without the driver's libraries": (
        search(),
        Facts(on_bus=1, files=1, driver="580.95.05", container=GPUS_ALL, nvml=12),
        "the driver's libraries are not in this container; start it with --gpus all, with "
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility where that is its runtime's",
    ),
    "no libraries": (
        search(),
        Facts(on_bus=1, files=1, driver="580.95.05", nvml=12),
        "the driver's libraries are missing (libnvidia-ml.so.1); install all of NVIDIA's driver",
    ),
    "WSL": (
        search(),
        Facts(wsl=True),
        "WSL has no libcuda.so.1 in /usr/lib/wsl/lib; install NVIDIA's driver in Windows (none in WSL), then "
        "`wsl --shutdown`",
    ),
    "driver and libraries differ": (
        search(),
        Facts(on_bus=1, files=1, driver="575.57.08", nvml=18),
        "the driver in the kernel (575.57.08) and its libraries are of different versions, as after an update "
        "(NVML error 18); reboot",
    ),
    "no permission": (
        search(),
        Facts(on_bus=1, files=1, driver="580.95.05", nvml=4),
        "NVML has no permission for the GPU; check the rights of /dev/nvidia*, or join its group",
    ),
    "an old driver": (
        search(),
        dataclasses.replace(ONE, driver="550.54.15", cuda="12.4"),
        "driver 550.54.15 supports CUDA up to 12.4, torch is built for CUDA 13.0; install driver 580.65 or newer",
    ),
    "an old driver, without NVML": (
        search(built_for="13"),
        dataclasses.replace(NO_BINDING, driver="570.86.15"),
        "driver 570.86.15 supports CUDA older than 13, torch is built for CUDA 13; install driver 580.65 or newer",
    ),
    "an old driver for a CUDA to come": (
        search(built_for="14.1"),
        ONE,
        "driver 580.95.05 supports CUDA up to 13.0, torch is built for CUDA 14.1; install driver for CUDA 14",
    ),
    "hidden by an empty list": (
        search(visible=""),
        ONE,
        "CUDA_VISIBLE_DEVICES is empty, which hides the GPU; unset it",
    ),
    "hidden by -1": (search(visible="-1"), TWO, "CUDA_VISIBLE_DEVICES is -1, which hides all 2 GPUs; unset it"),
    "hidden by a number that is too large": (
        search(visible="2,0"),
        TWO,
        "CUDA_VISIBLE_DEVICES=2,0: 2 is beyond the 2 GPUs here, and CUDA ignores what follows; name GPUs that are "
        "here, or unset it",
    ),
    "hidden by a word": (
        search("cuda:1", visible="0,gpu1"),
        TWO,
        "CUDA_VISIBLE_DEVICES=0,gpu1: gpu1 is neither the number nor the UUID of a GPU; name GPUs that are here, or "
        "unset it",
    ),
    "hidden by a strange UUID": (
        search(visible="GPU-cccc"),
        TWO,
        "CUDA_VISIBLE_DEVICES=GPU-cccc: GPU-cccc is the UUID of no GPU here; name GPUs that are here, or unset it",
    ),
    "beyond what is visible": (
        search("cuda:1", seen=1, visible="1"),
        TWO,
        "CUDA_VISIBLE_DEVICES=1 shows one GPU only; choose cuda:0, or list more",
    ),
    "beyond the cards": (search("cuda:3", seen=2), TWO, "this machine has 2 GPUs; choose cuda:0 or cuda:1"),
    "beyond the cards, of which no source tells": (
        search("cuda:3", seen=3),
        Facts(),
        "it sees 3 GPUs; choose cuda:0 to cuda:2",
    ),
    "one MIG device": (
        search("cuda:1", seen=1),
        dataclasses.replace(ONE, cards=(Card("GPU-aaaa-1", mig=True, slices=("MIG-1", "MIG-2")),)),
        "of GPUs in MIG mode a process sees one MIG device; choose cuda:0, and which by CUDA_VISIBLE_DEVICES",
    ),
    "MIG mode without a device": (
        search("cuda:1"),
        dataclasses.replace(TWO, cards=(Card("GPU-aaaa-1"), Card("GPU-bbbb-2", mig=True))),
        "GPU 1 is in MIG mode without a MIG device; create one (`sudo nvidia-smi mig -i 1 -cgi 0 -C`), or turn MIG off "
        "(`sudo nvidia-smi -i 1 -mig 0`)",
    ),
    "MIG mode without a name": (
        search(visible="0"),
        dataclasses.replace(ONE, cards=(Card("GPU-aaaa-1", mig=True, slices=("MIG-1",)),)),
        "GPU 0 is in MIG mode; name a MIG device of it: CUDA_VISIBLE_DEVICES=MIG-1",
    ),
    "prohibited": (
        search(),
        dataclasses.replace(ONE, cards=(Card("GPU-aaaa-1", mode=2),)),
        "GPU 0 is in a compute mode that lets no process compute (PROHIBITED); `sudo nvidia-smi -i 0 -c DEFAULT`",
    ),
    "exclusive, though it is seen": (
        search(seen=1),
        dataclasses.replace(ONE, cards=(dataclasses.replace(HELD, mode=3),)),
        "GPU 0 is in a compute mode that lets one process compute (EXCLUSIVE), which is process 7 (train.py, 79.0 "
        "GiB); `sudo nvidia-smi -i 0 -c DEFAULT`",
    ),
    "memory held by another": (
        search("cuda:0", visible="GPU-aa"),
        dataclasses.replace(ONE, cards=(HELD,)),
        "GPU 0 has 0.5 GiB of 80.0 GiB left, the rest held by process 7 (train.py, 79.0 GiB); end it, or choose "
        "another GPU",
    ),
}


@pytest.mark.parametrize(("asked", "facts", "line"), CAUSES.values(), ids=CAUSES)
def test_a_cause_is_a_line_that_ends_in_what_to_do(asked, facts, line):
    assert cause(asked, facts) == line


def test_where_a_gpu_of_another_kind_is_the_bus_says_nothing_of_it():
    asked, _, line = CAUSES["not built for CUDA"]
    assert cause(asked, Facts(other=True)) == line


def test_each_cause_has_a_line_of_its_own():
    own = [line for name, (_, _, line) in CAUSES.items() if not name.startswith("a container with the driver")]
    assert len(set(own)) == len(own)


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        (search(), ONE),
        (search(), NO_BINDING),
        (search(built_for=None), ONE),
        (search(built_for="12.9"), ONE),  # an older CUDA runs on a newer driver
        (search(built_for="13.3"), ONE),  # and a newer one of the same major version
        (search("cuda:1", visible="1,0,9"), TWO),  # what follows is not asked for
        (search(visible="GPU-bb"), TWO),
        (search(), dataclasses.replace(ONE, cards=(dataclasses.replace(HELD, free=2 * GIB),))),
        (search(), dataclasses.replace(ONE, cards=(Card("GPU-aaaa-1", mode=3),))),
        (search(), Facts(wsl=True, wsl_driver=True)),
    ],
)
def test_where_the_facts_do_not_tell_there_is_no_line(asked, facts):
    assert cause(asked, facts) == ""


class TestSharedMemory:
    def test_those_that_hold_most_are_named(self):
        held = [Holder(pid, f"p{pid}", pid * GIB) for pid in (1, 4, 3, 2)]
        facts = dataclasses.replace(ONE, cards=(dataclasses.replace(HELD, holders=(*held, Holder(9, "", None, True))),))
        assert shared_memory("cuda", None, facts) == (
            "GPU 0 of 80.0 GiB is shared with process 4 (p4, 4.0 GiB), process 3 (p3, 3.0 GiB), process 2 (p2, 2.0 "
            "GiB) and 1 more; end it, or choose another GPU"
        )

    def test_our_own_workers_are_not_others(self):
        facts = dataclasses.replace(ONE, cards=(dataclasses.replace(HELD, holders=(Holder(9, "", GIB, True),)),))
        assert shared_memory("cuda", None, facts) == ""

    def test_in_a_container_numbers_of_processes_may_be_those_of_the_host(self):
        facts = dataclasses.replace(ONE, cards=(HELD,), container=GPUS_ALL)
        assert shared_memory("cuda", None, facts) == ""

    def test_of_an_unknown_card_nothing_is_known(self):
        assert shared_memory("cuda:1", None, ONE) == ""


class TestBeforeAnythingIsInstalled:
    @pytest.mark.parametrize(
        ("facts", "visible", "line"),
        [
            (
                Facts(),
                None,
                "device 'cuda' asked for: this machine has no NVIDIA GPU on its PCI bus; pass --device cpu",
            ),
            (ONE, "", "device 'cuda' asked for: CUDA_VISIBLE_DEVICES is empty, which hides the GPU; unset it"),
            (ONE, None, ""),
            (NO_BINDING, None, ""),
            (Facts(other=True), None, ""),
        ],
    )
    def test_what_no_framework_could_find_is_refused(self, facts, visible, line):
        assert refuse(["cpu", "cuda"], facts, visible) == line

    def test_a_cpu_needs_no_gpu(self):
        assert refuse(["cpu"], Facts(), None) == ""

    def test_it_needs_the_standard_library_alone(self, tmp_path):
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from bench.machine import gpu_cause as it; "
        plant(tmp_path, without("dev/"))
        run = f"from pathlib import Path; it.ROOT = Path({str(tmp_path)!r}); sys.exit(it.main('cpu,cuda:1'))"
        done = subprocess.run([sys.executable, "-I", "-S", "-c", code + run], capture_output=True, text=True, env={})
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("alexnet-bench: device 'cuda:1' asked for: 1 NVIDIA GPU is on the PCI bus and ")

    def test_make_refuses_before_it_installs(self, tmp_path, monkeypatch):
        python = tmp_path / "python"
        python.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f'case "$*" in *gpu_cause*) exit 2;; esac\nexec {sys.executable} "$@"\n'
        )
        python.chmod(0o755)
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-gpu-jax.txt", "impls"):
            (tmp_path / name).symlink_to(ROOT / name)
        words = ["make", "bench", "DEVICE=cuda", "FRAMEWORK=jax", f"PYTHON={python}"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        calls = (tmp_path / "calls").read_text().splitlines()
        assert calls[-1] == "-m bench.machine.gpu_cause cuda"
        assert not any("venv" in call for call in calls)
        plan = subprocess.run(
            [*words[:1], "-n", "setup", *words[2:]], cwd=tmp_path, capture_output=True, text=True
        ).stdout
        assert "gpu_cause" not in plan, "the environments can be made on any machine"
        assert "-c constraints-gpu-jax.txt" in plan


class TestCommands:
    """Through the command line, with the null Net playing a build for CUDA 13 that sees no GPU."""

    ASKED = ("run", "--framework", "null", "--device", "cuda", "--env", "NULL_NET=cuda=13.0")

    @pytest.mark.parametrize(
        ("files", "line"),
        [
            (without(CARD, "dev/", "proc/driver"), CAUSES["no card"][2]),
            (without("dev/", "proc/driver"), CAUSES["no driver"][2].replace("2 NVIDIA GPUs are", "1 NVIDIA GPU is")),
            (without("dev/") | {".dockerenv": ""}, CAUSES["a container with the card of its host"][2]),
            ({"dev/dxg": ""}, CAUSES["WSL"][2]),
            (WELL, "check `nvidia-smi`, or pass --device cpu"),
        ],
        ids=["no card", "no driver", "container", "WSL", "unknown"],
    )
    @pytest.mark.usefixtures("no_nvml")
    def test_the_line_names_the_cause_by_the_files_of_the_machine(self, inline, tmp_path, monkeypatch, files, line):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(gpu_cause, "ROOT", plant(tmp_path / "root", files))
        run = inline(*self.ASKED)
        assert (run.code, run.out) == (2, "")
        assert run.err == f"alexnet-bench: device 'cuda' asked for, the null Net has cpu only: {line}\n"

    @pytest.mark.parametrize(
        ("cards", "state", "visible", "end"),
        [
            (
                [],
                {"cuda": 12040, "driver": "550.54.15"},
                None,
                "supports CUDA up to 12.4, null is built for CUDA 13.0; install driver 580.65 or newer",
            ),
            ([], {}, "-1", "CUDA_VISIBLE_DEVICES is -1, which hides the GPU; unset it"),
            ([gpus.card(mig=1)], {}, None, "turn MIG off (`sudo nvidia-smi -i 0 -mig 0`)"),
            ([gpus.card(mode=2)], {}, None, "(PROHIBITED); `sudo nvidia-smi -i 0 -c DEFAULT`"),
            ([gpus.card(pids=[1], held=139 * GIB)], {}, None, "139.0 GiB); end it, or choose another GPU"),
            ([], {"init": 18}, None, "(NVML error 18); reboot"),
        ],
        ids=["old driver", "hidden", "MIG", "prohibited", "held", "mismatch"],
    )
    def test_the_line_names_the_cause_by_nvml(self, command, tmp_path, monkeypatch, cards, state, visible, end):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        stand_in = gpus.with_cards(tmp_path, *cards, **state)
        run = command(*self.ASKED, env=stand_in | ({"CUDA_VISIBLE_DEVICES": visible} if visible else {}))
        assert (run.code, run.out) == (2, "")
        (line,) = run.err.splitlines()
        assert line.startswith("alexnet-bench: device 'cuda' asked for, the null Net has cpu only: ")
        assert line.endswith(end)
        assert not run.results.exists()
