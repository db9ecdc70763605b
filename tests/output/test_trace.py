"""`export --format trace`: every iteration once, to the nanosecond, and slices that nest."""

import csv
import json
from collections import Counter

import jsonschema
import pytest
from export_schemas import TRACE
from paths import ROOT
from runs import A, event, make, turn

from bench.output import trace
from bench.record.journal import Journal
from bench.record.run import Run

REFERENCE = ROOT / "results" / "reference" / "cpu-2-cores"


@pytest.fixture(scope="module")
def found():
    return trace.trace_of(Run(REFERENCE))


def slices(found, **wanted):
    return [one for one in found["traceEvents"] if one["ph"] == "X" and all(one[key] == wanted[key] for key in wanted)]


def span_ns(one):
    """Whole nanoseconds, as Perfetto reads microseconds."""
    begin = round(one["ts"] * 1000)
    return begin, begin + round(one["dur"] * 1000)


def crossing(found):
    """Slices that begin inside another one of their track and end outside it: a viewer drops them."""
    bad = []
    for track in {(one["pid"], one["tid"]) for one in slices(found)}:
        around: list[int] = []
        mine = sorted(
            (span_ns(one) for one in slices(found, pid=track[0], tid=track[1])), key=lambda it: (it[0], -it[1])
        )
        for begin, end in mine:
            while around and around[-1] <= begin:
                around.pop()
            bad += [(track, begin)] if around and end > around[-1] else []
            around.append(end)
    return bad


class TestTrace:
    def test_trace_fits_the_viewers_schema(self, found):
        jsonschema.validate(json.loads(json.dumps(found)), TRACE)

    def test_every_iteration_is_there_once_to_the_nanosecond(self, found):
        with (REFERENCE / "samples.csv").open() as file:
            rows = list(csv.DictReader(file))
        first = min(int(row["start_ns"]) for row in rows)
        wanted = Counter(
            (row["case_id"], int(row["round"]), row["cycle"], row["phase"], row["valid"] == "True",
             int(row["duration_ns"]), int(row["start_ns"]) - first)
            for row in rows
        )  # fmt: skip
        seen = Counter()
        for one in slices(found, tid=trace.ITERATIONS):
            args, (begin, end) = one["args"], span_ns(one)
            assert (one["cat"], one["name"].split()[-1]) == (args["phase"], args["phase"])
            cycle = "" if args["cycle"] is None else str(args["cycle"])
            seen[args["case_id"], args["round"], cycle, args["phase"], args["valid"], end - begin, begin] += 1
        assert seen == wanted
        assert sum(key[4] for key in seen.elements()) == 300

    def test_no_slice_sticks_out_of_another(self, found):
        assert crossing(found) == []

    def test_a_slice_that_sticks_out_would_be_seen(self, found):
        turns = slices(found, tid=trace.TURNS, pid=1)
        late = {**turns[0], "ts": turns[0]["ts"] + turns[0]["dur"] / 2}
        assert crossing({"traceEvents": [*found["traceEvents"], late]})

    def test_a_turn_and_a_round_enclose_what_is_theirs(self, found):
        rounds = {one["args"]["round"]: span_ns(one) for one in slices(found, pid=trace.RUN)}
        assert sorted(rounds) == [0, 1, 2, 3, 4]
        for pid in (1, 2, 3):
            turns = [span_ns(one) for one in slices(found, pid=pid, tid=trace.TURNS)]
            for one in slices(found, pid=pid, tid=trace.ITERATIONS):
                begin, end = span_ns(one)
                since, until = rounds[one["args"]["round"]]
                assert since <= begin < end <= until
                assert sum(start <= begin and end <= stop for start, stop in turns) == 1

    def test_workers_and_tracks_have_names(self, found):
        said = [one for one in found["traceEvents"] if one["ph"] == "M"]
        processes = {one["pid"]: one["args"]["name"] for one in said if one["name"] == "process_name"}
        assert processes == {0: "Run", 1: "torch-eager", 2: "tensorflow-graph", 3: "jax-jit"}
        threads = {(one["pid"], one["tid"]): one["args"]["name"] for one in said if one["name"] == "thread_name"}
        assert (threads[1, 1], threads[1, 2]) == ("turns", "iterations")
        assert threads[0, 1] == "Rounds of tutorial b8 cpu fp32"
        assert {(one["pid"], one["tid"]) for one in slices(found)} <= threads.keys()

    def test_a_round_that_was_repeated_is_shown_and_not_valid(self, tmp_path):
        run = make(tmp_path / "run", rounds=2)
        Journal(run.folder).add(event("void", group=0, round=1, attempt=0, reason="a Worker died"))
        found = trace.trace_of(Run(run.folder))
        names = [one["name"] for one in slices(found, cat="round")]
        assert names == ["Round 1", "Round 2, repeated"]
        valid = {(one["args"]["round"], one["args"]["valid"]) for one in slices(found, cat="sample")}
        assert valid == {(0, True), (1, False)}

    def test_after_a_reboot_time_goes_on(self, tmp_path):
        run = make(tmp_path / "run", rounds=1)
        whole = Journal(run.folder)
        whole.add(event("resume", dropped_bytes=0))
        whole.add(event("turn", **turn(A, [5, 5], start=3, round=1)))
        found = trace.trace_of(Run(run.folder))
        before, after = (slices(found, cat="round")[number] for number in (0, 1))
        assert span_ns(after)[0] == span_ns(before)[1] + trace.GAP_NS
        assert crossing(found) == []
