"""The command line: bad input in one line and exit 2, JSON shapes, a cheap --help."""

import csv
import dataclasses
import gc
import importlib
import json
import os
import resource
import subprocess
import sys

import pytest
from click.testing import CliRunner
from command import NULL, SMALL, Command, Inline
from paths import ROOT

from bench.cases.layer_table import REPORTED
from bench.commands.cli import main, main_of
from bench.record.run import Run
from bench.worker.replies import LayerReport
from impls import FRAMEWORKS
from impls.variants import VARIANTS

*FIRST, LAST = FRAMEWORKS
A_NAME = "expected up to 200 letters, digits, '.', '_' and '-'"
RATIO = set(
    "case_id pass baseline candidate ratio ci95_low ci95_high verdict reason rounds paired margin minimum_detectable "
    "rounds_needed differs".split()
)
A_SHARD = (
    "--shard: expected I/N with N from 1 to 100,000 and I from 0 to N - 1, such as 0/8 for the first of 8 "
    "(SLURM_ARRAY_TASK_ID of --array=0-7, JOB_COMPLETION_INDEX)"
)
SPIN = (*NULL, "--mode", "part", "--env", "NULL_NET=spin=5", "--pass", "forward", "--rounds", "6", "--json")


def invoke(*args, **env):
    return CliRunner().invoke(main, args, env=env)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("run", "--variant", "alexnet"),
            "unknown variant 'alexnet': choose tutorial, caffenet, bvlc, original, single_tower, keras_bn, "
            "half_width or owt",
        ),
        (("run", "--framework", "caffe"), f"unknown framework 'caffe': choose {', '.join(FIRST)} or {LAST}"),
        (("run", "--framework", "torch", "--mode", "xla"), "torch has no mode 'xla': choose eager or compile"),
        (("run", "--device", "gpu"), "unknown device 'gpu': choose cpu, cuda, mps, xpu, or one GPU such as cuda:1"),
        (("run", "--pass", "backward"), "unknown pass 'backward': choose forward, forward_backward or train_step"),
        (("run", "--precision", "fp8"), "unknown precision 'fp8': choose fp32, tf32 or bf16"),
        (("run", "--protocol", "quick"), "unknown protocol 'quick': choose rounds or classic"),
        (("run", "--batch", "0"), "--batch: expected a whole number from 1 to 65,536, found '0'"),
        (("run", "--batch", "8,-1"), "--batch: expected a whole number from 1 to 65,536, found '-1'"),
        (("run", "--burn-in", "0"), "--burn-in: expected a whole number from 1 to 1,000,000, found '0'"),
        (("run", "--iterations", "ten"), "--iterations: expected a whole number from 1 to 1,000,000, found 'ten'"),
        (("run", "--rounds", "-2"), "--rounds: expected a whole number from 1 to 10,000, found '-2'"),
        (("run", "--threads", "0"), "--threads: expected a whole number from 1 to 4,096, found '0'"),
        (("run", "--seed", "-1"), "--seed: expected a whole number from 0 to 9,223,372,036,854,775,807, found '-1'"),
        (("run", "--max-time", "nan"), "--max-time: expected seconds, above 0 and at most 31,536,000, found 'nan'"),
        (("run", "--worker-limit", "0"), "--worker-limit: expected seconds, above 0 and at most 31,536,000, found '0'"),
        (("run", "--iterations", "9" * 26), "--iterations: expected a whole number from 1 to 1,000,000, found '999"),
        (("run", "--iterations", "9" * 5000), "--iterations: expected a whole number from 1 to 1,000,000, found '999"),
        (("run", "--batch", "2,65537"), "--batch: expected a whole number from 1 to 65,536, found '65537'"),
        (("run", "--size", "9" * 20), "--size: expected a whole number from 1 to 2,048, found '999"),
        (("run", "--seed", str(2**63)), "--seed: expected a whole number from 0 to 9,223,372,036,854,775,807, found"),
        (("run", "--ab", "threads=1,4097"), "--ab threads: expected a whole number from 1 to 4,096, found '4097'"),
        (("run", "--worker-limit", "1e308"), "--worker-limit: expected seconds, above 0 and at most 31,536,000, found"),
        (("run", "--device", "cuda:" + "9" * 20), "unknown device 'cuda:999"),
        (("run", "--resume", ""), "--resume: expected a path, found ''"),
        (("run", "--out", ""), "--out: expected a path, found ''"),
        (("run", "--dry-run", "--name", "a/b"), f"--name: {A_NAME}, found 'a/b'"),
        (("run", "--dry-run", "--name", "../a"), f"--name: {A_NAME}, found '../a'"),
        (("run", "--dry-run", "--name", "n" * 201), f"--name: {A_NAME}, found 'nnn"),
        (("ingest", "x.json", "--name", "é" * 101), f"--name: {A_NAME}, found 'ééé"),
        (("run", "--size", "10"), "size 10 is too small: expected for tutorial at least 28 pixels"),
        *((("run", "--shard", text), f"{A_SHARD}, found '{text}'") for text in ("8/8", "1/0", "-1/8", "3", "1/2/3")),
        *((("run", "--shard", text), f"{A_SHARD}, found '{text}'") for text in ("", "a/8", "0/100001", "0.5/2", "²/3")),
        (("merge", "nowhere"), "nowhere: merge needs folders of `run`, found no such folder; leave it out"),
        (("run", "--python", "torch"), "--python: expected FRAMEWORK=PATH, found 'torch'"),
        (
            ("run", "--env", "NOT_SET_ANYWHERE"),
            "--env NOT_SET_ANYWHERE: not set here; pass --env NOT_SET_ANYWHERE=VALUE",
        ),
        (
            ("run", "--env", "CUDA_VISIBLE_DEVICES=1"),
            "--env CUDA_VISIBLE_DEVICES: set it for the whole command instead: CUDA_VISIBLE_DEVICES=1 alexnet-bench",
        ),
        (
            ("run", "--ab", "env:CUDA_VISIBLE_DEVICES=0,1"),
            "--ab env:CUDA_VISIBLE_DEVICES: set it for the whole command instead: CUDA_VISIBLE_DEVICES=1 ",
        ),
        (("run", "--env", "=3"), "--env: expected NAME or NAME=VALUE, found '=3'"),
        (("run", "--protocol", "classic", "--rounds", "3"), "--rounds: the classic protocol has one Round"),
        (("run", "--target-ci", "0"), "--target-ci: expected percent, above 0 and below 100, found '0'"),
        (("run", "--target-ci", "2", "--protocol", "classic"), "--target-ci: the classic protocol has one Round"),
        (
            ("run", "--ab", "speed=1,2"),
            "--ab: expected KEY=A,B with KEY impls, python, net, threads, mode, layout, lrn, preset, env:NAME or "
            "slowdown, found 'speed=1,2'",
        ),
        (("run", "--resume", "nowhere"), "nowhere: cannot read run.jsonl: No such file or directory"),
        (("compare", "nowhere"), "nowhere: cannot read run.jsonl: No such file or directory"),
        (("verify", "--batch", "two"), "--batch: expected a whole number from 1 to 65,536, found 'two'"),
        (("verify", "--variant", "vgg"), "unknown variant 'vgg'"),
        (("layers", "--framework", "caffe"), "unknown framework 'caffe'"),
        (("plot", "no_such.csv"), "no_such.csv: cannot read: No such file or directory"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(args, message):
    result = invoke(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("alexnet-bench: ")
    assert message in line


@pytest.mark.parametrize(
    "value", ["v" * 5000, "a\nb", "\x1b[31mred\x07", "\u202egnp", "\udcff", "c" * 500 + " d" * 500]
)
@pytest.mark.parametrize(
    "option", ["--variant", "--batch", "--device", "--weights", "--net", "--ab", "--python", "--env", "--name", "--no"]
)
def test_a_value_is_quoted_printable_and_short(option, value):
    """Whatever a shell can pass: bytes that are not UTF-8 are lone surrogates."""
    result = invoke("run", "--dry-run", option, value)
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.isprintable()
    assert len(line) <= 1100
    assert result.stderr.count("\n") == (4 if option == "--no" else 1)  # click prints the usage first


@pytest.mark.parametrize(
    "words", ["run --batches 3", "env --seed 1", "env --size 67", "layers --seed 1"], ids=lambda words: words
)
def test_an_option_that_a_command_has_not_is_exit_2(words):
    result = invoke(*words.split())
    assert result.exit_code == 2
    assert "No such option" in result.stderr


def test_a_framework_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = invoke("run", "--framework", "torch")
    assert result.exit_code == 2
    assert result.stderr == ("alexnet-bench: framework 'torch' is not installed: pip install 'alexnet-bench[torch]'\n")


def test_no_framework_at_all_is_a_mistake(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = invoke("run")
    assert result.exit_code == 2
    assert "no framework is installed: pip install 'alexnet-bench[torch,tensorflow]'" in result.stderr


def test_a_missing_gpu_is_exit_2_and_never_the_cpu(inline, monkeypatch, tmp_path):
    monkeypatch.setattr("bench.machine.gpu_cause.ROOT", tmp_path)  # a machine without a GPU
    run = inline("run", "--framework", "null", "--device", "cuda")
    assert run.code == 2
    assert run.err == (
        "alexnet-bench: device 'cuda' asked for, the null Net has cpu only: it is not built for CUDA, and this machine "
        "has no NVIDIA GPU on its PCI bus; pass --device cpu\n"
    )
    assert not run.results.exists()


class TestOtherAccelerators:
    """Where there is no such device: on a machine with one these are Runs."""

    @pytest.mark.parametrize(("device", "needs"), [("mps", "macOS on Apple silicon"), ("xpu:1", "an Intel GPU")])
    def test_the_line_says_which_machine_and_build_has_it(self, inline, device, needs):
        torch = pytest.importorskip("torch")
        run = inline("run", "--framework", "torch", "--device", device)
        assert (run.code, run.err.count("\n")) == (2, 1)
        seen = f"alexnet-bench: torch {torch.__version__} sees cpu: no {device} here ({needs} with "
        assert run.err.startswith(seen)
        assert run.err.endswith(" has it)\n")
        assert not run.results.exists()

    @pytest.mark.parametrize(
        "words",
        [
            ("run", "--framework", "tensorflow,torch"),
            ("run", "--framework", "tensorflow", "--ab", "layout=nhwc,nhwc"),
            ("run", "--framework", "torch", "--net", "examples/keras_alexnet.py:build"),
            ("verify", "--framework", "tensorflow"),
            ("train", "--framework", "tensorflow"),
            ("profile", "--framework", "tensorflow"),
            ("env", "--framework", "tensorflow"),
        ],
    )
    def test_a_framework_that_lacks_it_is_refused_with_those_that_have_it(self, inline, words):
        pytest.importorskip("tensorflow")
        run = inline(*words, "--device", "mps")
        assert run.code == 2
        assert run.err.splitlines()[-1] == "alexnet-bench: tensorflow has no mps: choose --framework torch"

    @pytest.mark.parametrize("words", [(), ("--framework", "all")])
    def test_unless_one_is_named_those_that_have_it_are_taken(self, inline, words):
        pytest.importorskip("torch")
        run = inline("run", "--device", "xpu", *words, "--pass", "forward", "--dry-run", "--json")
        assert json.loads(run.out)["cases"] == ["tutorial-torch-eager-xpu-fp32-b128-forward"]

    def test_if_none_that_is_installed_has_it_the_line_names_one_that_does(self, inline, monkeypatch):
        found = importlib.util.find_spec
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else found(name))
        run = inline("run", "--device", "mps")
        assert (run.code, run.err) == (2, "alexnet-bench: tensorflow has no mps: choose --framework torch\n")

    def test_tf32_is_cudas(self, inline):
        run = inline("run", "--framework", "torch", "--device", "cuda,mps", "--precision", "tf32")
        message = "precision 'tf32' asked for, which only cuda has: choose fp32 or bf16 on Apple's GPU"
        assert (run.code, run.err) == (2, f"alexnet-bench: {message}\n")
        every = inline("run", "--framework", "torch", "--device", "mps", "--precision", "all", "--dry-run", "--json")
        assert {name.split("-")[4] for name in json.loads(every.out)["cases"]} == {"fp32", "bf16"}


def test_a_framework_that_sees_no_gpu_is_exit_2_in_one_line(command):
    run = command("run", "--framework", "jax", "--device", "cuda", env={"CUDA_VISIBLE_DEVICES": ""})
    assert run.code == 2
    (line,) = run.err.splitlines()
    assert line.startswith("alexnet-bench: device 'cuda' asked for, jax ")
    assert "sees cpu only: it is not built for CUDA" in line
    assert "pass --device cpu" in line
    assert not run.results.exists()


def test_an_output_folder_that_cannot_be_written_is_exit_2(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = invoke("run", *NULL, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert f"cannot write to {tmp_path / 'file'}: Not a directory; choose another folder with --out" in result.stderr


def test_options_come_from_the_environment_too():
    result = invoke("run", "--framework", "null", "--dry-run", ALEXNET_BENCH_BATCH="32", ALEXNET_BENCH_PASS="forward")
    assert result.stdout.splitlines()[0] == "tutorial-null-noop-cpu-fp32-b32-forward"


def test_a_batch_named_twice_is_one_case():
    result = invoke("run", "--framework", "null", "--batch", "2,2", "--pass", "forward", "--dry-run")
    assert result.stdout.count("-b2-forward") == 1


def test_layers_at_a_size_too_small_for_some_variants_prints_the_others_and_names_the_least_sizes():
    result = invoke("layers", "--variant", "owt,half_width", "--size", "55")
    least = VARIANTS["owt"].least_size
    assert result.exit_code == 2
    assert "half_width, 55 px" in result.stdout
    assert "owt" not in result.stdout
    assert result.stderr == f"alexnet-bench: size 55 is too small: expected for owt at least {least} pixels\n"


def test_the_table_of_layers_needs_no_framework(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert invoke("layers", "--variant", "owt").exit_code == 0


class TestDryRun:
    def test_dry_run_prints_the_cases_and_the_expected_time(self):
        result = invoke("run", "--framework", "null", "--dry-run")
        assert result.exit_code == 0
        *ids, last = result.stdout.splitlines()
        assert ids == ["tutorial-null-noop-cpu-fp32-b8-forward", "tutorial-null-noop-cpu-fp32-b8-forward_backward"]
        assert "2 cases; 5 Rounds of 20 iterations after 10 burn-in; expected: about" in last

    def test_dry_run_shows_a_plan_that_fits_the_time(self):
        plans = [
            json.loads(invoke("run", "--framework", "null", "--dry-run", "--json", "--max-time", limit, *more).stdout)
            for limit, more in (("100000", ()), ("1", ()), ("1", ("--iterations", "6")))
        ]
        assert [(plan["groups"][0]["rounds"], plan["groups"][0]["iterations"]) for plan in plans] == [
            (5, 20),
            (1, 4),
            (1, 6),
        ]
        said = invoke("run", "--framework", "null", "--dry-run", "--max-time", "1").stdout.splitlines()[-1]
        assert said.startswith("--max-time 1: expected ")
        assert said.endswith(" s or more for one Round, which is measured all the same; a smaller --batch fits sooner")

    def test_dry_run_knows_no_time_of_a_users_model(self, monkeypatch):
        pytest.importorskip("torch")
        monkeypatch.chdir(ROOT / "examples")
        words = ("run", "--dry-run", "--net", "small_cnn.py:SmallCnn")
        why = "unknown, since nothing tells how long a pass of small_cnn.SmallCnn takes before it is timed"
        last = invoke(*words).stdout.splitlines()[-1]
        assert f"5 Rounds of 20 iterations after 10 burn-in; expected: {why}; the other cases alone: about " in last
        alone = invoke(*words, "--input", "3x224x224", "--max-time", "60").stdout.splitlines()
        assert alone[-2].endswith(f"; at most 5 Rounds of 20 iterations after 10 burn-in; expected: {why}")
        assert alone[-1] == "--max-time 60: one Round is measured all the same, and as many more as end in time"
        got = json.loads(invoke(*words, "--json").stdout)
        assert (got["expected_s"], got["unknown"]) == (None, ["small_cnn.SmallCnn"])
        assert [group["seconds"] for group in got["groups"]] == [None]

    def test_dry_run_counts_a_net_that_takes_our_weights_as_the_variant(self):
        pytest.importorskip("torch")
        words = ("run", "--dry-run", "--json", "--variant", "owt", "--framework", "torch")
        net = ("--net", f"{ROOT}/examples/torchvision_alexnet.py:build")
        ours, both = (json.loads(invoke(*words, *more).stdout) for more in ((), net))
        assert both["unknown"] == []
        assert both["expected_s"] > 1.5 * ours["expected_s"]

    def test_dry_run_writes_nothing(self, tmp_path):
        invoke("run", "--framework", "null", "--dry-run", "--out", str(tmp_path / "results"))
        assert not (tmp_path / "results").exists()

    def test_more_work_is_expected_to_take_longer(self):
        def seconds(*args):
            return json.loads(invoke("run", "--framework", "null", "--dry-run", "--json", *args).stdout)["expected_s"]

        assert seconds("--batch", "64") > seconds("--batch", "8")


@pytest.fixture(scope="module")
def json_run(tmp_path_factory):
    return Command(tmp_path_factory.mktemp("json"))("run", *NULL, "--mode", "noop,part", "--rounds", "3", "--json")


@pytest.mark.process
class TestRunJson:
    def test_stdout_holds_nothing_but_the_json(self, json_run):
        assert json_run.code == 0, json_run.err
        assert set(json.loads(json_run.out)) == {"run", "cases", "ratios"}

    def test_the_cases_are_the_rows_of_summary_csv(self, json_run):
        with open(json_run.folder / "summary.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        cases = json.loads(json_run.out)["cases"]
        assert [row["case_id"] for row in rows] == [case["case_id"] for case in cases]
        assert [float(row["mean_ms"]) for row in rows] == [case["mean_ms"] for case in cases]  # unrounded

    def test_each_ratio_has_its_interval_and_verdict(self, json_run):
        ratios = json.loads(json_run.out)["ratios"]
        assert [ratio["pass"] for ratio in ratios] == ["forward", "forward_backward"]
        for ratio in ratios:
            assert set(ratio) == RATIO
            assert ratio["ci95_low"] <= ratio["ratio"] <= ratio["ci95_high"]
            assert "-noop-" in ratio["baseline"]
            assert "-part-" in ratio["candidate"]


@pytest.fixture(scope="module")
def two_arms(tmp_path_factory):
    """A real A/A, and the same with one side slowed by a known share; 5 ms a pass."""
    command = Inline(tmp_path_factory.mktemp("ab"))
    both = {"slowdown=0,0": "aa", "slowdown=0,30": "power"}
    return {text: command("run", *SPIN, "--ab", text, "--name", name) for text, name in both.items()}


@pytest.mark.process
class TestRunAb:
    """Both sides in one Run, with the exit code of `compare`."""

    @pytest.mark.parametrize(("text", "code"), [("slowdown=0,0", 0), ("slowdown=0,30", 1)])
    def test_the_exit_code_is_that_of_the_verdict(self, two_arms, text, code):
        run = two_arms[text]
        assert run.code == code, run.err
        (ratio,) = json.loads(run.out)["ratios"]
        assert (ratio["verdict"] == "SLOWER") == (code == 1)
        assert set(ratio) == RATIO
        assert (ratio["paired"], ratio["differs"]) == (True, [])
        assert [ratio[side][-2:] for side in ("baseline", "candidate")] == ["-A", "-B"]

    def test_the_known_share_is_found_again(self, two_arms):
        (ratio,) = json.loads(two_arms["slowdown=0,30"].out)["ratios"]
        assert ratio["ci95_low"] > 1.05

    def test_every_event_of_a_real_run_is_one_that_is_read(self, two_arms):
        for path in two_arms["slowdown=0,0"].results.iterdir():
            assert Run(path).problems == []

    def test_the_header_says_what_the_arms_were(self, two_arms):
        got = json.loads(two_arms["slowdown=0,30"].out)
        assert got["run"]["ab"] == {"key": "slowdown", "values": ["0", "30"], "identical": False}
        assert ["slowed_down" in case["flags"] for case in got["cases"]] == [False, True]

    def test_compare_says_of_the_folder_what_the_run_said(self, two_arms):
        (path,) = two_arms["slowdown=0,30"].results.glob("*-power")
        result = invoke("compare", str(path), "--json")
        assert result.exit_code == 1
        assert [case["verdict"] for case in json.loads(result.stdout)["cases"]] == ["SLOWER"]


@pytest.mark.parametrize("module", ["bench.commands.cli", "bench.commands.layers"])
def test_ctrl_c_while_it_still_imports_is_one_line_and_130(module):
    code = f"""
import os, signal, sys
class Press:
    def find_spec(self, name, *rest):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.argv = ["alexnet-bench", "layers"]
from bench.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "alexnet-bench: interrupted\n")


def test_a_command_is_imported_without_looking_for_garbage(monkeypatch):
    seen = []
    monkeypatch.setattr(importlib, "import_module", lambda name: seen.append(gc.isenabled()) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main_of("report")
    assert [*seen, gc.isenabled()] == [False, True]


class TestLayers:
    def test_json_is_layers_csv(self):
        rows = json.loads(invoke("layers", "--json").stdout)
        with open(ROOT / "tests/data/layers.csv", newline="") as file:
            witness = list(csv.DictReader(file))
        assert sorted([[str(value) for value in row.values()] for row in rows]) == sorted(
            [list(row.values()) for row in witness]
        )
        assert list(rows[0]) == list(witness[0])

    def test_the_table_has_every_variant_and_its_total(self):
        out = invoke("layers").stdout
        for variant in VARIANTS.values():
            assert f"{variant.name}, {variant.input_size} px" in out
            assert f"{variant.params:,}" in out

    def test_a_framework_is_asked_and_agrees(self, inline):
        got = inline("layers", "--variant", "owt", "--framework", "null", "--json")
        assert got.code == 0, got.err
        assert json.loads(got.out)[0]["reported"] == {
            "null": {"height": 55, "width": 55, "channels": 64, "params": 23296, "state": 0}
        }

    def test_a_difference_is_named_and_exit_1(self, monkeypatch):
        rows = json.loads(invoke("layers", "--variant", "owt", "--json").stdout)
        wrong = [LayerReport(**{name: row[name] for name in ("layer", *REPORTED)}) for row in rows]
        wrong[2] = dataclasses.replace(wrong[2], height=28)
        monkeypatch.setattr("bench.commands.layers.ask", lambda cases, conditions: {case.id: wrong for case in cases})
        result = invoke("layers", "--variant", "owt", "--framework", "null")
        assert result.exit_code == 1
        assert "owt on null, pool1: height expected 27, found 28; run `alexnet-bench verify`" in result.stderr


class TestVerify:
    def test_json_has_every_check(self, inline):
        got = inline("verify", *SMALL, "--json")
        assert got.code == 0, got.err
        checks = json.loads(got.out)["checks"]
        # logits, two losses; gradient, change and velocity of kernel and bias of nine layers
        assert len(checks) == 3 + 3 * 2 * 9
        assert all({"variant", "framework", "what", "error", "tolerance", "ok"} <= set(check) for check in checks)

    @pytest.mark.parametrize("part", ["wrong", "nan"])
    def test_what_differs_is_named_and_exit_1(self, inline, part):
        got = inline("verify", *SMALL, "--mode", "part", "--env", f"NULL_NET={part}")
        assert got.code == 1
        assert "DIFFERS" in got.out
        assert "half_width on null part: gradient conv1/bias" in got.out


class TestHelp:
    def test_help_imports_no_framework_and_nothing_heavy(self):
        code = "import sys, bench.commands.cli; print(*sys.modules)"
        modules = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        loaded = {name.partition(".")[0] for name in modules.stdout.split()}
        heavy = {"numpy", "pandas", "matplotlib", "scipy", "torch", "tensorflow", "keras", "jax", "rich", "msgspec"}
        assert not loaded & heavy

    def test_every_command_has_help(self):
        for name in main.commands:
            assert invoke(name, "--help").exit_code == 0

    def test_help_prints_its_cpu_time(self, capsys):
        """CPU time is printed, not asserted: the count of modules above is what a machine's noise cannot move."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "bench", "--help"], cwd=ROOT, capture_output=True, check=True, env=os.environ
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with capsys.disabled():
            print(f"\nalexnet-bench --help: {1000 * cpu_s:.0f} ms of CPU (goal: 150)")
        assert cpu_s > 0
