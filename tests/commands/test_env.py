"""`env`: the facts it gathers in real Workers, the advice it makes of them, and what it prints."""

import copy
import json
import sys

import msgspec
import pytest

from bench import UsageError
from bench.commands import env, env_advice
from bench.commands.cli import parse_words
from bench.output import env_table
from bench.output.env_table import EnvReport, FrameworkFacts
from bench.worker.replies import Library
from impls import FRAMEWORKS

*FIRST, LAST = FRAMEWORKS

pytestmark = pytest.mark.process
SETTINGS = {"threads": 2, "onednn": True, "tf32": False, "bf16": None, "switches": {}}
QUIET = {
    "device": "cpu",
    "never_run": False,
    "threads": 2,
    "machine": {
        "cpu": "a CPU",
        "cores": 2,
        "usable_cores": 2,
        "affinity": "0-1",
        "quota": None,
        "load_1min": 0.5,
        "governor": None,
    },
    "shell": {"let_through": [], "ignored": []},
    "gpu": {"present": False, "driver": None, "nvml": False, "cards": []},
    "noise": {
        "wall_s": 1.0,
        "steal_pct": 0.2,
        "throttled": None,
        "controls": 30,
        "controls_off": 3,
        "control_cpu_ns": 1,
        "control_mem_ns": 1,
        "evidence": {},
    },
    "frameworks": {
        "torch": {
            "installed": True,
            "failed": None,
            "pip": "pip",
            "version": "2.13.0",
            "versions": {"torch": "2.13.0", "cuda": None},
            "libraries": [{"name": "libgomp.so.1", "inside": True}, {"name": "libtorch_cpu.so", "inside": True}],
            "other_frameworks": [],
            "settings": SETTINGS,
            "owned_twice": [],
            "precision": {"matmul": {"error": 3e-7, "precision": "fp32"}},
        },
        "jax": {"installed": False, "failed": None, "install": "pip install 'alexnet-bench[jax]'"},
    },
}


LACKING = """
import sys
class Lacking:
    def find_spec(self, name, *rest):
        if name == "jax":
            raise ModuleNotFoundError("No module named 'jax'")
sys.meta_path.insert(0, Lacking())
"""


def advice(*path: str, **changes: object) -> list[str]:
    """Advice for a quiet machine but for these changes to the facts at ``path``."""
    found = copy.deepcopy(QUIET)
    at = found
    for key in path:
        at = at[key]
    at.update(changes)
    return list(env_advice.advice_on(msgspec.convert(found, EnvReport)))


