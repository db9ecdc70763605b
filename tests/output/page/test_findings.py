"""Findings of a Run: the verdict, the sentences and the cautions at the top of the report."""

import dataclasses
import re

import pytest
import teams
from pages import REFERENCE, Page, by_id, cautions_of, findings_of, foreign_run, page_of
from runs import AA, A, B, aa_runs, arms, changed, make

from bench.cases.arm import Ab
from bench.cases.protocol import CLASSIC
from bench.machine import noise
from bench.output import console, run_notes
from bench.output.page import chapter, findings, table, table_conditions
from bench.output.results_table import results_of
from bench.record import pairs
from bench.record.run import Run

pytestmark = pytest.mark.usefixtures("quick_plots")


class TestVerdict:
    def test_the_verdict_comes_first_in_a_runs_chapter(self):
        text = page_of(Run(REFERENCE / "cpu-2-cores")).text()
        assert re.search(
            r"cpu-2-cores FASTER ?tensorflow graph runs the forward pass of tutorial at batch 8 in 0\.521 \[0\.475, "
            r"0\.572\] of torch eager’s time \(95 % interval over 5 Rounds\)\. The whole interval is below 1",
            text,
        )
        assert text.index("0.521 [0.475, 0.572]") < text.index("Results")

    def test_a_candidate_that_takes_longer_takes_so_many_times_as_long(self, tmp_path):
        (found,) = findings_of(make(tmp_path / "r"))
        assert found.word == "SLOWER"
        assert found.text == (
            "tensorflow graph runs the forward pass of owt at batch 8 in 1.500 [1.500, 1.500] times torch eager’s time "
            "(95 % interval over 5 Rounds)."
        )

    def test_the_verdict_of_two_arms_names_their_difference(self):
        (found,) = findings_of(Run(REFERENCE / "slowdown-5-percent"))
        assert found.word == "SLOWER"
        assert found.text.startswith("B (slowdown 5 %) takes 1.066 [1.051, 1.081] times the time of A (slowdown 0 %)")

    def test_two_equal_arms_are_said_to_be_equal(self, tmp_path):
        (found,) = findings_of(make(tmp_path / "r", arms(A), ab=AA, slower=1.0))
        assert found.word == "SAME"
        assert "Both sides are the same" in found.because

    def test_an_inconclusive_verdict_says_why(self, tmp_path):
        (found,) = findings_of(make(tmp_path / "r", slower=1.02, noise_sd=0.3))
        assert (found.word, found.because[:12]) == ("INCONCLUSIVE", "Not decided:")

    def test_two_rounds_have_no_interval(self, tmp_path):
        (found,) = findings_of(make(tmp_path / "r", rounds=2))
        assert "(2 Rounds: too few for an interval)" in found.text

    def test_different_conditions_give_no_verdict(self, tmp_path):
        made = make(tmp_path / "r", unlike={"threads": 1})
        (found,) = findings_of(made)
        assert found.word == "INCOMPARABLE"
        assert "conditions differ: threads 1, 2 in the baseline" in found.because
        assert run_notes.conditions(made, pairs.within(made)).startswith("Not equal: 1 of 1 comparisons differ")
        assert "INCOMPARABLE: 1.500 [1.500, 1.500]" in page_of(made).text("td")

    @pytest.mark.parametrize("key", ["python", "net", "env:X", "slowdown"])
    def test_further_changes_of_an_arm_are_named(self, tmp_path, key):
        both, ab = [dataclasses.replace(A, arm=arm) for arm in "AB"], Ab(key, ("1", "2"))
        for unlike, told in (({"threads": 1, "tf32": True}, "changed"), ({}, "equal")):
            made = make(tmp_path / told, both, ab=ab, unlike=unlike)
            text = run_notes.conditions(made, pairs.within(made))
            if told == "changed":
                assert text == (
                    "Not held equal: what the two sides are compared by also changed: threads 1, 2 in the baseline; "
                    "TF32 on, off in the baseline."
                )
            else:
                assert text.startswith("Equal, but for what the two sides differ in: both sides of the comparison had")

    def test_a_variable_that_one_side_lacks_is_unequal(self, tmp_path):
        ab = Ab("env:OMP_WAIT_POLICY", ("", "ACTIVE"))
        made = make(tmp_path / "r", arms(A, ab=ab), ab=ab)
        found = table_conditions.table(made, by_id(made))
        cells = [cell.text for row in found.rows for cell in row if row[0].text == "environment"]
        assert cells == ["environment", "unequal", "without OMP_WAIT_POLICY", "OMP_WAIT_POLICY=ACTIVE"]
        assert table_conditions.compare_values("environment", ["", "A=1"]) == "unequal"

    def test_a_switch_that_one_framework_does_not_have_is_no_difference(self, tmp_path):
        made = make(tmp_path / "r", unlike={"onednn": None})
        found = table_conditions.table(made, by_id(made))
        assert [row[1].text for row in found.rows if row[0].text in ("oneDNN", "TF32")] == [
            "equal where known",
            "equal",
        ]

    def test_a_margin_is_that_of_the_gate(self, tmp_path):
        run = make(tmp_path / "r", slower=1.03)
        assert "SLOWERtensorflow graph" in page_of(run).text()
        text = Page(chapter.render_page([run], 0.05)).text()
        assert "SAMEtensorflow graph" in text
        assert "The whole interval is within the margin of 5 %." in text
        assert "SLOWER: the interval is above 1.050" in text

    def test_a_margin_from_an_aa_run_is_named_as_such(self, tmp_path):
        aa_runs(tmp_path, 1, off=0.06)
        run = make(tmp_path / "r", arms(A), ab=AA, slower=1.04, base_ns=10**6)
        text = page_of(run).text()
        assert "The whole interval is within the margin of 6 %." in text
        assert "above +6.0%, the largest ratio of its A/A Runs." in text

    def test_one_framework_has_its_time_and_why_there_is_no_ratio(self, tmp_path):
        time, why = findings_of(make(tmp_path / "r", [A], base_ns=2_000_000))
        assert time.text.startswith("torch eager runs the forward pass of owt at batch 8 in 2 [2, 2] ms (95 % interval")
        assert why.text.startswith("No ratio: there is one framework, in one mode.")

    def test_the_classic_protocol_says_why_it_has_no_ratio(self, tmp_path):
        *times, why = findings_of(make(tmp_path / "r", rounds=1, protocol=CLASSIC))
        assert "mean ± stddev of" in times[0].text
        assert "one framework runs after the other" in why.text

    def test_a_run_of_another_program_says_so(self, tmp_path):
        time, why = findings_of(foreign_run(tmp_path))
        assert time.text.startswith("test_b takes 0.001001 [0.0009985, 0.001003] ms (95 % interval")
        assert why.text.startswith("No ratio: another program measured this")

    def test_only_the_extreme_of_many_comparisons_have_a_sentence(self, tmp_path):
        cases = [dataclasses.replace(case, batch=batch) for batch in (1, 2, 4, 8, 16, 32, 64) for case in (A, B)]
        slower = {case.id: 1.2 if case.batch < 64 else 3.0 for case in cases if case.framework == "tensorflow"}
        first, rest = findings_of(make(tmp_path / "r", cases, slower=slower))
        assert "at batch 64 in 3.000" in first.text
        assert rest.text == (
            "In the table of results: 6 more comparisons; above is only the most extreme one per pass and baseline."
        )

    def test_interruptions_and_failures_are_cautions(self, tmp_path):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 1.0, "foreign_s": 0.0, "psi_s": 0.0})
        broken = changed(made, {"event": "failed", "case_id": B.id, "reason": "it fell over"}, without=("end",))
        text = cautions_of(broken)
        assert "Interrupted: this Run is not finished; it has 5 of 5 Rounds" in text
        assert "`alexnet-bench run --resume r` continues it." in text
        assert "No valid row for tensorflow graph, forward of owt at batch 8: it fell over." in text
        assert re.search(r"Noise, in 1 of 1 row: More than .* At worst \d+\.\d % stolen\.", text)

    def test_a_caution_on_noise_names_what_was_above_its_limit(self, tmp_path):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 0.1, "foreign_s": 9.0, "psi_s": 0.0, "cores": 2})
        assert re.search(r" At worst \d+\.\d % used by others\.", cautions_of(made))

    def test_cautions_state_the_limits_of_noise_in_force(self, tmp_path):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 9.0, "foreign_s": 0.0, "psi_s": 0.0})
        limits = f"More than {noise.NOISY['steal_pct']:g} % of the CPU was stolen by other virtual machines, "
        limits += f"{noise.NOISY['foreign_cpu_pct']:g} % used by others, or {noise.NOISY['quota_pct']:g} % lost to a"
        assert limits in cautions_of(made)

    def test_lines_that_were_left_out_are_named_without_their_folder(self, tmp_path):
        made = make(tmp_path / "r")
        with (made.folder / "run.jsonl").open("a") as file:
            file.write("?\n" * 7)
        broken = Run(made.folder)
        first = len(broken.events) + 1
        text = page_of(broken).text()
        assert f"run.jsonl, line {first}: not a JSON object" in text
        assert "run.jsonl: 2 more lines left out" in text
        assert str(tmp_path) not in text

    def test_a_single_further_line_is_counted_as_one(self, tmp_path):
        file = make(tmp_path / "r").folder / "run.jsonl"
        file.write_text(file.read_text() + "?\n" * 6)
        assert console.problem_lines(Run(file.parent))[-1] == f"{file}: 1 more line left out"

    def test_a_case_that_failed_is_said_with_the_verdict(self, tmp_path):
        third = dataclasses.replace(A, framework="jax", mode="jit")
        made = make(tmp_path / "r", [A, B, third])
        assert not any(finding.failed for finding in findings_of(made))
        broken = changed(made, {"event": "failed", "case_id": third.id, "reason": "it fell over"})
        assert [(finding.word, finding.failed) for finding in findings_of(broken)[:2]] == [
            ("SLOWER", False),
            (None, True),
        ]
        assert findings_of(broken)[1].text == "1 of 3 cases has no valid row; “Before you quote it” says why."
        found = table.results(results_of(broken, pairs.within(broken)))
        assert {len(row) for row in found.rows} == {len(found.columns)}
        assert [found.rows[2][at].text for at in (2, -1)] == ["failed", "it fell over"]
        assert found.columns[-1].long
        assert "FAILED" in Page(chapter.render_page([broken, make(tmp_path / "s")])).text("nav", "li", "span")

    def test_a_case_not_started_has_not_failed(self, tmp_path):
        made = make(tmp_path / "r")
        rows = {id_: row | {"valid": False, "invalid_reason": "not measured"} for id_, row in by_id(made).items()}
        assert not list(findings.find_failures(rows))

    def test_a_run_without_a_valid_row_has_nothing_to_quote(self, tmp_path):
        made = make(tmp_path / "r", [A])
        broken = changed(made, {"event": "failed", "case_id": A.id, "reason": "it fell over"})
        assert findings_of(broken)[0].text.startswith("Nothing of this Run can be quoted")
        assert "failed" in page_of(broken).text("td")
        assert "it fell over" in page_of(broken).text("td")


def test_of_several_devices_the_efficiency_comes_first(tmp_path):
    run = teams.make(tmp_path / "run")
    first, second, *_ = (found.text for found in findings_of(run))
    case = run.cases[0]
    work = f"the forward pass of {case.variant} at batch {case.batch}"
    assert first == (
        f"torch eager 2 devices run {work} at 1,600 images/s, 100% [100%, 100%] of the ideal, 2 times one device."
    )
    assert "75% [75%, 75%] of the ideal" in second
