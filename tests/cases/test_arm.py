"""Two Arms: what --ab may ask for, and what becomes of it."""

import dataclasses
import os
import sys

import pytest
from click.testing import CliRunner
from paths import ROOT
from runs import A, B

from bench import UsageError
from bench.cases import arm, parse
from bench.cases.case import groups
from bench.commands.cli import main
from bench.commands.plan import choose_frameworks
from bench.commands.requests import RunRequest
from bench.controller.settings import WorkerSettings
from impls.net import Settings

TORCH = ["torch"]
KEYS = "impls, python, net, threads, mode, layout, lrn, preset, env:NAME or slowdown"


def dry_run(*args, **env):
    return CliRunner().invoke(main, ["run", "--framework", "null", "--pass", "forward", "--dry-run", *args], env=env)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("threads=1,2", "threads", ("1", "2")),
        ("threads= 1 , 2", "threads", ("1", "2")),
        ("layout=nchw,nchw", "layout", ("nchw", "nchw")),
        ("mode=eager,eager", "mode", ("eager", "eager")),
        ("env:OMP_WAIT_POLICY=ACTIVE,PASSIVE", "env:OMP_WAIT_POLICY", ("ACTIVE", "PASSIVE")),
        ("env:X=,1", "env:X", ("", "1")),
        ("env:X=a=1,b=2", "env:X", ("a=1", "b=2")),
        ("slowdown=0,2.5", "slowdown", ("0", "2.5")),
        (f"python={sys.executable},{sys.executable}", "python", (sys.executable, sys.executable)),
    ],
)
def test_every_key_is_read(text, key, values):
    ab = arm.parse_ab(text)
    ab.check(TORCH, ["cpu"])
    assert ab == arm.Ab(key, values)