class TestAdvice:
    def test_on_a_quiet_machine_there_is_none(self):
        assert advice() == []

    @pytest.mark.parametrize(
        ("at", "changes", "line"),
        [
            ("machine", {"load_1min": 1.1}, "load 1.1 on 2 cores: stop other processes first, see `top`"),
            (
                "machine",
                {"governor": "powersave"},
                "governor 'powersave' lets the clock vary: sudo cpupower frequency-set -g performance",
            ),
            (
                "machine",
                {"cores": 8, "affinity": "0,4"},
                "2 of 8 cores usable (affinity 0,4): lift the limit, unless it is intended",
            ),
            (
                "machine",
                {"cores": 8, "quota": 2.5},
                "2 of 8 cores usable (a CPU quota of 2.5): lift the limit, unless it is intended",
            ),
            (
                "noise",
                {"steal_pct": 1.2},
                "other virtual machines took 1.2 % of the CPU time: take more Rounds (--rounds 20), or a quieter host",
            ),
            ("noise", {"throttled": 3.0}, "the CPU quota stopped a process 3 times: raise the container's limit"),
            (
                "noise",
                {"controls_off": 7},
                "7 of 30 controls were more than 5 % off their median: the speed is not steady; stop other work, or "
                "take more Rounds (--rounds 20)",
            ),
            (
                "shell",
                {"let_through": ["LD_PRELOAD", "NULL_NET"]},
                "--env passes LD_PRELOAD, which can change every time: leave out what is not under test",
            ),
            (
                "gpu",
                {"present": True, "nvml": True},
                "this machine has a GPU, which a CPU Worker does not see: use `alexnet-bench env --device cuda`",
            ),
        ],
    )
    def test_what_is_to_be_done_is_one_line(self, at, changes, line):
        assert advice(at, **changes) == [line]

    def test_the_performance_governor_is_what_is_wanted(self):
        assert advice("machine", governor="performance") == []

    def test_more_threads_than_cores_wait_for_each_other(self):
        (line, other) = advice(threads=4)
        assert line == "--threads 4 on 2 usable cores: threads would wait for each other; pass 2 or fewer"
        assert other == "torch runs 2 threads, 4 were requested: find out what sets them"

    def test_a_gpu_that_is_busy_or_slowed_down_comes_first(self):
        card = {"index": 1, "pids": [7, 8], "reasons": 0x44}
        lines = advice(device="cuda", gpu={"present": True, "driver": "570", "nvml": True, "cards": [card]})
        assert lines == [
            "GPU 1: 2 other processes use it, see `nvidia-smi`: stop them first",
            "GPU 1 is throttled (thermal slowdown by hardware): check its cooling and power first",
        ]

    def test_a_gpu_without_nvml_leaves_no_evidence(self):
        (line,) = advice(device="cuda", gpu={"present": True, "driver": None, "nvml": False, "cards": []})
        assert line.endswith("pip install nvidia-ml-py")

    @pytest.mark.parametrize(
        ("changes", "line"),
        [
            (
                {"versions": {"cuda": "13.0"}, "version": "2.13.0+cu130"},
                "torch 2.13.0+cu130 is a CUDA build on a machine without a GPU; the CPU build is smaller: "
                "pip install torch --index-url https://download.pytorch.org/whl/cpu",
            ),
            (
                {
                    "owned_twice": [
                        {"file": f"libcudnn{part}.so.9", "owners": ["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"]}
                        for part in ("", "_cnn", "_ops")
                    ]
                },
                "torch: libcudnn.so.9 and 2 more belong to nvidia-cudnn-cu12 and to nvidia-cudnn-cu13, whichever was "
                "installed last: pip uninstall -y nvidia-cudnn-cu12 nvidia-cudnn-cu13, then pip install "
                "'alexnet-bench[torch]'",
            ),
            (
                {"libraries": [{"name": name, "inside": True} for name in ("libgomp-24e2.so.1", "libiomp5.so")]},
                "torch: 2 OpenMP runtimes in one process (libgomp-24e2.so.1, libiomp5.so), their threads compete for "
                "the same cores: give it an environment of its own, --python torch=PATH",
            ),
            (
                {"other_frameworks": ["jax"]},
                "torch: jax also loaded in its process, with threads and memory: give it an environment of its own, "
                "--python torch=PATH",
            ),
            (
                {"settings": SETTINGS | {"threads": 1}},
                "torch runs 1 threads, 2 were requested: find out what sets them",
            ),
            (
                {"settings": SETTINGS | {"onednn": False}},
                "torch computes without oneDNN, which its usual build has: pip install 'alexnet-bench[torch]'",
            ),
            (
                {"precision": {"conv": {"error": 2e-3, "precision": "bf16"}}},
                "torch: an fp32 conv was computed in bf16: a Run would flag it; see --env",
            ),
            ({"failed": "killed by SIGILL"}, "torch cannot start: killed by SIGILL"),
        ],
    )
    def test_a_framework_is_told_what_to_mend(self, changes, line):
        assert advice("frameworks", "torch", **changes) == [line]

    def test_the_parts_of_one_library_are_one_runtime(self):
        names = ("libmkl_core.so.2", "libmkl_intel_lp64.so.2", "libgomp.so.1", "libomptarget.so")
        found = env_advice.runtimes([Library(name, inside=True) for name in names])
        assert found == {"OpenMP": ["libgomp.so.1"], "BLAS": ["mkl"]}

    def test_where_no_framework_is_installed_the_extras_are_named(self):
        found = copy.deepcopy(QUIET) | {"frameworks": {"jax": QUIET["frameworks"]["jax"]}}
        assert list(env_advice.advice_on(msgspec.convert(found, EnvReport))) == [
            "no framework is installed: pip install 'alexnet-bench[torch,tensorflow]'"
        ]


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        (
            env.SPEED,
            "TORCH_LOGS PYTORCH_ALLOC_CONF TF_ENABLE_ONEDNN_OPTS XLA_FLAGS JAX_PLATFORMS OMP_NUM_THREADS CUDNN_LOGINFO",
            "TF_CLI_ARGS TF_VAR_region TORCHX NPROC PATH",
        ),
        (
            env_advice.SWITCHES,
            "JAX_DISABLE_JIT JAX_DEBUG_NANS XLA_FLAGS TF_DETERMINISTIC_OPS TORCH_LOGS MKL_VERBOSE "
            "ONEDNN_VERBOSE LD_PRELOAD PYTHONMALLOC CUDA_LAUNCH_BLOCKING",
            "JAX_PLATFORMS JAX_DISABLE TF_CPP_MIN_LOG_LEVEL TORCHINDUCTOR_CACHE_DIR NVIDIA_TF32_OVERRIDE",
        ),
    ],
    ids=["change the speed", "whatever their value"],
)
def test_variables_that_matter_are_those_of_shared_libraries_and_of_every_framework(pattern, names, others):
    assert [name for name in f"{names} {others}".split() if pattern.fullmatch(name)] == names.split()


