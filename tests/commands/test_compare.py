"""`compare` as a command: tables, JSON, Markdown, and above all its exit codes."""

import dataclasses
import json
import re

import pytest
from click.testing import CliRunner
from runs import AA, HOST, A, B, aa_runs, arms, event, make

from bench.cases.arm import Ab
from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.output import markdown, reproduce, verdicts
from bench.record.events import SCHEMA
from bench.record.journal import Journal
from bench.record.pairs import Pair
from bench.stats.ratio import Verdict
from bench.stats.verdict import Word

BIG = {"base_ns": 1_000_000}
TRAINING = dataclasses.replace(A, pass_="forward_backward")
KEYS = {"case_id", "ratio", "ci95_low", "ci95_high", "verdict", "reason"}


def invoke(*args):
    return CliRunner().invoke(main, ["compare", *map(str, args)])


def two(folder, factor=1.0, cases=(A,), stored=3, base=None, **candidate):
    """Two Runs and what tells them apart, in one folder."""
    aa_runs(folder, stored, *cases, sd=0.002)
    make(folder / "base", cases, **BIG | (base or {}))
    speeds = {case.id: factor for case in cases}
    make(folder / "candidate", candidate.pop("theirs", cases), slower=speeds, **BIG | candidate)
    return folder / "base", folder / "candidate"


def words_of(result):
    return [case["verdict"] for case in json.loads(result.stdout)["cases"]]


class TestExitCodes:
    @pytest.mark.parametrize(
        ("factor", "settings", "args", "word", "code"),
        [
            (1.1, {}, (), "SLOWER", 1),
            (1 / 1.1, {}, (), "FASTER", 0),
            (1.0, {}, (), "SAME", 0),
            (1.0, {}, ("--strict",), "SAME", 0),
            (1.1, {"stored": 2}, (), "INCONCLUSIVE", 0),
            (1.1, {"stored": 2}, ("--strict",), "INCONCLUSIVE", 3),
            (1.1, {"env": {"X": "1"}}, (), "INCOMPARABLE", 4),
        ],
    )
    def test_each_verdict_has_its_exit_code(self, tmp_path, factor, settings, args, word, code):
        result = invoke(*two(tmp_path, factor, **settings), "--json", *args)
        assert (words_of(result), result.exit_code) == ([word], code)
        assert json.loads(result.stdout)["exit_code"] == code

    def test_a_missing_case_is_exit_4(self, tmp_path):
        result = invoke(*two(tmp_path, cases=(A, TRAINING), theirs=[A]), "--json")
        assert (words_of(result), result.exit_code) == (["SAME", "MISSING"], 4)

    @pytest.mark.parametrize(
        ("words", "code", "strict"),
        [
            ("SLOWER", 1, 1),
            ("SLOWER INCOMPARABLE", 1, 1),
            ("MISSING SLOWER", 1, 1),
            ("INCONCLUSIVE SLOWER", 1, 1),
            ("SAME FASTER SLOWER", 1, 1),
            ("INCOMPARABLE", 4, 4),
            ("MISSING", 4, 4),
            ("INCONCLUSIVE MISSING", 4, 4),
            ("INCOMPARABLE INCONCLUSIVE", 4, 4),
            ("SAME MISSING", 4, 4),
            ("INCONCLUSIVE", 0, 3),
            ("INCONCLUSIVE SAME FASTER", 0, 3),
            ("SAME FASTER", 0, 0),
        ],
    )
    def test_the_worst_verdict_decides_the_exit_code(self, words, code, strict):
        found = []
        for word in words.split():
            pair = Pair("c", "forward", "a", "b", differs=["x"] if word == "INCOMPARABLE" else [])
            if word not in ("INCOMPARABLE", "MISSING"):
                pair.verdict = Verdict(Word(word), "", 0.02, None, None)
            found.append(pair)
            assert pair.word == word
        assert (verdicts.exit_code(found), verdicts.exit_code(found, strict=True)) == (code, strict)

    def test_a_missing_case_hides_no_slow_one(self, tmp_path):
        result = invoke(*two(tmp_path, 1.2, cases=(A, TRAINING), theirs=[A]), "--strict", "--json")
        assert (words_of(result), result.exit_code) == (["SLOWER", "MISSING"], 1)

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("nowhere",), "nowhere: cannot read run.jsonl: No such file or directory"),
            (("base", "nowhere"), "nowhere: cannot read run.jsonl: No such file or directory"),
            (("base/run.jsonl",), "base/run.jsonl: cannot read run.jsonl: Not a directory"),
            (("empty",), "empty: no Run there, run.jsonl has no header"),
            (("newer",), f"newer: schema 99 is newer than {SCHEMA}: update alexnet-bench"),
            (("base", "--margin", "0"), "--margin: expected percent, above 0 and below 100, found '0'"),
            (("base", "--margin", "much"), "--margin: expected percent, above 0 and below 100, found 'much'"),
            (("base", "--margin", "nan"), "--margin: expected percent, above 0 and below 100, found 'nan'"),
            (("base", "--spread", "nowhere"), "--spread: no folder nowhere"),
            (("base", "--allow", "env"), "--allow: needs two Runs, found one"),
            (("base", "base", "--allow", "env,wether"), "unknown condition to --allow 'wether': choose host, cpu, "),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_2_though_a_case_is_slower(self, tmp_path, monkeypatch, args, message):
        make(tmp_path / "base", slower=1.5)
        for name, text in (("empty", ""), ("newer", '{"event":"run","schema":99}\n')):
            (tmp_path / name).mkdir()
            (tmp_path / name / "run.jsonl").write_text(text)
        monkeypatch.chdir(tmp_path)
        result = invoke(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"alexnet-bench: {message}")

    @pytest.mark.parametrize("args", [(), ("a", "b", "c"), ("a", "--verbose")])
    def test_a_wrong_command_is_exit_2(self, args):
        assert invoke(*args).exit_code == 2

    @pytest.mark.parametrize("how", [(), ("--json",), ("--markdown",)])
    def test_a_run_that_holds_no_pair_is_exit_2_and_says_so(self, tmp_path, how):
        make(tmp_path / "a", protocol=Protocol(paired=False))
        result = invoke(tmp_path / "a", *how)
        assert result.exit_code == 2
        assert result.stderr.endswith("nothing to compare within this Run; name a second one\n")
        if how == ("--json",):
            nothing = {"base": "a", "candidate": None, "cases": [], "exit_code": 2, "aa_command": None}
            assert json.loads(result.stdout) == nothing