def test_two_modes_are_read_where_a_framework_has_two():
    assert arm.parse_ab("mode=noop,part").values == ("noop", "part")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed=1,2", f"--ab: expected KEY=A,B with KEY {KEYS}, found 'speed=1,2'"),
        ("threads", f"--ab: expected KEY=A,B with KEY {KEYS}, found 'threads'"),
        ("", f"--ab: expected KEY=A,B with KEY {KEYS}, found ''"),
        ("env=1,2", f"--ab: expected KEY=A,B with KEY {KEYS}, found 'env=1,2'"),
        ("threads:x=1,2", f"--ab: expected KEY=A,B with KEY {KEYS}, found 'threads:x=1,2'"),
        ("Threads=1,2", f"--ab: expected KEY=A,B with KEY {KEYS}, found 'Threads=1,2'"),
        ("threads=1", "--ab threads: expected two sides, A,B, found '1'"),
        ("threads=1,2,3", "--ab threads: expected two sides, A,B, found '1,2,3'"),
        ("env:X=", "--ab env:X: expected two sides, A,B, found ''"),
        ("env:=1,2", "--ab env:NAME=A,B: expected the name of a variable, found ''"),
        ("env:1X=1,2", "--ab env:NAME=A,B: expected the name of a variable, found '1X'"),
        ("env:A B=1,2", "--ab env:NAME=A,B: expected the name of a variable, found 'A B'"),
        ("threads=0,1", "--ab threads: expected a whole number from 1 to 4,096, found '0'"),
        ("threads=1,", "--ab threads: expected a whole number from 1 to 4,096, found ''"),
        ("threads=1,two", "--ab threads: expected a whole number from 1 to 4,096, found 'two'"),
        ("mode=eager,xla", "torch has no mode 'xla': choose eager or compile"),
        ("mode=eager,", "torch has no mode '': choose eager or compile"),
        ("mode=all,eager", "--ab mode: expected one value per side, found 'all'"),
        ("layout=nchw,nwhc", "torch has no layout 'nwhc': choose nchw or channels_last"),
        ("layout=all,all", "--ab layout: expected one value per side, found 'all'"),
        ("slowdown=0,fast", "--ab slowdown: expected percent, 0 to 1000, found 'fast'"),
        ("slowdown=-1,0", "--ab slowdown: expected percent, 0 to 1000, found '-1'"),
        ("slowdown=0,1001", "--ab slowdown: expected percent, 0 to 1000, found '1001'"),
        ("slowdown=0,nan", "--ab slowdown: expected percent, 0 to 1000, found 'nan'"),
        ("slowdown=0,5%", "--ab slowdown: expected percent, 0 to 1000, found '5%'"),
        ("python=/nowhere/python,/nowhere/python", "--ab python: no interpreter at '/nowhere/python'"),
        (f"python={sys.executable},", "--ab python: no interpreter at ''"),
        (f"python={sys.executable},/tmp", "--ab python: no interpreter at '/tmp'"),
        (f"impls={ROOT}", f"--ab impls: expected two sides, A,B, found '{ROOT}'"),
        (
            f"impls={ROOT},{ROOT / 'bench'}",
            f"--ab impls: expected a checkout or its folder impls, found no impls/__init__.py in '{ROOT / 'bench'}'",
        ),
        (
            f"impls={ROOT},/nowhere/impls",
            "--ab impls: expected a checkout or its folder impls, found no impls/__init__.py in '/nowhere/impls'",
        ),
        (
            f"impls={ROOT},",
            "--ab impls: expected a checkout or its folder impls, found no impls/__init__.py in ''",
        ),
    ],
)
def test_a_mistake_says_what_was_expected_and_what_was_found(text, message):
    with pytest.raises(UsageError) as error:
        arm.parse_ab(text).check(TORCH, ["cpu"])
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--ab", "threads=1,2", "--threads", "2"), "--ab threads and --threads: give only one of the two"),
        (("--ab", "mode=noop,part", "--mode", "part"), "--ab mode and --mode: give only one of the two"),
        (("--ab", "layout=nhwc,nhwc", "--layout", "nhwc"), "--ab layout and --layout: give only one of the two"),
        (
            ("--ab", f"python={sys.executable},{sys.executable}", "--python", f"null={sys.executable}"),
            "--ab python and --python: give only one of the two",
        ),
        (("--ab", "env:X=1,2", "--env", "X=3"), "--ab env:X and --env X: give only one of the two"),
        (
            ("--ab", "slowdown=0,0", "--protocol", "classic"),
            "--ab: the classic protocol takes no turns; leave --protocol out",
        ),
        (("--ab", "mode=noop,eager"), "null has no mode 'eager': choose noop or part"),
    ],
)
def test_option_that_conflicts_with_ab_is_one_line_and_exit_2(args, message):
    result = dry_run(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"alexnet-bench: {message}\n")


def test_an_option_of_the_environment_is_no_way_round():
    result = dry_run("--ab", "threads=1,2", ALEXNET_BENCH_THREADS="2")
    assert (result.exit_code, result.stderr) == (
        2,
        "alexnet-bench: --ab threads and --threads: give only one of the two\n",
    )


def test_a_mode_that_one_of_two_frameworks_lacks_is_a_mistake():
    with pytest.raises(UsageError, match="tensorflow has no mode 'eager': choose graph"):
        arm.parse_ab("mode=eager,eager").check(["torch", "tensorflow"], ["cpu"])


class TestCases:
    def test_arms_of_a_case_are_adjacent_and_their_ids_end_in_a_and_b(self):
        cases = arm.Ab("slowdown", ("0", "5")).cases([A, B])
        assert [case.id for case in cases] == [f"{A.id}-A", f"{A.id}-B", f"{B.id}-A", f"{B.id}-B"]
        assert len({case.worker for case in cases}) == 4

    @pytest.mark.parametrize(
        ("key", "values", "field"),
        [("threads", ("1", "2"), "threads"), ("layout", ("nchw", "nhwc"), "layout")],
    )
    def test_arms_of_different_settings_take_turns_in_one_group(self, key, values, field):
        both = arm.Ab(key, values).cases([A])
        assert [str(getattr(case, field)) for case in both] == list(values)
        assert groups(both) == [both]

    def test_dry_run_names_both_arms(self):
        lines = dry_run("--ab", "threads=1,2").stdout.splitlines()
        assert lines[:2] == [
            f"tutorial-null-noop-cpu-fp32-b8-forward-t{n}-{label}" for n, label in ((1, "A"), (2, "B"))
        ]

    def test_only_two_equal_sides_are_identical(self):
        assert arm.Ab("threads", ("2", "2")).identical
        assert not arm.Ab("threads", ("1", "2")).identical