def run_env(*words, as_json=True):
    """The exit code of `env` with these words."""
    always = ["--threads", "2", "--worker-limit", "60", *(["--json"] if as_json else [])]
    return env.main(parse_words("env", [*always, *words]))


class TestCommand:
    def test_json_is_one_object_on_stdout_with_every_fact_and_the_shells_variables_by_name_only(
        self, capsys, monkeypatch
    ):
        monkeypatch.setenv("OMP_NUM_THREADS", "secret")
        monkeypatch.setenv("TF_CLI_ARGS", "for another TF")
        assert run_env("--framework", "null") == 0
        out = capsys.readouterr().out
        found = json.loads(out)
        assert set(found) == {"device", "never_run", *"threads machine shell gpu frameworks noise advice".split()}
        assert {"OMP_NUM_THREADS", "PATH", "TF_CLI_ARGS"} & set(found["shell"]["ignored"]) == {"OMP_NUM_THREADS"}
        assert "secret" not in out
        null = found["frameworks"]["null"]
        assert (null["installed"], null["failed"], null["devices"]) == (True, None, ["cpu"])
        assert null["precision"]["conv"]["precision"] == "fp32"
        assert found["noise"]["wall_s"] >= 1
        assert found["noise"]["controls"] > 3

    def test_torch_says_its_threads_and_the_libraries_that_decide_its_speed(self, capsys):
        pytest.importorskip("torch")
        assert run_env("--framework", "torch") == 0
        torch = json.loads(capsys.readouterr().out)["frameworks"]["torch"]
        assert torch["settings"]["threads"] == 2
        assert torch["version"] == torch["versions"]["torch"]
        assert {"name": "libtorch_cpu.so", "inside": True} in torch["libraries"]
        assert torch["owned_twice"] == []

    def test_a_framework_that_is_installed_and_cannot_start_is_advice_and_exit_1(self, capsys, tmp_path):
        (tmp_path / "jax").mkdir()
        (tmp_path / "jax" / "__init__.py").write_text('raise RuntimeError("jaxlib is too old")')
        assert run_env("--framework", "jax", "--env", f"PYTHONPATH={tmp_path}", as_json=False) == 1
        out = capsys.readouterr().out
        assert "- jax cannot start: failed in configure: RuntimeError: jaxlib is too old\n" in out
        assert "cannot start" in out.partition("Advice")[0]

    def test_a_process_that_dies_leaves_its_last_line(self, capsys, tmp_path):
        (tmp_path / "jax").mkdir()
        (tmp_path / "jax" / "__init__.py").write_text(
            "import os, sys; print('no AVX2 here', file=sys.stderr, flush=True); os._exit(3)"
        )
        assert run_env("--framework", "jax", "--env", f"PYTHONPATH={tmp_path}") == 1
        failed = json.loads(capsys.readouterr().out)["frameworks"]["jax"]["failed"]
        assert failed == "ended by itself with exit code 3 (it wrote: no AVX2 here)"

    def test_a_device_that_is_not_there_is_shown_not_refused(self, capsys, monkeypatch, tmp_path):
        monkeypatch.setattr("bench.machine.gpu_cause.ROOT", tmp_path)  # a machine without a GPU
        assert run_env("--framework", "null", "--device", "cuda", "--env", "NULL_NET=cuda=13.0") == 1
        found = json.loads(capsys.readouterr().out)
        null = found["frameworks"]["null"]
        assert null["failed"].startswith("device 'cuda' asked for, the null Net has cpu only: this machine has no ")
        assert [line for line in found["advice"] if "null" in line] == [f"null cannot start: {null['failed']}"]
        # what else there is to know of it, from a Worker on the CPU
        assert (null["versions"]["cuda"], null["devices"], null["owned_twice"]) == ("13.0", ["cpu"], [])

    def test_a_kind_of_device_of_which_there_is_no_run_is_marked(self, capsys):
        marked = {}
        for device in ("cpu", "cuda"):
            run_env("--framework", "null", "--device", device)
            marked[device] = json.loads(capsys.readouterr().out)["never_run"]
        assert marked == {"cpu": False, "cuda": True}
        run_env("--framework", "null", "--device", "cuda", as_json=False)
        assert " nobody has sent a Run on cuda yet: docs/adding.md says how" in capsys.readouterr().out

    def test_frameworks_that_have_the_device_are_inspected(self, capsys):
        pytest.importorskip("torch")
        assert run_env("--device", "mps") == 1
        (name, facts), *others = json.loads(capsys.readouterr().out)["frameworks"].items()
        assert (name, others) == ("torch", [])
        assert facts["failed"].endswith(": no mps here (macOS on Apple silicon with PyTorch's usual build has it)")

    def test_libraries_of_other_devices_have_their_names(self):
        cell = env_table.FACTS["cuda, cudnn"]
        facts = [
            FrameworkFacts(installed=True, versions=versions)
            for versions in (
                {"cuda": "13.0", "cudnn": 91300, "hip": None},
                {"cuda": None, "hip": "6.2.4"},
                {"xpu": "20250101"},
                {},
            )
        ]
        assert list(map(cell, facts)) == ["13.0, 91300", "ROCm 6.2.4", "SYCL 20250101", "-"]

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--framework", "caffe"], f"unknown framework 'caffe': choose {', '.join(FIRST)} or {LAST}"),
            (["--framework", "null", "--device", "cpu,cuda"], "--device: expected one, found cpu, cuda"),
            (["--framework", "null", "--python", "null=/no/python"], "cannot start /no/python for null"),
            (
                ["--framework", "null", "--threads", "0"],
                "--threads: expected a whole number from 1 to 4,096, found '0'",
            ),
        ],
    )
    def test_a_users_mistake_is_a_line(self, words, message):
        with pytest.raises(UsageError) as error:
            run_env(*words)
        assert str(error.value).startswith(message)

    def test_a_named_framework_that_is_missing_is_a_mistake_and_an_unnamed_one_a_fact(self, capsys, monkeypatch):
        monkeypatch.setattr(env, "find_spec", lambda name: None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match="framework 'jax' is not installed: pip install"):
            run_env("--framework", "jax")
        assert run_env(as_json=False) == 0
        out = capsys.readouterr().out
        assert "torch is not installed: pip install 'alexnet-bench[torch]'\n" in out
        assert "- no framework is installed: pip install 'alexnet-bench[torch,tensorflow]'\n" in out

    def test_an_interpreter_that_lacks_the_framework_it_was_named_for_is_a_mistake(self, tmp_path):
        (tmp_path / "prelude").write_text(LACKING)
        python = tmp_path / "python"
        body = f'code="$(cat {tmp_path}/prelude)\n$2"\nshift 2\nexec {sys.executable} -c "$code" "$@"\n'
        python.write_text(f"#!/bin/sh\n{body}")
        python.chmod(0o755)
        with pytest.raises(UsageError, match="framework 'jax' is not installed for"):
            run_env("--framework", "jax", "--python", f"jax={python}")

    def test_no_line_of_the_tables_is_longer_than_100(self, capsys):
        run_env("--framework", "null", as_json=False)
        facts = capsys.readouterr().out.partition("Advice")[0]
        assert "machine" in facts
        assert "frameworks, each in a Worker of its own for cpu" in facts
        assert max(len(line) for line in facts.splitlines() if not line.startswith("set here")) <= 100
