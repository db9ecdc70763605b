"""The line that measures a Case once more: it parses, and asks for exactly that Case under that Protocol."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import teams
from click.testing import CliRunner
from runs import A, B, arms, make

from bench.cases.arm import Ab
from bench.cases.axes import Axes
from bench.cases.case import Case
from bench.cases.protocol import CLASSIC, Protocol
from bench.commands import profile
from bench.commands.cli import main, parse_words
from bench.commands.plan import run_protocol
from bench.commands.profile_plan import RULES
from bench.controller import estimate
from bench.machine import host
from bench.output import reproduce
from impls.variants import variant_named

NULL = Case("half_width", "null", "noop", "cpu", "fp32", "nhwc", 2, "forward_backward", size=67, seed=3)
OTHERS = [
    A,
    B,
    NULL,
    dataclasses.replace(
        A, mode="compile", layout="channels_last", precision="bf16", dropout=True, pass_="forward_backward"
    ),
    dataclasses.replace(A, variant="original", lrn="fast", threads=1),
    dataclasses.replace(B, mode="xla", preset="default", batch=32),
]
PROTOCOLS = [
    Protocol(),
    Protocol(iterations=20, burn_in_later=4, least_iterations=4, max_time_s=290.0),
    Protocol(iterations=20, least_iterations=4),
    Protocol(burn_in_later=4),
    CLASSIC,
    dataclasses.replace(CLASSIC, iterations=20, burn_in=3),
    Protocol(rounds=7, iterations=30, burn_in=2, gate=False, max_time_s=290.0, worker_limit_s=60.0),
    Protocol(rounds=30, target_ci=0.015),
]


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """A dry run would time this machine."""
    monkeypatch.setattr(estimate, "matrix_flops", lambda: 1e11)


def request_of(line: str) -> tuple[str, Any]:
    """The command of a line, and its request."""
    program, name, *words = shlex.split(line)
    assert program == "alexnet-bench"
    return name, parse_words(name, words)


def cases(line: str) -> list[str]:
    """What `run --dry-run --json` says a line would measure."""
    result = CliRunner().invoke(main, [*shlex.split(line)[1:], "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["cases"]


@pytest.mark.parametrize("case", OTHERS, ids=lambda case: case.id)
def test_command_asks_for_exactly_that_case(tmp_path, case):
    run = make(tmp_path, [case], protocol=Protocol(seed=case.seed), rounds=1)
    assert cases(reproduce.command_for(run, [case])) == [case.id]


@pytest.mark.parametrize(("strong", "splits"), [(False, ["data"]), (True, ["data"]), (False, ["data", "towers"])])
def test_a_row_on_several_devices_comes_with_all_that_it_is_compared_with(tmp_path, monkeypatch, strong, splits):
    monkeypatch.setattr(host, "core_numbers", lambda: (0, 1))  # slices of the same size
    case = dataclasses.replace(NULL, variant="original")
    run = teams.make(tmp_path / "run", case, strong=strong, splits=splits)
    assert sorted(cases(reproduce.whole(run))) == sorted(case.id for case in run.cases)
    for case in run.cases:
        words = reproduce.command_for(run, [case]).split()
        assert len({word for word in words if word.startswith("--")}) == sum(word.startswith("--") for word in words)
        found = cases(reproduce.command_for(run, [case]))
        assert case.id in found
        assert {other.id for other in run.cases if other.rivals == case.rivals} == set(found)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=range(len(PROTOCOLS)))
def test_command_asks_for_exactly_that_protocol(tmp_path, protocol):
    run = make(tmp_path, [NULL], protocol=dataclasses.replace(protocol, seed=3), rounds=1)
    assert run_protocol(request_of(reproduce.command_for(run, [NULL]))[1]) == run.protocol


@pytest.mark.parametrize(
    "ab",
    [
        Ab("slowdown", ("0", "5")),
        Ab("threads", ("1", "2")),
        Ab("mode", ("eager", "compile")),
        Ab("env:OMP_WAIT_POLICY", ("", "ACTIVE")),
    ],
    ids=lambda ab: ab.key,
)
def test_command_of_one_arm_measures_both(tmp_path, ab):
    both = arms(A, ab=ab)
    run = make(tmp_path, both, ab=ab, rounds=1)
    for case in both:
        assert cases(reproduce.command_for(run, [case])) == [one.id for one in both]
    assert reproduce.whole(run) == reproduce.command_for(run, [both[0]])


def test_command_has_placeholders_for_files(tmp_path):
    guest = {"file": "my net.py", "function": "build", "sha256": "0", "label": "my_net", "arm": None}
    case = dataclasses.replace(A, guest="my_net", weights="0123")
    header = {
        "env": {"A": "b c"},
        "pythons": ["torch"],
        "weights": {"file": "w.npy", "sha256": "0123"},
        "guests": [guest],
    }
    run = make(tmp_path, [case], rounds=1, **header)
    name, found = request_of(reproduce.command_for(run, [case]))
    assert name == "run"
    assert found.net == ("PATH/my net.py:build",)
    assert (found.env, found.weights) == ((("A", "b c"),), Path("PATH/w.npy"))
    assert found.python == (("torch", str(Path.cwd() / "PATH/python")),)


@pytest.mark.parametrize("key", ["python", "net"])
def test_command_has_placeholders_for_the_files_of_arms(tmp_path, key):
    ab = Ab(key, ("a.py:f", "b.py:f") if key == "net" else ("python3.11", "python3.12"))
    both = [dataclasses.replace(A, arm=arm) for arm in "AB"]
    run = make(tmp_path, both, ab=ab, rounds=1)
    assert request_of(reproduce.command_for(run, [both[0]]))[1].ab == f"{key}=PATH/{ab.values[0]},PATH/{ab.values[1]}"


def test_an_aa_of_users_nets_is_that_of_ours_or_of_the_first_net(tmp_path):
    guest = {"file": "mine.py", "function": "net(width=4)", "sha256": "0", "label": "mine", "arm": None}
    case = dataclasses.replace(A, guest="mine", input="3x8x8")
    run = make(tmp_path / "both", [A, dataclasses.replace(A, guest="mine")], rounds=1, guests=[guest])
    _, found = request_of(reproduce.against_itself(run))
    assert (found.ab, found.net, found.input) == ("slowdown=0,0", (), None)
    run = make(tmp_path / "alone", [case], rounds=1, guests=[guest])
    _, found = request_of(reproduce.against_itself(run))
    assert (found.ab, found.net) == ("net=PATH/mine.py:net(width=4),PATH/mine.py:net(width=4)", ())
    assert found.input == "3x8x8"


def test_the_whole_run_is_one_line_where_its_cases_are_a_grid(tmp_path):
    run = make(tmp_path / "grid", [A, B], rounds=1)
    assert cases(reproduce.whole(run)) == [A.id, B.id]
    corner = make(tmp_path / "corner", [A, B, dataclasses.replace(A, batch=1)], rounds=1)
    assert reproduce.whole(corner) == ""


def test_a_row_of_a_profile_comes_with_its_net(tmp_path):
    names = ["half_width", *(part.name for part in variant_named("half_width").parts()[:2])]
    axes = {"modes": {"null": ["noop"]}, "layouts": {"null": ["nhwc"]}, "device": ["cpu"], "precisions": ["fp32"]}
    both = ["forward", "forward_backward"]
    made = Axes(variant=names, **axes, batch=[4], pass_=both, size=67).cases()
    run = make(tmp_path, made, protocol=dataclasses.replace(RULES, iterations=2), rounds=1)
    for case in (made[0], made[-1]):
        name, found = request_of(reproduce.command_for(run, [case]))
        assert name == "profile"
        plan = profile.plan_profile(found)
        assert plan.protocol == run.protocol
        assert case in plan.cases
    assert reproduce.whole(run) == reproduce.command_for(run, [made[0]])


def test_ingested_run_has_no_command(tmp_path):
    case = dataclasses.replace(A, foreign="test_a.py::test_b")
    run = make(tmp_path, [case], rounds=1)
    assert reproduce.command_for(run, [case]) == reproduce.whole(run) == ""