class TestWorkers:
    def environments(self, *values):
        ab = arm.Ab("env:X", values)
        conditions = WorkerSettings(1, 60.0, env={"X": "0", "Y": "9"}, ab=ab)
        return [conditions.environment(case) for case in ab.cases([A])]

    def test_each_arm_has_its_own_value_of_a_variable(self):
        assert self.environments("1", "2") == [{"X": "1", "Y": "9"}, {"X": "2", "Y": "9"}]

    def test_an_empty_side_takes_the_variable_away(self):
        unset, set_ = self.environments("", "1")
        assert (unset["X"], set_["X"]) == (None, "1")

    def test_a_variable_of_the_whitelist_can_be_taken_away(self, tmp_path):
        from bench.controller.launch import environment

        ab = arm.Ab("env:TF_ENABLE_ONEDNN_OPTS", ("", "0"))
        a, b = (environment(Settings("cpu", 1, "fp32"), ab.env(label), tmp_path) for label in "AB")
        assert "TF_ENABLE_ONEDNN_OPTS" not in a
        assert b["TF_ENABLE_ONEDNN_OPTS"] == "0"

    def test_each_arm_runs_under_its_own_interpreter(self, tmp_path):
        other = tmp_path / "python9"
        other.symlink_to(sys.executable)
        ab = arm.parse_ab(f"python={sys.executable},{other}")
        conditions = WorkerSettings(1, 60.0, pythons={"torch": "/elsewhere"}, ab=ab)
        assert [conditions.python(case) for case in ab.cases([A])] == [sys.executable, str(other)]

    def test_other_keys_leave_the_interpreter_alone(self):
        ab = arm.Ab("threads", ("1", "2"))
        conditions = WorkerSettings(1, 60.0, pythons={"torch": "/elsewhere"}, ab=ab)
        assert {conditions.python(case) for case in ab.cases([A])} == {"/elsewhere"}

    def test_only_a_slowdown_slows_down(self):
        ab = arm.Ab("slowdown", ("0", "5"))
        assert [ab.slowdown(case.arm) for case in ab.cases([A])] == [0.0, 0.05]
        assert arm.Ab("threads", ("1", "2")).slowdown("B") == 0.0


class TestRecord:
    def test_of_an_interpreter_the_file_name_alone_is_kept(self, tmp_path):
        other = tmp_path / "python9"
        other.symlink_to(sys.executable)
        recorded = arm.parse_ab(f"python={other},{other}").recorded()
        assert recorded == arm.Sides("python", ("python9", "python9"), identical=True)

    @pytest.mark.parametrize(
        ("key", "values", "said"),
        [
            ("threads", ("1", "2"), ["threads 1", "threads 2"]),
            ("slowdown", ("0", "5"), ["slowdown 0 %", "slowdown 5 %"]),
            ("env:X", ("", "1"), ["without X", "X=1"]),
            ("python", ("/a/python3.11", "/b/python3.12"), ["python python3.11", "python python3.12"]),
        ],
    )
    def test_arm_is_described_in_words(self, key, values, said):
        assert [arm.describe_arm(arm.Ab(key, values).recorded(), label) for label in "AB"] == said

    def test_arms_from_a_header_equal_the_recorded_ones(self):
        ab = arm.Ab("env:X", ("", "1"))
        again = arm.Ab(ab.recorded().key, ab.recorded().values)
        assert again == ab
        assert again.cases([A]) == ab.cases([dataclasses.replace(A)])


def test_frameworks_of_an_interpreters_arms_need_not_be_installed_here(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ab = arm.parse_ab(f"python={sys.executable},{sys.executable}")
    assert choose_frameworks(RunRequest(framework="jax"), ab) == ["jax"]


def test_an_interpreter_named_from_here_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    link = tmp_path / "bin" / "python"
    link.symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert parse.resolve_interpreter("bin/python") == str(link)
    assert os.path.isabs(parse.resolve_interpreter("python3"))
