"""Foreign lines in run.jsonl are reported with their number and left out, without a traceback."""

import json

import msgspec
import pytest
from click.testing import CliRunner
from runs import A, B, event, head, make, turn, worker

from bench import UsageError
from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.output import run_table
from bench.record.events import SCHEMA, End, Header
from bench.record.journal import Journal
from bench.record.pairs import within
from bench.record.parse import OLDEST
from bench.record.run import Run

PLACE = {"group": 0, "round": 1, "attempt": 0}
AT = 10**12  # after all that a synthetic Run holds


def line(event, **fields):
    return json.dumps({"event": event, **fields}).encode()


def without(fields, name):
    return {key: value for key, value in fields.items() if key != name}


def a_turn(**changes):
    return line("turn", **turn(A, [10, 10], AT, cycle=9) | changes)


def a_worker(**changes):
    return line("worker", **PLACE, **worker(A) | changes)


def block(**changes):
    facts = {"case_id": A.id, "fault": "", "changed": {}, "stop": "count"}
    return line("block", **PLACE | facts | changes)


def burn_in(**changes):
    sync = {"iterations": 1, "copy_ns": 1, "allowed_ns": 2}
    facts = {"case_id": A.id, "start_ns": [1], "ns": [1], "stop": "cap", "steady_at": None, "sync": sync, "spin_ns": 0}
    return line("burn_in", **PLACE | facts | changes)


def control(**changes):
    facts = {"control_cpu_ns": 1, "control_mem_ns": 1, "load1": 0.5, "mhz": None, "temp_c": None}
    return line("control", **PLACE | facts | changes)


def layer(**changes):
    text, numbers = ("variant", "layer", "kind", "framework"), ("height", "width", "channels", "params", "state")
    facts = dict.fromkeys(text, "x") | dict.fromkeys([*numbers, "macs", *(f"reported_{name}" for name in numbers)], 1)
    return line("layers", rows=[facts | changes])


def nested(depth):
    return b'{"event":"end","reason":"planned","failed":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


FOREIGN = {
    "not JSON": b"not json",
    "an empty line": b"",
    "half a line": a_turn()[:40],
    "two objects": b'{"event":"end","reason":"planned"} {}',
    "an array": b"[1, 2]",
    "a number": b"5",
    "null": b"null",
    "a string": b'"end"',
    "no event": b'{"reason":"x"}',
    "an unknown event": b'{"event":"explosion"}',
    "an event that is a number": b'{"event":5}',
    "an event that is a list": b'{"event":["turn"]}',
    "another program's line": b'{"level":"info","msg":"hello"}',
    "invalid UTF-8": b'{"event":"end","reason":"\xff\xfe"}',
    "Latin-1 as a key": b'{"event":"end","reason":"planned","\xe4":1}',
    "a lone surrogate": b'{"event":"end","reason":"\\ud800"}',
    "NUL bytes": b"\0" * 4096,
    "a NUL inside": b'{"event":"end",\0"reason":"planned"}',
    "deep arrays": b"[" * 200_000,
    "a deep object": nested(5_000),
    "a deep object in an unknown event": nested(5_000).replace(b"end", b"explosion"),
    "NaN": a_turn(cpu_s=float("nan")),
    "Infinity": a_turn(cpu_s=float("inf")),
    "1e400": a_turn().replace(b'"cpu_s": 1.5', b'"cpu_s": 1e400'),
    "10 MB": b'{"event":"explosion","x":"' + b"x" * 10_000_000 + b'"}',
    "an end whose reason is none": line("end", reason=None),
    "a turn without ns": line("turn", **without(turn(A, [10, 10], AT), "ns")),
    "a turn without noise": line("turn", **without(turn(A, [10, 10], AT), "noise")),
    "more ns than starts": a_turn(ns=[10, 10, 10]),
    "fewer ns than starts": a_turn(ns=[10]),
    "ns in words": a_turn(ns=["ten", "ten"]),
    "ns that are fractions": a_turn(ns=[10.5, 10.5]),
    "ns that are true": a_turn(ns=[True, True]),
    "ns beyond 64 bits": a_turn(ns=[10**30, 10]),
    "a start beyond 64 bits": a_turn(start_ns=[10**400, 10]),
    "a round in words": a_turn(round="one"),
    "a noise that is a list": a_turn(noise=[]),
    "a noise without its wall": a_turn(noise={"steal_s": 0.0}),
    "a noise in words": a_turn(noise={"wall_s": "long", "steal_s": 0, "foreign_s": 0, "psi_s": 0, "throttled": 0}),
    "a noise whose quota is a word": a_turn(
        noise={"wall_s": 1.0, "steal_s": None, "foreign_s": None, "psi_s": None, "throttled": "often"}
    ),
    "a negative lead": a_turn(lead=-1),
    "burn-in of unequal length": burn_in(ns=[1, 2]),
    "burn-in of a stop that is none": burn_in(stop="enough"),
    "a block of a stop that is none": block(stop="enough"),
    "an end for no reason there is": line("end", reason="x"),
    "a fault of no kind there is": line("fault", **PLACE, worker="w", kind="odd", reason="r", stderr_tail=""),
    "a Worker without conditions": line("worker", **PLACE, **without(worker(A), "conditions")),
    "a Worker of empty conditions": a_worker(conditions={}),
    "a Worker whose libraries are numbers": a_worker(conditions=worker(A)["conditions"] | {"libraries": [1]}),
    "a Worker without a precision": a_worker(precision={}),
    "a Worker of a precision that is a word": a_worker(precision={"matmul": "fp32", "conv": "fp32"}),
    "a Worker whose threads are a list": a_worker(conditions=worker(A)["conditions"] | {"threads": [2]}),
    "a block whose change has one side": block(changed={"threads": [1]}),
    "a block whose change is a number": block(changed={"threads": 1}),
    "a control in words": control(control_cpu_ns="slow"),
    "a control beyond 64 bits": control(control_cpu_ns=10**400),
    "a layer that is a number": line("layers", rows=[1]),
    "a layer without all of its columns": line("layers", rows=[{"color": "red"}]),
}


