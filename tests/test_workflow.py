"""The workflows' files: permissions, pinned actions, triggers and defaults."""

import re
import shlex

import pytest
from paths import ROOT
from workflows import FILES, SPEED, default, expression, steps

from bench.commands.cli import main

STEPS = [
    pytest.param(step, id=f"{name}: {job}: {step.get('name') or step.get('uses') or step['run']}")
    for name, workflow in FILES.items()
    for job, body in workflow["jobs"].items()
    for step in body["steps"]
]


def triggers(workflow):
    return workflow[True]  # YAML 1.1 reads a bare `on` as true


class TestFiles:
    def test_there_are_two_workflows(self):
        assert list(FILES) == ["speed.yml", "test.yml"]

    @pytest.mark.parametrize("step", STEPS)
    def test_no_expression_reaches_a_shell(self, step):
        """Text from others (an input, a title) is passed as a variable, which a shell does not split or execute."""
        assert "${{" not in step.get("run", "")

    @pytest.mark.parametrize("step", STEPS)
    def test_actions_are_githubs_own_with_a_pinned_major_version(self, step):
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/checkout@v6"))

    @pytest.mark.parametrize("name", FILES)
    def test_only_the_comment_job_may_write(self, name):
        workflow = FILES[name]
        assert workflow["permissions"] == {}
        for job, body in workflow["jobs"].items():
            comments = (name, job) == ("speed.yml", "comment")
            assert body["permissions"] == ({"pull-requests": "write"} if comments else {"contents": "read"})
            assert body["timeout-minutes"] <= 60

    def test_a_pull_request_is_measured_and_judged_by_the_harness_of_its_base(self):
        expected = "${{ inputs.harness && 'harness' || github.event_name == 'pull_request' && 'base' || 'head' }}"
        assert expression("HARNESS") == expected
        programs = [line for step in STEPS for line in step.values[0].get("run", "").splitlines() if "/bin/" in line]
        assert programs
        assert [line for line in programs if '"$HARNESS/.venv/bin/' not in line] == []

    def test_the_job_that_judges_takes_nothing_but_the_run_from_the_job_that_ran_the_change(self):
        job = SPEED["jobs"]["judge"]
        assert "outputs" not in SPEED["jobs"]["measure"]
        assert job["outputs"] == {"code": "${{ steps.judge.outputs.code }}"}
        assert steps("judge")["Download the Run"]["with"] == {"name": "run", "path": "${{ runner.temp }}/speed"}
        assert not [step for step in job["steps"] if "cache" in step.get("with", {})]
        assert not [step for step in job["steps"] if "head/" in step.get("run", "")]
        assert SPEED["jobs"]["comment"]["needs"] == "judge"

    def test_the_job_that_may_write_runs_nothing_of_the_change(self):
        job = SPEED["jobs"]["comment"]
        assert [step.get("uses", "shell").partition("@")[0] for step in job["steps"]] == [
            "actions/download-artifact",
            "shell",
        ]
        assert "head.repo.full_name == github.repository" in job["if"]

    def test_a_push_that_could_not_be_measured_is_commented_too(self):
        job = SPEED["jobs"]["comment"]
        assert "!cancelled()" in job["if"]
        assert "needs." not in job["if"]
        assert steps("comment")["Download the table"]["if"] == "needs.judge.outputs.code"

    @pytest.mark.parametrize("step", [step for step in STEPS if "checkout" in step.values[0].get("uses", "")])
    def test_checkouts_do_not_persist_their_token(self, step):
        assert step["with"]["persist-credentials"] is False

    @pytest.mark.parametrize("name", FILES)
    def test_a_newer_push_to_a_pull_request_cancels_the_older_run(self, name):
        rule = FILES[name]["concurrency"]
        assert "${{ github.ref }}" in rule["group"]
        assert rule["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"

    def test_speed_can_be_started_by_hand_and_from_another_repository_and_warns_by_default(self):
        events = triggers(SPEED)
        assert set(events) == {"pull_request", "workflow_dispatch", "workflow_call"}
        by_hand, called = (events[how]["inputs"] for how in ("workflow_dispatch", "workflow_call"))
        assert by_hand["on_slower"]["default"] == default("ON_SLOWER") == "warn"
        assert by_hand["on_slower"]["options"] == ["warn", "fail"]
        assert set(by_hand) <= set(called)

    @pytest.mark.parametrize("what", ["on_slower", "margin", "arguments"])
    def test_a_variable_of_the_repository_replaces_an_input_for_pull_requests(self, what):
        expected = f"${{{{ inputs.{what} || vars.SPEED_{what.upper()} || '{default(what.upper())}' }}}}"
        assert expression(what.upper()) == expected
        assert "default" not in triggers(SPEED)["workflow_call"]["inputs"][what]  # a default would hide the variable
        assert f"`SPEED_{what.upper()}`" in (ROOT / "docs/ci.md").read_text()

    def test_by_default_two_revisions_are_measured_with_valid_options_of_run(self):
        assert default("MARGIN") == "2"
        assert default("AB") == "impls=base,head"
        main.commands["run"].make_context("run", shlex.split(default("ARGUMENTS")))
        assert "--max-time 1200" in default("ARGUMENTS")

    def test_the_test_workflow_runs_ci_run_on_supported_pythons(self):
        job = FILES["test.yml"]["jobs"]["test"]
        assert job["steps"][-1] == {"run": ".ci/run"}
        assert {"3.11", "3.13"} >= set(job["strategy"]["matrix"]["python"])

    def test_a_missing_browser_fails_the_test_workflow_and_make_test_names_each_skipped_test(self):
        assert [step.get("run") for step in FILES["test.yml"]["jobs"]["test"]["steps"]][-2] == "make browser"
        words = re.search(r"^TESTS := (.*)", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1].split()
        assert {"-rs", "--no-fold-skipped"} < set(words)