def test_code_of_two_runs_is_named_where_it_differs(tmp_path):
    same = two(tmp_path / "same", 1.0, fingerprint=HOST | {"code": "0123456789ab"})
    assert "Code of bench and impls" not in invoke(*same).stdout
    make(tmp_path / "a", fingerprint=HOST | {"code": "0123456789ab", "commit": "feedfeedfeed, changed"})
    make(tmp_path / "b", fingerprint=HOST | {"code": "ba9876543210"})
    line = "Code of bench and impls: ba9876543210, 0123456789ab (commit feedfeedfeed, changed) in the baseline."
    assert line in invoke(tmp_path / "a", tmp_path / "b").stdout.replace("\n", " ")
    assert line in invoke(tmp_path / "a", tmp_path / "b", "--markdown").stdout


class TestConditions:
    @pytest.mark.parametrize(
        ("changes", "allow", "said"),
        [
            ({"env": {"X": "1"}}, "env", "env: X 1,  in the baseline"),
            ({"fingerprint": HOST | {"cpu": "b CPU"}}, "cpu", "cpu: b CPU, a CPU in the baseline"),
            ({"fingerprint": HOST | {"gpu_driver": "9"}}, "gpu_driver", "gpu_driver: 9, None in the baseline"),
            ({"fingerprint": HOST | {"affinity": "0"}}, "affinity", "affinity: 0, None in the baseline"),
            (
                {"protocol": Protocol(burn_in=3, iterations=4)},
                "protocol burn_in",
                "protocol burn_in: 3, 10 in the baseline",
            ),
            (
                {"protocol": Protocol(iterations=99)},
                "protocol iterations",
                "protocol iterations: 99, 4 in the baseline",
            ),
        ],
    )
    def test_a_differing_condition_is_named_and_can_be_allowed(self, tmp_path, changes, allow, said):
        runs = two(tmp_path, 1.0, **changes)
        (case,) = json.loads(invoke(*runs, "--json").stdout)["cases"]
        assert (case["verdict"], case["differs"], case["reason"]) == ("INCOMPARABLE", [said], said)
        assert words_of(invoke(*runs, "--json", "--allow", f"tf32, {allow}")) != ["INCOMPARABLE"]

    @pytest.mark.parametrize(
        ("changes", "allow", "said"),
        [
            (
                {"versions": {"tensorflow": "2.0"}},
                "versions",
                "versions: tensorflow 2.0, tensorflow 1.0 in the baseline",
            ),
            ({"python": "3.12.1"}, "python", "python: 3.12.1, 3.11.9 in the baseline"),
            ({"threads": 1}, "threads", "threads: 1, 2 in the baseline"),
            ({"onednn": False}, "onednn", "onednn: False, True in the baseline"),
            (
                {"matmul": "bf16"},
                "precision",
                "precision: matmul bf16 conv fp32, matmul fp32 conv fp32 in the baseline",
            ),
            ({"identity": {"hash": "9", "params": 1, "macs": 1}}, "net", "net: 9, 0123 in the baseline"),
        ],
    )
    def test_a_condition_that_a_worker_reports_differently_is_named(self, tmp_path, changes, allow, said):
        make(tmp_path / "1", [A, B], **BIG)
        make(tmp_path / "2", [A, B], unlike=changes, **BIG)
        runs = (tmp_path / "1", tmp_path / "2", "--json")
        _, case = json.loads(invoke(*runs).stdout)["cases"]
        assert (case["verdict"], case["differs"]) == ("INCOMPARABLE", [said])
        assert words_of(invoke(*runs, "--allow", allow)) == ["INCONCLUSIVE"] * 2

    def test_all_that_differs_is_listed_and_one_allowed_leaves_the_others(self, tmp_path):
        runs = two(tmp_path, env={"X": "1"}, fingerprint=HOST | {"host": "b", "usable_cores": 4})
        (case,) = json.loads(invoke(*runs, "--json", "--allow", "env").stdout)["cases"]
        assert case["differs"] == ["host: b, 0123456789ab in the baseline", "usable_cores: 4, 2 in the baseline"]

    def test_the_number_of_rounds_is_no_difference(self, tmp_path):
        assert words_of(invoke(*two(tmp_path, rounds=7), "--json")) == ["SAME"]

    def test_stored_runs_elsewhere_are_named_by_aa(self, tmp_path):
        runs = two(tmp_path / "runs", 1.1, stored=0)
        aa_runs(tmp_path / "stored", 3, sd=0.002)
        assert words_of(invoke(*runs, "--json")) == ["INCONCLUSIVE"]
        assert words_of(invoke(*runs, "--json", "--spread", tmp_path / "stored")) == ["SLOWER"]

    def test_a_wider_margin_forgives_more(self, tmp_path):
        runs = two(tmp_path, 1.05)
        assert words_of(invoke(*runs, "--json")) == ["SLOWER"]
        assert words_of(invoke(*runs, "--json", "--margin", "8")) == ["SAME"]


