"""Requests: each option is declared once, and a user's file is read once."""

import builtins
import dataclasses
import io
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from paths import ROOT

from bench import UsageError
from bench.cases.parse import option_name
from bench.cases.protocol import Protocol
from bench.commands import resume
from bench.commands.cli import REQUESTS, main, parse_words
from bench.commands.options import convert, declarations
from bench.commands.plan import plan_run
from bench.commands.profile import plan_profile
from bench.commands.requests import ProfileRequest, RunRequest, SelftestRequest
from impls import weights
from impls.variants import VARIANTS

NET = (
    "from impls import null_alexnet\ndef build(variant, weights, how): return null_alexnet.Net(variant, weights, how)\n"
)
MAKEFILE = (ROOT / "Makefile").read_text()


def required(name):
    """Words for what a command must be told."""
    words = {
        "data": ["photos"],
        "compare": ["A"],
        "export": ["A", "--format", "trace"],
        "ingest": ["a.json"],
        "merge": ["A"],
        "scale": ["--model", "A"],
    }
    return (words | {"predict": ["a.jpg", "--weights", "w.npy"]}).get(name, [])


@pytest.mark.parametrize("name", REQUESTS)
class TestDeclarations:
    def test_a_request_made_in_python_is_the_one_of_the_command_line(self, name):
        from_words = parse_words(name, required(name))
        written = {
            field.name: getattr(from_words, field.name)
            for field in dataclasses.fields(from_words)
            if declarations(REQUESTS[name])[field.name].required
        }
        assert REQUESTS[name](**written) == from_words

    def test_a_request_cannot_be_changed(self, name):
        request = parse_words(name, required(name))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(request, dataclasses.fields(request)[0].name, None)

    def test_every_option_has_help_and_an_own_variable_unless_it_has_none(self, name):
        options = [one for one in main.commands[name].params if isinstance(one, click.Option)]
        variables = [one.envvar for one in options if one.envvar]
        assert all(one.help for one in options)
        assert len(set(variables)) == len(variables)
        for one in options:
            (word,) = one.opts
            assert one.envvar in (None, "ALEXNET_BENCH_" + word[2:].upper().replace("-", "_"))


class TestNames:
    @pytest.mark.parametrize(
        ("field", "option"),
        [("burn_in", "--burn-in"), ("max_time_s", "--max-time"), ("pass_", "--pass"), ("as_json", "--json")],
    )
    def test_an_option_is_named_as_its_field(self, field, option):
        assert option_name(field) == option

    def test_every_option_of_the_protocol_is_one_of_run(self):
        assert Protocol().options().keys() <= {field.name for field in dataclasses.fields(RunRequest)}

    def test_options_of_resume_are_options_of_run(self):
        assert {field.name for field in dataclasses.fields(RunRequest)} >= resume.OPTIONS


class TestMakefile:
    """Its lists of variables hold every option of `run`, so that none is passed on in vain."""

    SHAPES_NOTHING = frozenset({"--out", "--name", "--resume", "--dry-run", "--json"})
    #: Given otherwise, or not by make.
    OTHERWISE = frozenset({"--device", "--variant", "--python", "--protocol", "--env", "--worker-limit", "--launch"})
    FLAGS = frozenset({"--no-gate", "--dropout", "--oversubscribe"})

    def variables(self, name):
        (words,) = re.findall(rf"^{name} := ((?:.*\\\n)*.*)", MAKEFILE, flags=re.MULTILINE)
        return {"--" + word.lower().replace("_", "-") for word in re.findall(r"\b[A-Z_]+\b", words)}

    def test_every_option_that_changes_a_run_is_listed(self):
        options = {option_name(field.name) for field in dataclasses.fields(RunRequest)}
        assert self.variables("SHAPING") == options - self.SHAPES_NOTHING - self.OTHERWISE - self.FLAGS

    def test_options_of_the_pytest_suite_are_options_of_run(self):
        options = {option_name(field.name) for field in dataclasses.fields(RunRequest)}
        assert self.variables("ASKED") <= options