def inserted(folder, *lines, after=3):
    """A Run with foreign lines in its middle; a problem's line counts from 1."""
    make(folder)
    path = folder / "run.jsonl"
    whole = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*whole[:after], *lines, *whole[after:]]))
    return path


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_foreign_line_is_reported_with_its_number_and_the_others_are_read(tmp_path, foreign):
    path = inserted(tmp_path, foreign)
    run = Run(tmp_path)
    (problem,) = run.problems
    assert problem.startswith(f"{path}, line 4: ")
    assert problem.endswith("; left out")
    assert len(problem) < len(str(path)) + 250
    assert len(run.samples(A)) == len(run.samples(B)) == 5
    run.write()
    assert [pair.word for pair in within(run)] == ["SLOWER"]


ODD = {
    "a group that no header has": a_turn(group=7),
    "a negative group": a_turn(group=-1, round=-1, attempt=-1),
    "a round that no header has": a_turn(round=99),
    "a lead of more than all": a_turn(lead=5),
    "no samples at all": a_turn(ns=[], start_ns=[]),
    "negative ns": a_turn(ns=[-10, -10]),
    "zero ns": a_turn(ns=[0, 0]),
    "a case that is unknown": a_turn(case_id="no-such-case"),
    "a burn-in of an unknown case": burn_in(case_id="x"),
    "a block of an unknown case": block(case_id="x", fault="differs"),
    "a failed case that is unknown": line("failed", case_id="x", reason="y"),
    "a Worker of unknown cases": a_worker(case_ids=["x"]),
    "a Worker whose proof has no gradient": a_worker(parity={"logits": 1e-7}),
    "a Worker whose first call has no pass": a_worker(first_call_ns={}),
    "layers with a column of their own": layer(color="red"),
    "a stop of another group": line("stop", group=5, reason="planned"),
    "a void of a Round that never was": line("void", group=3, round=3, attempt=3, reason="x"),
    "more in an event than we know": line("end", reason="planned", failed={}, more=[{}]),
    "a control of no time": control(control_cpu_ns=0, control_mem_ns=-1),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
def test_an_event_about_nothing_we_know_is_read_and_breaks_nothing(tmp_path, odd, capsys):
    inserted(tmp_path, odd, after=20)
    run = Run(tmp_path)
    assert run.problems == []
    run.write()
    assert all(row["valid"] for row in run.rows())
    pairs = within(run)
    assert [pair.word for pair in pairs] == ["SLOWER"]
    run_table.run_table(run, pairs)


def test_a_turn_of_another_group_is_no_turn_of_its_case(tmp_path):
    inserted(tmp_path, a_turn(group=7, round=7), after=20)
    assert 7 not in Run(tmp_path).samples_by_round(A)


def test_an_event_twice_counts_no_sample_twice(tmp_path):
    make(tmp_path)
    path = tmp_path / "run.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    first = next(i for i, one in enumerate(lines) if b'"event":"turn"' in one)
    path.write_bytes(b"".join([*lines[: first + 1], *lines[first:]]))
    run = Run(tmp_path)
    assert run.problems == [f"{path}: 1 of its lines occur twice: read once"]
    assert run.samples_by_round(A)[0] == [1000] * 4
    assert [pair.ratio.rounds for pair in within(run)] == [5]


def test_every_line_doubled_is_the_same_run(tmp_path):
    rows = make(tmp_path).rows()
    path = tmp_path / "run.jsonl"
    data = path.read_bytes()
    for doubled in (data + data, b"".join(line + line for line in data.splitlines(keepends=True))):
        path.write_bytes(doubled)
        assert Run(tmp_path).rows() == rows


def test_lines_out_of_order_are_read_by_their_numbers(tmp_path):
    rows = make(tmp_path).rows()
    path = tmp_path / "run.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"".join(reversed(rest)))
    run = Run(tmp_path)
    assert run.problems == [f"{path}: its lines are out of order: read in the order of their numbers"]
    assert run.rows() == rows


def test_a_round_beside_missing_lines_does_not_count(tmp_path):
    make(tmp_path)
    path = tmp_path / "run.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    gone = next(i for i, line in enumerate(lines) if '"event":"turn"' in line and '"round":2' in line)
    path.write_text("".join(lines[:gone] + lines[gone + 1 :]))
    run = Run(tmp_path)
    assert run.problems[0] == f"{path}: 1 of its events are missing: Rounds beside them are not counted"
    assert f"{tmp_path}: Round 3 of {A.id} lacks events: not counted" in run.problems
    assert list(run.samples_by_round(A)) == [0, 1, 3, 4]


def test_another_event_with_the_number_of_one_is_left_out(tmp_path):
    rows = make(tmp_path).rows()
    path = tmp_path / "run.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    turn = next(line for line in lines if '"event":"turn"' in line)
    path.write_text("".join([*lines, turn.replace('"lead":1', '"lead":0')]))
    run = Run(tmp_path)
    assert run.problems == [f"{path}: line {len(lines) + 1}: another event has its number; left out"]
    assert run.rows() == rows


def test_events_are_numbered_and_timed_also_after_a_resume(tmp_path):
    make(tmp_path)
    Journal(tmp_path).add(event("failed", case_id=A.id, reason=""))
    events = Run(tmp_path).events
    assert [one.number for one in events] == list(range(len(events)))
    times = [one.time for one in events]
    assert times == sorted(times)
    assert times[0].utcoffset().total_seconds() == 0


def test_a_case_that_failed_without_a_reason_is_not_valid(tmp_path):
    make(tmp_path)
    Journal(tmp_path).add(event("failed", case_id=A.id, reason=""))
    row = Run(tmp_path).row(A)
    assert (row["valid"], row["invalid_reason"]) == (False, "it failed and did not say why")


def test_several_foreign_lines_are_reported_in_order(tmp_path):
    small = [one for one in FOREIGN.values() if len(one) < 10_000]
    inserted(tmp_path, *small)
    run = Run(tmp_path)
    numbers = [int(problem.split(", line ")[1].split(":")[0]) for problem in run.problems]
    assert numbers == list(range(4, 4 + len(small)))
    assert [pair.word for pair in within(run)] == ["SLOWER"]


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_last_line_that_was_cut_off_is_a_killed_run(tmp_path, cut):
    make(tmp_path)
    path = tmp_path / "run.jsonl"
    path.write_bytes(path.read_bytes() + a_turn()[:cut])
    run = Run(tmp_path)
    (problem,) = run.problems
    assert problem.endswith(": cut off; left out")
    assert len(run.samples(A)) == 5


def test_a_last_line_without_its_end_is_cut_off_too_for_that_is_what_resume_does(tmp_path):
    make(tmp_path)
    path = tmp_path / "run.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    run = Run(tmp_path)
    assert (len(run.problems), run.events_of(End)) == (1, [])


class TestHeader:
    def refused(self, folder, *lines):
        (folder / "run.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        result = CliRunner().invoke(main, ["compare", str(folder)])
        assert (result.exit_code, result.stdout) == (2, ""), result.exception
        (said,) = result.stderr.splitlines()
        with pytest.raises(UsageError) as error:
            Run(folder)
        assert said == f"alexnet-bench: {error.value}"
        return str(error.value).replace(str(folder), "RUN")

    def header(self, **changes):
        return line("run", **head([A, B], Protocol()) | changes)

    def case(self, **changes):
        first, second = head([A, B], Protocol())["cases"]
        return self.header(cases=[first, second | changes])

    def test_a_run_without_a_header_is_refused(self, tmp_path):
        assert self.refused(tmp_path) == "RUN: no Run there, run.jsonl has no header"
        assert self.refused(tmp_path, a_turn()) == "RUN: no Run there, run.jsonl has no header"

    def test_a_broken_header_is_refused_with_its_line(self, tmp_path):
        said = self.refused(tmp_path, self.header()[:-20], a_turn())
        assert said.startswith("RUN: no Run there, run.jsonl has no header (RUN/run.jsonl, line 1: not a JSON object")

    @pytest.mark.parametrize("field", sorted(field.name for field in msgspec.structs.fields(Header) if field.required))
    def test_a_header_without_a_field_is_refused_with_its_name(self, tmp_path, field):
        said = self.refused(tmp_path, line("run", **without(head([A], Protocol()), field)))
        assert said.startswith(
            "RUN: no Run there, run.jsonl has no header (RUN/run.jsonl, line 1: an invalid run event"
        )
        assert f"`{field}`" in said

    def test_two_headers_are_refused(self, tmp_path):
        said = self.refused(tmp_path, self.header(), self.header())
        assert said == "RUN: run.jsonl has 2 headers, expected one: a Run has a folder of its own"

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"variant": "alexnet"}, "unknown variant 'alexnet': choose "),
            ({"framework": "torch", "mode": "eager", "layout": "nchw"}, "duplicate case"),
        ],
    )
    def test_a_header_with_an_impossible_case_is_refused_with_the_reason(self, tmp_path, changes, part):
        said = self.refused(tmp_path, self.case(**changes))
        assert said.startswith(f"RUN: invalid header in run.jsonl: {part}")

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"batch": "eight"}, "Expected `int`, got `str` - at `$.cases[1].batch`"),
            ({"threads": 2.5}, "Expected `int | null`, got `float` - at `$.cases[1].threads`"),
        ],
    )
    def test_a_case_with_a_field_of_another_type_is_refused_with_its_path(self, tmp_path, changes, part):
        said = self.refused(tmp_path, self.case(**changes))
        assert said.startswith(
            "RUN: no Run there, run.jsonl has no header (RUN/run.jsonl, line 1: an invalid run event"
        )
        assert part in said

    @pytest.mark.parametrize(
        "changes",
        [
            {"cases": []},
            {"cases": [{}]},
            {"protocol": {"rounds": "five"}},
            {"protocol": {"turn_lengths": 5}},
            {"fingerprint": {}},
            {"ab": {}},
            {"ab": {"key": "threads", "values": ["1"], "identical": False}},
            {"weights": {}},
            {"env": {"X": 5}},
        ],
    )
    def test_a_header_that_does_not_convert_is_refused_in_one_line(self, tmp_path, changes):
        assert self.refused(tmp_path, self.header(**changes)).startswith("RUN: ")

    @pytest.mark.parametrize(
        ("schema", "what"),
        [
            (SCHEMA + 1, f"is newer than {SCHEMA}: update alexnet-bench"),
            (OLDEST - 1, f"is older than {OLDEST}: measure again, or plot its CSVs"),
            (10**30, f"is newer than {SCHEMA}: update alexnet-bench"),
            (-1, f"is older than {OLDEST}: measure again, or plot its CSVs"),
        ],
    )
    def test_a_header_of_another_schema_is_refused_whatever_else_it_has(self, tmp_path, schema, what):
        assert self.refused(tmp_path, line("run", schema=schema)) == f"RUN: schema {schema} {what}"
        assert self.refused(tmp_path, self.header(schema=schema)) == f"RUN: schema {schema} {what}"

    @pytest.mark.parametrize("schema", [None, "3", 3.0, True])
    def test_a_schema_that_is_no_number_is_no_header(self, tmp_path, schema):
        assert self.refused(tmp_path, self.header(schema=schema)).startswith("RUN: no Run there")