class TestShown:
    def test_json_holds_each_case_with_its_interval_and_verdict(self, tmp_path):
        shown = json.loads(invoke(*two(tmp_path, 1.1), "--json").stdout)
        assert (shown["base"], shown["candidate"]) == ("base", "candidate")
        (case,) = shown["cases"]
        assert set(case) >= KEYS
        assert case["case_id"] == A.id
        assert 1.02 < case["ci95_low"] < case["ratio"] < case["ci95_high"]

    def test_a_run_alone_is_compared_within(self, tmp_path):
        run = make(tmp_path / "a", arms(A), ab=AA, slower=1.3, **BIG)
        result = invoke(run.folder, "--json")
        assert result.exit_code == 1
        (case,) = json.loads(result.stdout)["cases"]
        assert (case["baseline"], case["candidate"], case["paired"]) == (f"{A.id}-A", f"{A.id}-B", True)

    def test_a_run_against_itself_is_the_same(self, tmp_path):
        aa_runs(tmp_path, sd=0.002)
        run = make(tmp_path / "a", [A], **BIG)
        shown = json.loads(invoke(run.folder, run.folder, "--json").stdout)
        assert [(case["ratio"], case["verdict"]) for case in shown["cases"]] == [(1.0, "SAME")]

    def test_a_failed_case_of_a_run_alone_is_missing_and_exit_4(self, tmp_path):
        run = make(tmp_path / "a")
        Journal(run.folder).add(event("failed", case_id=B.id, reason="killed by SIGKILL"))
        result = invoke(run.folder)
        assert result.exit_code == 4
        assert "MISSING" in result.stdout
        assert f"{B.id} is not valid: killed by SIGKILL" in result.stdout

    def test_the_table_names_case_ratio_and_verdict_and_how_to_read_it(self, tmp_path):
        shown = invoke(*two(tmp_path, 1.1)).stdout
        assert re.search(r"owt-torch-eager-cpu-fp32-b8-forward +1\.100 \[1\.\d+, 1\.\d+\] +SLOWER", shown)
        assert "candidate over base" in shown
        assert "SLOWER: the interval is above 1.020, FASTER: below 0.980." in shown

    def test_where_runs_cannot_be_told_apart_the_command_that_helps_is_named(self, tmp_path):
        shown = invoke(*two(tmp_path, stored=0)).stdout
        assert "alexnet-bench run --ab slowdown=0,0 --variant owt --framework torch --batch 8 --pass forward" in shown

    def test_the_command_that_helps_measures_under_the_same_settings(self, tmp_path):
        fast = dataclasses.replace(A, variant="tutorial", lrn="fast", layout="channels_last", threads=1)
        run = make(tmp_path / "r", [fast])
        said = reproduce.against_itself(run)
        assert "--batch 8 --pass forward --layout channels_last --threads 1 --lrn fast --rounds 5" in said

    def test_a_name_in_markdown_is_no_mention_and_no_link(self):
        harmless = markdown.escape("@everyone #12 https://a.b www.a.b o/r#1 [x](javascript:y)").replace("&#8203;", "")
        assert harmless == r"@everyone #12 https://a.b www.a.b o/r#1 \[x\](javascript:y)"
        assert markdown.escape("@a #1 b://c www.d").count("&#8203;") == 4

    def test_a_name_in_markdown_sets_no_type_no_formula_and_no_direction(self):
        escaped = markdown.escape("*a* ~~b~~ $c$ _d_ __e__ half_width \x9b2J\u202ex\u200by")
        assert escaped == (r"\*a\* \~\~b\~\~ <span>\$</span>c<span>\$</span> \_d\_ \_\_e\_\_ half_width  2J x y")

    def test_what_was_left_out_is_said_on_stderr_and_the_rest_is_compared(self, tmp_path):
        path = make(tmp_path / "a").folder / "run.jsonl"
        first, rest = path.read_text().split("\n", 1)
        path.write_text(f"{first}\nnot json\n{rest}")
        result = invoke(tmp_path / "a", "--json")
        assert result.exit_code == 1
        assert result.stderr.startswith(f"alexnet-bench: {path}, line 2: not a JSON object")
        assert words_of(result) == ["SLOWER"]

    def test_markdown_puts_what_is_slower_first(self, tmp_path):
        cases = (A, TRAINING)
        aa_runs(tmp_path, 3, *cases, sd=0.002)
        make(tmp_path / "base", cases, slower=1.0, **BIG)
        make(tmp_path / "new", cases, slower={TRAINING.id: 1.2}, **BIG)
        result = invoke(tmp_path / "base", tmp_path / "new", "--markdown")
        assert result.exit_code == 1
        rows = [line for line in result.stdout.splitlines() if line.startswith("| ")]
        assert [("SLOWER" in row, "SAME" in row) for row in rows[1:]] == [(True, False), (False, True)]
        assert result.stdout.startswith("**1 SLOWER, 1 SAME**: new over base\n")

    def test_markdown_survives_hostile_names(self, tmp_path):
        evil = "a|b`c<script>alert(1)</script>\n| d\r![x](http://x)"
        ab = Ab("env:X", (evil, evil))
        both = arms(A, ab=ab)
        folder = tmp_path / "a`|b"
        make(folder, both, ab=ab, fingerprint=HOST | {"cpu": evil}, unlike={"versions": {"torch": evil}}, rounds=4)
        shown = invoke(folder, "--markdown").stdout
        rows = [line for line in shown.splitlines() if line.startswith("|")]
        assert len(rows) == 3  # two of the heading, one pair
        assert all(len(re.findall(r"(?<!\\)\|", row)) == 6 for row in rows)
        assert "<" not in shown
        assert "`" not in shown.replace("`finds`", "")
        assert "![" not in shown


def test_arms_that_differ_in_their_id_are_named_by_what_they_share(tmp_path):
    ab = Ab("threads", ("1", "2"))
    make(tmp_path / "run", arms(A, ab=ab), ab=ab, unlike={"threads": 1})
    shown = invoke(tmp_path / "run").stdout
    assert "owt-torch-eager-cpu-fp32-b8-forward " in shown
    assert "-t2" not in shown
