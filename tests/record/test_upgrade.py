"""A Run of schema 4 is read as one of schema 5, and is not resumed."""

import json

import pytest
from click.testing import CliRunner
from paths import ROOT
from runs import A, B, make

from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.record.events import Worker
from bench.record.pairs import within
from bench.record.parse import upgrade
from bench.record.reasons import BlockStop
from bench.record.run import Run

REFERENCE = ROOT / "results/reference/cpu-2-cores"


def downgraded(folder, *lines):
    """The same Run in schema 4, with these lines appended."""
    events = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    for event in events:
        del event["number"], event["time"]
        if event["event"] == "run":
            event["schema"] = 4
        if event["event"] == "worker":
            for name in ("bf16", "filled", "switches"):
                del event["conditions"][name]
            event["conditions"] |= {"flush_denormal": True, "reorder_for_peak_memory": None}
        if event["event"] == "turn":
            event |= {"nivcsw": 1, "nvcsw": 2, "majflt": 0}
        if event["event"] == "block":
            event["noise"] = ""
        if event["event"] == "round":
            event["spoilt"] = event.pop("disturbed")
        if event["event"] == "end":
            event["failed"] = {}
    whole = [json.dumps(event) for event in events]
    (folder / "run.jsonl").write_text("".join(f"{line}\n" for line in [*whole, *lines]))
    return Run(folder)


def test_a_run_of_schema_4_has_the_figures_and_verdicts_of_schema_5(tmp_path):
    new = make(tmp_path, rounds=6, disturbed=[1], protocol=Protocol(rounds=6, iterations=4))
    rows, verdicts = new.rows(), [pair.as_json() for pair in within(new)]
    old = downgraded(tmp_path)
    assert (old.head.schema, new.head.schema) == (4, 5)
    assert old.rows() == rows
    assert [pair.as_json() for pair in within(old)] == verdicts
    assert old.disturbed == {(0, 1): "the machine was suspended"}
    assert [row["flags"] for row in rows] == ["rounds_disturbed"] * 2
    old.write()
    assert len((tmp_path / "samples.csv").read_text().splitlines()) == 1 + 6 * 4 * 3


def test_events_of_schema_4_are_upgraded_to_schema_5(tmp_path):
    make(tmp_path, [A])
    run = downgraded(tmp_path)
    conditions = run.events_of(Worker)[0].conditions
    assert (conditions.bf16, conditions.filled) == (None, [])
    assert conditions.switches == {"flush_denormal": True, "reorder_for_peak_memory": None}


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"round","group":0,"round":1,"attempt":0}',
        '{"event":"worker","conditions":[]}',
        '{"event":["round"]}',
        '{"event":"explosion"}',
        "[1]",
        "not json",
        '{"event":"end","failed":' + '{"a":' * 5_000 + "1" + "}" * 5_001,
    ],
)
def test_a_foreign_line_in_a_run_of_schema_4_is_reported(tmp_path, line):
    make(tmp_path)
    run = downgraded(tmp_path, line)
    (problem,) = run.problems
    assert problem.startswith(f"{tmp_path / 'run.jsonl'}, line {len(run.events) + 1}: ")
    assert len(problem) < len(str(tmp_path)) + 250
    assert len(run.samples(A)) == len(run.samples(B)) == 5


def test_an_event_without_changes_is_returned_as_it_is():
    event = {"event": "stop", "group": 0, "reason": BlockStop.TIME_CAP}
    assert upgrade(event) is event


def test_a_run_of_schema_4_is_not_resumed(tmp_path):
    make(tmp_path, stop="interrupted")
    downgraded(tmp_path)
    before = (tmp_path / "run.jsonl").read_bytes()
    done = CliRunner().invoke(main, ["run", "--resume", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (
        2,
        "alexnet-bench: --resume: the Run is of schema 4, expected 5: start a new Run\n",
    )
    assert (tmp_path / "run.jsonl").read_bytes() == before


def test_a_run_of_schema_4_survives_export_and_ingest_byte_for_byte(tmp_path):
    export = ["export", str(REFERENCE), "--format", "pytest-benchmark", "--output", str(tmp_path / "run.json")]
    assert CliRunner().invoke(main, export).exit_code == 0
    done = CliRunner().invoke(main, ["ingest", str(tmp_path / "run.json"), "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["run"]["event"], found["run"]["schema"], len(found["cases"])) == ("run", 4, 6)
    (folder,) = (path.parent for path in tmp_path.glob("*/run.jsonl"))
    assert (folder / "run.jsonl").read_bytes() == (REFERENCE / "run.jsonl").read_bytes()


def test_a_fault_after_timing_fails_the_case(tmp_path):
    make(tmp_path, [A])
    place = {"group": 0, "round": 4, "attempt": 0, "case_id": A.id, "changed": {}, "stop": "count"}
    run = downgraded(tmp_path, json.dumps({"event": "block", "fault": "disagrees: loss is not finite"} | place))
    assert run.row(A)["invalid_reason"] == "after it was timed it disagrees: loss is not finite"


def test_a_round_without_half_of_its_turns_does_not_count(tmp_path):
    lines = (ROOT / "results/reference/aa-1/run.jsonl").read_text().splitlines(keepends=True)
    turns = [number for number, line in enumerate(lines) if json.loads(line)["event"] == "turn"]
    (tmp_path / "run.jsonl").write_text("".join(line for i, line in enumerate(lines) if i not in turns[::2]))
    run = Run(tmp_path)
    case = run.cases[0]
    assert run.invalid_reason(case) == "run.jsonl lacks turns of its Rounds"
    assert f"{tmp_path}: Round 1 of {case.id} has 80 of 160 samples: not counted" in run.problems


def test_lines_that_stand_twice_are_read_once(tmp_path):
    whole = Run(ROOT / "results/reference/aa-1")
    lines = (whole.folder / "run.jsonl").read_text().splitlines(keepends=True)
    turns = [line for line in lines if json.loads(line)["event"] == "turn"]
    (tmp_path / "run.jsonl").write_text("".join(lines[:-2] + turns[:40] + lines[-2:]))
    run = Run(tmp_path)
    assert run.problems == [f"{tmp_path / 'run.jsonl'}: 40 of its lines occur twice: read once"]
    assert [run.samples(case) for case in run.cases] == [whole.samples(case) for case in whole.cases]