@pytest.fixture
def opened(monkeypatch):
    """The names of all files that are opened, by any of Python's ways."""
    names: list[str] = []

    def noting(real):
        def open_(file, *rest, **settings):
            names.append(str(file))
            return real(file, *rest, **settings)

        return open_

    monkeypatch.setattr(builtins, "open", noting(builtins.open))
    monkeypatch.setattr(io, "open", noting(io.open))
    return names


class TestFilesAreReadOnce:
    def plan(self, *words):
        result = CliRunner().invoke(main, ["run", "--framework", "null", "--dry-run", *words])
        assert result.exit_code == 0, result.output

    def times(self, opened, path):
        return sum(Path(name) == path for name in opened)

    def test_plan_of_a_users_net(self, tmp_path, opened):
        path = tmp_path / "mine.py"
        path.write_text(NET)
        before = self.times(opened, path)
        self.plan("--net", f"{path}:build", "--variant", "owt,tutorial")
        assert self.times(opened, path) - before == 1

    def test_plan_of_two_nets_of_one_file(self, tmp_path, opened):
        path = tmp_path / "mine.py"
        path.write_text(NET + "other = build\n" + NET.replace("build", "second"))
        before = self.times(opened, path)
        self.plan("--net", f"{path}:build", "--net", f"{path}:second")
        assert self.times(opened, path) - before == 1

    def test_plan_of_an_ab_of_two_nets(self, tmp_path, opened):
        for name in ("a.py", "b.py"):
            (tmp_path / name).write_text(NET)
        before = [self.times(opened, tmp_path / name) for name in ("a.py", "b.py")]
        self.plan("--ab", f"net={tmp_path}/a.py:build,{tmp_path}/b.py:build")
        after = [self.times(opened, tmp_path / name) for name in ("a.py", "b.py")]
        assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1]

    def test_plan_with_weights_from_a_file(self, tmp_path, opened):
        pytest.importorskip("safetensors")
        path = tmp_path / "w.safetensors"
        weights.save(weights.initial(VARIANTS["half_width"]), path)
        before = self.times(opened, path)
        self.plan("--weights", str(path), "--variant", "half_width")
        assert self.times(opened, path) - before == 1


class TestOtherCommands:
    def test_selftest_times_what_run_would_with_the_same_options(self):
        request = SelftestRequest(framework="null", batch=(2,), rounds=3)
        plan = plan_run(convert(request, RunRequest, ab="slowdown=0,0"))
        words = ["--framework", "null", "--batch", "2", "--rounds", "3", "--variant", "half_width"]
        assert plan == plan_run(parse_words("run", [*words, "--ab", "slowdown=0,0"]))

    def test_profile_has_its_own_protocol_and_each_layer_next_to_the_whole_net(self):
        plan = plan_profile(ProfileRequest(framework="null", variant=("half_width",), iterations=2, max_time_s=9.0))
        assert (plan.protocol.name, plan.protocol.iterations, plan.protocol.max_time_s) == ("profile", 2, 9.0)
        assert plan.protocol.shared_workers
        variants = list(dict.fromkeys(case.variant for case in plan.cases))
        assert variants[:2] == ["half_width", "half_width.conv1"]


class TestResume:
    def test_an_option_next_to_resume_is_refused_and_a_variable_is_not(self, tmp_path):
        args = ["run", "--resume", str(tmp_path)]
        result = CliRunner().invoke(main, [*args, "--max-time", "5", "--batch", "2"])
        words = "alexnet-bench: --resume: the Run has its own settings; leave out --batch\n"
        assert (result.exit_code, result.stderr) == (2, words)
        result = CliRunner().invoke(main, args, env={"ALEXNET_BENCH_BATCH": "2"})
        assert "cannot read run.jsonl" in result.stderr

    def test_options_are_parsed_in_any_combination(self):
        with pytest.raises(UsageError, match="--rounds: expected a whole number"):
            parse_words("run", ["--rounds", "many"])
