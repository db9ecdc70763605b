"""`report`: what the page says, that no text of a file becomes an element of it, and that it needs nothing else."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from hostile import HOSTILE, run_that_says
from paths import ROOT
from runs import AA, HOST, QUIET, A, B, aa_runs, arms, changed, make, worker

from bench import UsageError
from bench.cases.arm import Ab
from bench.cases.axes import Axes
from bench.cases.case import Case
from bench.cases.protocol import CLASSIC, Protocol
from bench.commands import report
from bench.commands.cli import main
from bench.commands.profile import RULES
from bench.commands.requests import ReportRequest
from bench.machine import noise
from bench.output import run_notes
from bench.output.page import chapter, figures, findings, svg, table, table_conditions, template
from bench.output.plots import kinds, series, style, times
from bench.output.results_table import results_of
from bench.record import pairs
from bench.record.run import Run
from impls import FRAMEWORKS
from impls.variants import variant_named

REFERENCE = ROOT / "results/reference"
DRAWN = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" viewBox="0 0 72 72"><path id="p" d="M 0 0 L 9 9"/></svg>'
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes, its text by element, and what is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text(self, *tags: str) -> str:
        """Of these elements, or of all but style and script, with plain spaces."""
        kept = [data for tag, data in self.texts if (tag in tags if tags else tag not in ("style", "script"))]
        return " ".join("".join(kept).replace("\u00a0", " ").split())


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """A plot that costs nothing in place of each, but for a test that asks for real ones."""
    if "real_plots" not in request.fixturenames:
        for name in kinds.KINDS:
            monkeypatch.setattr(f"bench.output.plots.{name}.draw_files", lambda paths, target: target.write_text(DRAWN))


@pytest.fixture
def real_plots():
    """Named by a test that draws."""


def shown(*runs: Run) -> Page:
    return Page(chapter.render_page(runs))


def by_id(run: Run) -> dict:
    return {row["case_id"]: row for row in run.rows()}


def said(run: Run) -> list[findings.Finding]:
    return findings.list_findings(run, by_id(run), pairs.within(run))


def cautions(run: Run) -> str:
    return " ".join(findings.cautions(run, by_id(run), pairs.within(run)))


class TestVerdict:
    def test_it_is_the_first_thing_the_page_says_of_a_run(self):
        text = shown(Run(REFERENCE / "cpu-2-cores")).text()
        assert re.search(
            r"cpu-2-cores FASTER ?tensorflow graph runs the forward pass of tutorial at batch 8 in 0\.521 \[0\.475, "
            r"0\.572\] of torch eager’s time \(95 % interval over 5 Rounds\)\. The whole interval is below 1",
            text,
        )
        assert text.index("0.521 [0.475, 0.572]") < text.index("Results")

    def test_a_candidate_that_takes_longer_takes_so_many_times_as_long(self, tmp_path):
        (found,) = said(make(tmp_path / "r"))
        assert found.word == "SLOWER"
        assert found.text == (
            "tensorflow graph runs the forward pass of owt at batch 8 in 1.500 [1.500, 1.500] times torch eager’s time "
            "(95 % interval over 5 Rounds)."
        )

    def test_of_two_arms_it_names_what_they_differ_in(self):
        (found,) = said(Run(REFERENCE / "slowdown-5-percent"))
        assert found.word == "SLOWER"
        assert found.text.startswith("B (slowdown 5 %) takes 1.066 [1.051, 1.081] times the time of A (slowdown 0 %)")

    def test_two_equal_arms_are_said_to_be_equal(self, tmp_path):
        (found,) = said(make(tmp_path / "r", arms(A), ab=AA, slower=1.0))
        assert found.word == "SAME"
        assert "Both sides are the same" in found.because

    def test_what_is_not_decided_says_why(self, tmp_path):
        (found,) = said(make(tmp_path / "r", slower=1.02, noise_sd=0.3))
        assert (found.word, found.because[:12]) == ("INCONCLUSIVE", "Not decided:")

    def test_two_rounds_have_no_interval(self, tmp_path):
        (found,) = said(make(tmp_path / "r", rounds=2))
        assert "(2 Rounds: too few for an interval)" in found.text

    def test_of_unlike_conditions_nothing_is_judged(self, tmp_path):
        made = make(tmp_path / "r", unlike={"threads": 1})
        (found,) = said(made)
        assert found.word == "INCOMPARABLE"
        assert "conditions differ: threads 1, 2 in the baseline" in found.because
        assert run_notes.conditions(made, pairs.within(made)).startswith("Not equal: 1 of 1 comparisons differ")
        assert "INCOMPARABLE: 1.500 [1.500, 1.500]" in shown(made).text("td")

    @pytest.mark.parametrize("key", ["python", "net", "env:X", "slowdown"])
    def test_what_two_sides_are_compared_by_may_have_changed_more_and_that_is_said(self, tmp_path, key):
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
        assert "SLOWERtensorflow graph" in shown(run).text()
        text = Page(chapter.render_page([run], 0.05)).text()
        assert "SAMEtensorflow graph" in text
        assert "The whole interval is within the margin of 5 %." in text
        assert "SLOWER: the interval is above 1.050" in text

    def test_a_margin_that_an_aa_run_beside_gave_is_said_to_be_one(self, tmp_path):
        aa_runs(tmp_path, 1, off=0.06)
        run = make(tmp_path / "r", arms(A), ab=AA, slower=1.04, base_ns=10**6)
        text = shown(run).text()
        assert "The whole interval is within the margin of 6 %." in text
        assert "above +6.0%, the largest ratio of its A/A Runs." in text

    def test_one_framework_has_its_time_and_why_there_is_no_ratio(self, tmp_path):
        time, why = said(make(tmp_path / "r", [A], base_ns=2_000_000))
        assert time.text.startswith("torch eager runs the forward pass of owt at batch 8 in 2 [2, 2] ms (95 % interval")
        assert why.text.startswith("No ratio: there is one framework, in one mode.")

    def test_the_classic_protocol_says_why_it_has_no_ratio(self, tmp_path):
        *times, why = said(make(tmp_path / "r", rounds=1, protocol=CLASSIC))
        assert "mean ± stddev of" in times[0].text
        assert "one framework runs after the other" in why.text

    def test_a_run_of_another_program_says_so(self, tmp_path):
        time, why = said(foreign(tmp_path))
        assert time.text.startswith("test_b takes 0.001001 [0.0009985, 0.001003] ms (95 % interval")
        assert why.text.startswith("No ratio: another program measured this")

    def test_of_many_comparisons_those_that_matter_have_a_sentence(self, tmp_path):
        cases = [dataclasses.replace(case, batch=batch) for batch in (1, 2, 4, 8, 16, 32, 64) for case in (A, B)]
        slower = {case.id: 1.2 if case.batch < 64 else 3.0 for case in cases if case.framework == "tensorflow"}
        first, rest = said(make(tmp_path / "r", cases, slower=slower))
        assert "at batch 64 in 3.000" in first.text
        assert rest.text == (
            "6 more comparisons are in the table of results; above is only the most extreme one per pass and baseline."
        )

    def test_what_must_be_known_beside_it_is_said(self, tmp_path):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 1.0, "foreign_s": 0.0, "psi_s": 0.0})
        broken = changed(made, {"event": "failed", "case_id": B.id, "reason": "it fell over"}, without=("end",))
        text = cautions(broken)
        assert "Interrupted: this Run is not finished; it has 5 of 5 Rounds" in text
        assert "`alexnet-bench run --resume r` continues it." in text
        assert "No valid row for tensorflow graph, forward of owt at batch 8: it fell over." in text
        assert re.search(r"Noise: 1 of 1 rows is noisy .*; at worst \d+\.\d % was stolen", text)

    def test_the_limits_of_noise_are_those_that_were_held_to(self, tmp_path, monkeypatch):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 9.0, "foreign_s": 0.0, "psi_s": 0.0})
        monkeypatch.setitem(noise.NOISY, "steal_pct", 7.5)
        assert "noisy (more than 7.5 % of the CPU stolen, or 5 % used by others)" in cautions(made)

    def test_lines_that_were_left_out_are_named_without_their_folder(self, tmp_path):
        made = make(tmp_path / "r")
        with (made.folder / "run.jsonl").open("a") as file:
            file.write("?\n" * 7)
        broken = Run(made.folder)
        first = len(broken.events) + 1
        text = shown(broken).text()
        assert f"run.jsonl, line {first}: not a JSON object" in text
        assert "run.jsonl: 2 more lines left out" in text
        assert str(tmp_path) not in text

    def test_a_case_that_failed_is_said_with_the_verdict(self, tmp_path):
        third = dataclasses.replace(A, framework="jax", mode="jit")
        made = make(tmp_path / "r", [A, B, third])
        assert "FAILED" not in [one.word for one in said(made)]
        broken = changed(made, {"event": "failed", "case_id": third.id, "reason": "it fell over"})
        assert [one.word for one in said(broken)[:2]] == ["SLOWER", "FAILED"]
        assert said(broken)[1].text == "1 of 3 cases has no valid row; “Before you quote it” says why."
        found = table.results(results_of(broken, pairs.within(broken)))
        assert {len(row) for row in found.rows} == {len(found.columns)}
        assert [found.rows[2][at].text for at in (2, -1)] == ["failed", "it fell over"]
        assert found.columns[-1].long
        assert "FAILED" in Page(chapter.render_page([broken, make(tmp_path / "s")])).text("nav", "li", "span")

    def test_what_was_not_begun_has_not_failed(self, tmp_path):
        made = make(tmp_path / "r")
        rows = {id_: row | {"valid": False, "invalid_reason": "not measured"} for id_, row in by_id(made).items()}
        assert not list(findings.find_failures(rows))

    def test_a_run_without_a_valid_row_has_nothing_to_quote(self, tmp_path):
        made = make(tmp_path / "r", [A])
        broken = changed(made, {"event": "failed", "case_id": A.id, "reason": "it fell over"})
        assert said(broken)[0].text.startswith("Nothing of this Run can be quoted")
        assert "failed" in shown(broken).text("td")
        assert "it fell over" in shown(broken).text("td")


def foreign(folder: Path, name: str = "test_a.py::test_b", **changes) -> Run:
    """A Run that another program measured."""
    case = Case("net", "other", "call", "cpu", "unknown", "", 1, "call", foreign=name)
    case = dataclasses.replace(case, **changes)
    protocol = Protocol("ingested", rounds=3, burn_in=0, paired=False, gate=False)
    made = make(folder / "f", [A], rounds=3)
    events = [one for one in map(msgspec.to_builtins, made.events) if one["event"] not in ("worker", "block")]
    for one in events:
        if one["event"] == "run":
            one |= {"cases": [dataclasses.asdict(case)], "protocol": dataclasses.asdict(protocol)}
            one["ingested"] = {"source": "pytest-benchmark 5", "taken": ["", "", ""]}
        if one["event"] == "turn":
            one |= {"case_id": case.id, "cpu_s": None}
    (made.folder / "run.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    return Run(made.folder)


class TestPage:
    def test_every_part_is_there_in_order(self):
        found = shown(Run(REFERENCE / "cpu-2-cores"))
        names = "Results Plots Layers Conditions Noise Reproduce Raw data".split(" ", 6)
        assert [data for tag, data in found.texts if tag == "h3"] == names
        assert not found.open

    def test_every_id_is_its_own_and_every_reference_has_one(self, tmp_path):
        found = shown(make(tmp_path / "a"), make(tmp_path / "b"))
        ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        wanted = [attrs["href"][1:] for attrs in found.all("a") if attrs["href"].startswith("#")]
        wanted += [id_ for _, attrs in found.elements for id_ in attrs.get("aria-labelledby", "").split()]
        assert set(wanted) <= set(ids)
        assert {"run1", "run2", "run1-times-p", "run2-times-p"} <= set(ids)

    def test_nothing_is_loaded_from_elsewhere(self):
        found = shown(Run(REFERENCE / "cpu-2-cores"))
        for _, attrs in found.elements:
            for name in ("src", "href", "action", "srcset", "poster", "xlink:href"):
                assert re.match(r"#|data:application/gzip;base64,|data:image/png;base64,|$", attrs.get(name) or "")
        assert not re.search(
            r"url\(\s*['\"]?(?!#)|@import", "".join(data for tag, data in found.texts if tag == "style")
        )

    def test_only_its_own_script_may_run(self, tmp_path):
        found = shown(make(tmp_path / "r"))
        (script,) = [data for tag, data in found.texts if tag == "script"]
        policy = next(one["content"] for one in found.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{hashed}';" in policy

    def test_the_same_run_gives_the_same_page(self, tmp_path):
        run = make(tmp_path / "r")
        assert chapter.render_page([run]) == chapter.render_page([Run(run.folder)])

    def test_real_plots_come_out_the_same_twice(self, tmp_path, monkeypatch, real_plots):
        few = {kind: kinds.KINDS[kind] for kind in ("times", "series")}
        monkeypatch.setattr(kinds, "KINDS", few)
        run = make(tmp_path / "r", base_ns=10**6, noise_sd=0.01)
        rows = by_id(run)
        first, second = figures.draw_figures(run, rows, "a"), figures.draw_figures(run, rows, "a")
        assert first == second
        assert [one.kind for one in first if one.markup] == ["times", "series"]

    def test_a_sortable_cell_holds_its_whole_value(self, tmp_path):
        found = shown(make(tmp_path / "r", base_ns=1_234_567))
        values = [float(attrs["data-value"]) for attrs in found.all("td") if "data-value" in attrs]
        assert any(abs(value - 1.234569) < 1e-9 for value in values)

    def test_the_folder_of_the_run_is_left_as_it_is(self, tmp_path):
        run = make(tmp_path / "r")
        chapter.render_page([run])
        assert [path.name for path in run.folder.iterdir()] == ["run.jsonl"]

    def test_a_plot_that_cannot_be_drawn_says_why(self, tmp_path, monkeypatch):
        def refuse(paths, target):
            raise UsageError(f"{paths[0]}: nothing there")

        monkeypatch.setattr(series, "draw_files", refuse)
        text = shown(make(tmp_path / "r")).text()
        assert "Series not drawn: r: nothing there." in text
        assert "Roofline not drawn: this Run has no ceiling, so there is no roof." in text
        assert "Throughput not drawn: there is one batch;" in text
        assert "Layers by time not drawn: this Run is no profile;" in text

    def test_a_fault_of_ours_is_no_plot_that_was_not_drawn(self, tmp_path, monkeypatch):
        monkeypatch.setattr(series, "draw_files", lambda paths, target: int("a bug"))
        with pytest.raises(ValueError, match="a bug"):
            chapter.render_page([make(tmp_path / "r")])

    def test_a_text_that_matplotlib_cannot_set_is_a_plot_that_was_not_drawn(self, tmp_path, monkeypatch):
        def formula(paths, target):
            with style.figure(2, 2, target) as figure:
                figure.text(0, 0, r"$\frac$")
                style.settle(figure)

        monkeypatch.setattr(series, "draw_files", formula)
        assert (
            "Series not drawn: a text in it looks like a formula but is not one." in shown(make(tmp_path / "r")).text()
        )

    def test_a_plot_is_drawn_from_tables_that_the_run_gives(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(times, "draw_files", lambda paths, target: seen.extend(paths[0].iterdir()))
        chapter.render_page([make(tmp_path / "r")])
        assert sorted(path.name for path in seen) == ["layers.csv", "samples.csv", "summary.csv"]

    @pytest.mark.process
    def test_plots_of_many_samples_are_drawn_in_two_processes_and_are_the_same(self, tmp_path):
        run = make(tmp_path / "r")
        code = f"""
from pathlib import Path
from bench.output.page import chapter
from bench.output.page import figures
from bench.record.run import Run
made, pool = [], figures.ProcessPoolExecutor
figures.MANY, figures.ProcessPoolExecutor = 1, lambda *how: made.append(how) or pool(*how)
print(hash(chapter.render_page([Run(Path({str(run.folder)!r}))])), len(made))
figures.MANY = 10**9
print(hash(chapter.render_page([Run(Path({str(run.folder)!r}))])), len(made))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        first, second = done.stdout.splitlines()
        assert first == second, done.stderr
        assert first.endswith(" 1")

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
    def test_where_a_thread_runs_nothing_is_forked(self, monkeypatch):
        monkeypatch.setattr(threading, "active_count", lambda: 1)
        for it in (it for it in FRAMEWORKS.values() if it.peer):
            monkeypatch.delitem(sys.modules, it.package, raising=False)
        assert figures.may_fork()
        monkeypatch.setitem(sys.modules, "jax", sys)
        assert not figures.may_fork()
        monkeypatch.delitem(sys.modules, "jax")
        monkeypatch.setattr(threading, "active_count", lambda: 2)
        assert not figures.may_fork()

    def test_memory_and_first_calls_are_there_as_far_as_they_are_known(self, tmp_path):
        unlike = {"first_call_ns": {"forward": 5_000_000}, "compile_cache": "cold"}
        made = make(tmp_path / "r", [A, dataclasses.replace(B, mode="xla")], unlike=unlike)
        found = table.memory(made, by_id(made))
        names = [column.name for column in found.columns]
        assert names == [
            *("pass", "framework", "process memory MiB", "first call ms", "first call, later Rounds ms"),
            *("cores used", "harness adds µs", "compile cache"),
        ]
        assert [[cell.text for cell in row[2:5]] for row in found.rows] == [["1", "", ""], ["1", "5", "5"]]
        assert [row[-1].text for row in found.rows] == ["", "5 × cold"]
        assert "1––" in shown(made).text("td")
        assert "Memory and first calls" in shown(made).text("h4")

    def test_what_else_speaks_for_a_row_is_shown(self, tmp_path):
        low, place = dataclasses.replace(A, precision="bf16"), {"group": 0, "round": 0, "attempt": 0}
        proof = {"parity_fp32": {"logits": 3e-6}, "gradients": {"parameters": 16, "others": 0, "finite": True}}
        sync = {"iterations": 1, "copy_ns": 40_000, "allowed_ns": 2_000_000}
        burn_in = {"start_ns": [1], "ns": [1], "stop": "cap", "steady_at": None, "sync": sync, "spin_ns": 0}
        control = {"control_cpu_ns": 1, "control_mem_ns": 1, "mhz": 2300.0, "temp_c": None}
        made = changed(
            make(tmp_path / "r", [low]),
            {"event": "worker", **place, **worker(low, **proof, switches={"flush_denormal": True})},
            {"event": "burn_in", **place, "case_id": low.id, **burn_in},
            *({"event": "control", **place, **control, "load1": load} for load in (1.02, 0.51)),
            without=("worker",),
        )
        facts = {row[0].text: row[-1].text for row in table_conditions.table(made, by_id(made)).rows}
        assert facts["the same net in fp32: logits"] == "3.0e-06"
        assert facts["gradients"] == "16 of parameters, 0 others"
        assert facts["copy after wait"] == "0.04 ms, allowed 2"
        assert facts["its own switches"] == "flush_denormal True"
        said = [("load around the turns", "0.5 to 1.0"), ("CPU MHz around the turns", "2300.0")]
        assert table_conditions.machine(made)[-2:] == said

    def test_the_machine_is_told_in_words_and_rounded(self, tmp_path):
        known = HOST | {"load_1min": 1.50048828125, "alexnet_bench": "0.1.0", "gpu_driver": None}
        said = table_conditions.machine(make(tmp_path / "r", fingerprint=known))
        assert {("memory MiB", "2048"), ("load, 1 minute", "1.5"), ("alexnet-bench", "0.1.0")} <= set(said)
        assert "gpu driver" not in dict(said)

    def test_a_ratio_breaks_before_its_interval_alone(self, tmp_path):
        page = chapter.render_page([make(tmp_path / "r")])
        assert re.search(r'<td class="number parted" data-value="[\d.]+">1\.500 \[1\.500,\u00a01\.500\]</td>', page)

    def test_where_nothing_is_known_of_memory_there_is_no_table(self, tmp_path):
        made = make(tmp_path / "r", [A])
        bare = {id_: row | dict.fromkeys(table.BESIDE_TIME) for id_, row in by_id(made).items()}
        assert table.memory(made, bare) is None

    def test_noise_has_what_a_gpu_showed(self, tmp_path):
        made = make(tmp_path / "r", noise=QUIET | {"sm_mhz": 1410, "temp_c": 61, "watts": 301.5})
        found = table.noises(made, by_id(made))
        names = [column.name for column in found.columns]
        at = names.index("lowest GPU clock MHz")
        assert names[at : at + 3] == ["lowest GPU clock MHz", "highest GPU temperature °C", "mean GPU power W"]
        assert [cell.text for cell in found.rows[0][at : at + 3]] == ["1,410", "61", "301.5"]
        assert "GPU" not in shown(make(tmp_path / "cpu")).text("th")

    def test_published_timings_stand_in_words_where_their_chart_does(self, tmp_path, monkeypatch):
        text = shown(make(tmp_path / "r")).text()
        assert "Published timings with a number" in text
        row = "1owtTitan Blackcuda-convnet2 (Torch)fp321281,455465.52014-12-19soumith/convnet-benchmarks:"
        assert f"{row}README.md@7aa9cf9no dropout or softmax; i7-3930K host" in text
        both = shown(make(tmp_path / "a"), make(tmp_path / "b"))
        assert both.text().count("Published timings with a number") == 1
        assert "A decade not drawn: this page has it once, with the times of a." in both.text()
        assert [one["id"] for one in both.all("figure") if "history" in one["id"]] == ["run1-history-figure"]
        monkeypatch.delitem(kinds.KINDS, "history")
        assert "Published timings" not in shown(make(tmp_path / "without")).text()

    def test_a_profile_has_its_rows_by_time(self, tmp_path):
        names = ["half_width", *(part.name for part in variant_named("half_width").parts()[:2])]
        axes = {"modes": {"torch": ["eager"]}, "layouts": {"torch": ["nchw"]}, "devices": ["cpu"]}
        cases = Axes(
            variants=names, **axes, precisions=["fp32"], batches=[2], passes=["forward", "forward_backward"]
        ).cases()
        made = make(tmp_path / "r", cases, rounds=3, protocol=dataclasses.replace(RULES, rounds=3), slower=2.0)
        text = shown(made).text()
        assert "The whole Run, with its ratios:" in text
        assert "half_width, batch 2, cpu, fp32: torch eager, nchw, row by row" in text
        assert "alexnet-bench profile --variant half_width --framework torch --batch 2 --rounds 3" in text
        assert not re.search(r"half_width\.conv1", text)

    def test_a_line_is_said_to_measure_what_it_does(self, tmp_path, monkeypatch):
        monkeypatch.setattr(figures, "draw_figures", lambda *of: [])

        def lines(run: Run) -> str:
            return shown(run).text().rpartition("Reproduce")[2]

        alone = "a time alone, since a ratio needs both sides in one Run"
        ab = make(tmp_path / "ab", arms(A), ab=AA)
        assert "The whole Run, with its ratios:" in lines(ab)
        assert "Row by row" not in lines(ab)  # the same line again
        both = [dataclasses.replace(A, arm=arm, batch=batch) for batch in (1, 8) for arm in "AB"]
        corner = [dataclasses.replace(one, pass_="forward_backward") for one in both[:2]]
        said = lines(make(tmp_path / "corner", [*both, *corner], ab=AA))
        assert "Row by row, each with its other side, so with its ratio:" in said
        assert said.count("alexnet-bench run") == 3
        theirs = {"file": "x.py", "function": "build", "sha256": "0", "label": "mine", "arm": None}
        said = lines(make(tmp_path / "guest", [A, dataclasses.replace(A, guest="mine")], guests=[theirs]))
        assert "Row by row: a user’s own net together with ours, so with its ratio; for ours a time alone," in said
        assert f"{alone}:" in said
        assert "PATH is a placeholder: Runs do not store folders." in said
        said = lines(make(tmp_path / "env", env={"PYTHONPATH": "/x", "A": "PATH/y"}))
        assert f"Row by row; {alone}:" in said
        assert "PATH stands" not in said

    def test_what_a_framework_reports_otherwise_is_shown(self, tmp_path):
        row = {"variant": "owt", "layer": "conv1", "kind": "conv", "height": 55, "width": 55, "channels": 64}
        row |= {"params": 1, "state": 0, "macs": 2, "framework": "jax"}
        reported = {"height": 54, "width": 55, "channels": 64, "params": 1, "state": 0}
        row |= {f"reported_{name}": number for name, number in reported.items()}
        made = changed(make(tmp_path / "r"), {"event": "layers", "rows": [row]})
        assert "55 × 55 × 6412jax: height 54" in shown(made).text("td")


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_of_a_file_becomes_an_element(self, tmp_path, text):
        plain = shown(run_that_says(tmp_path / "plain", "harmless"), foreign(tmp_path / "1", "x"))
        theirs = foreign(tmp_path / "2", text, variant=text, framework=text, pass_=text)
        found = shown(run_that_says(tmp_path / "hostile", text), theirs)
        assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
        kept = [(set(attrs) - {"data-value"}) for _, attrs in found.elements]
        assert kept == [(set(attrs) - {"data-value"}) for _, attrs in plain.elements]
        assert text in found.text()

    def test_a_plot_keeps_nothing_that_runs_or_loads(self, tmp_path):
        (tmp_path / "x.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">'
            "<metadata>when</metadata><style>* { color: red }</style><script>a()</script>"
            '<a href="https://x"><path d="M 0 0"/></a><foreignObject/><!-- <script> -->'
            '<image xlink:href="https://x/y.png"/><image xlink:href="data:image/svg+xml,x"/>'
            '<image xlink:href="data:image/png;base64,AA=="/><use xlink:href="#m" onclick="a()"/>'
            '<path style="fill: url(https://x)" clip-path="url(#c)"/><text>a &lt;b&gt;</text></svg>'
        )
        markup, _ = svg.inline(tmp_path / "x.svg", "p", 'a "name" & <more>')
        found = Page(markup)
        assert [tag for tag, _ in found.elements] == "svg title image image image use path text".split()
        assert [attrs.get("href") for attrs in found.all("image")] == [None, None, "data:image/png;base64,AA=="]
        assert found.all("use") == [{"href": "#p-m"}]
        assert found.all("path") == [{"clip-path": "url(#p-c)"}]
        assert found.text("title", "text") == 'a "name" & <more>a <b>'

    def test_what_lies_on_paper_has_the_colours_of_the_page(self, tmp_path, real_plots):
        with style.figure(2, 2, tmp_path / "x.svg") as figure:
            panel = figure.subplots()
            panel.bar([0], [1], color=style.COLORS["torch"])
            style.grid(panel)
        markup, width = svg.inline(tmp_path / "x.svg", "p", "x")
        assert width == 192
        assert set(re.findall(r"var\(--\w+\)", markup)) >= {"var(--ink)", "var(--grid)", "var(--paper)"}
        assert style.COLORS["torch"].lower() in markup
        assert not re.search(f"{style.INK}|{style.PAPER}|{style.GRID}", markup, flags=re.IGNORECASE)

    def test_a_file_that_is_no_svg_says_so(self, tmp_path):
        (tmp_path / "x.svg").write_text("<html></html>")
        with pytest.raises(UsageError, match=r"x\.svg: expected an SVG, found <html>"):
            svg.inline(tmp_path / "x.svg", "p", "x")

    def test_prose_sets_code_and_holds_figures_together(self):
        assert template.prose("`make x` <i> `<i>`") == "<code>make x</code> &lt;i&gt; `&lt;i&gt;`"
        assert template.prose("5 % in 3 Rounds") == "5\u00a0% in 3\u00a0Rounds"
        assert template.prose("in 0.5 [0.4, 0.6] of") == "in 0.5\u00a0[0.4,\u00a00.6] of"


class TestFiles:
    def test_the_raw_data_comes_out_as_it_went_in(self, tmp_path):
        (tmp_path / "run.jsonl").write_bytes((REFERENCE / "cpu-2-cores/run.jsonl").read_bytes())
        run = Run(tmp_path)
        run.write()
        files = {one["download"]: one["href"] for one in shown(run).all("a") if "download" in one}
        assert list(files) == ["run.jsonl.gz", "summary.csv.gz"]
        for name, link in files.items():
            data = gzip.decompress(base64.b64decode(link.removeprefix("data:application/gzip;base64,")))
            assert data == (run.folder / name.removesuffix(".gz")).read_bytes()

    def test_files_of_two_runs_have_names_of_their_own(self, tmp_path):
        found = shown(make(tmp_path / "1/a b"), make(tmp_path / "2/a b"))
        names = [one["download"] for one in found.all("a") if "download" in one]
        assert names == [f"{number}-a-b-{file}.gz" for number in (1, 2) for file in ("run.jsonl", "summary.csv")]
        assert found.text("h2") == "a b (1)a b (2)"

    def test_a_table_has_nothing_that_a_spreadsheet_runs(self, tmp_path):
        formula = "=cmd|' /C calc'!A0"
        run = make(tmp_path / "r", fingerprint=HOST | {"cpu": formula})
        (link,) = [one["href"] for one in shown(run).all("a") if one.get("download") == "summary.csv.gz"]
        data = gzip.decompress(base64.b64decode(link.rpartition(",")[2])).decode()
        assert f",'{formula}," in data
        assert f",{formula}," not in data


class TestCommand:
    def test_it_is_written_into_the_run_and_says_where(self, tmp_path):
        run = make(tmp_path / "r")
        result = CliRunner().invoke(main, ["report", str(run.folder)])
        assert result.exit_code == 0, result.output
        assert f"wrote {run.folder / 'report.html'}" in result.stderr
        assert not Page((run.folder / "report.html").read_text()).open

    def test_without_a_run_it_takes_the_newest(self, tmp_path, monkeypatch):
        make(tmp_path / "results/20260101T000000Z-a"), make(tmp_path / "results/20260102T000000Z-b")
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(main, ["report", "--output", "x.html"])
        assert result.exit_code == 0, result.output
        assert "20260102T000000Z-b" in Path("x.html").read_text()

    def test_a_run_named_twice_is_one_chapter(self, tmp_path):
        run = make(tmp_path / "r")
        CliRunner().invoke(main, ["report", str(run.folder), f"{run.folder}/.", "--output", str(tmp_path / "x.html")])
        assert len(Page((tmp_path / "x.html").read_text()).all("article")) == 1

    @pytest.mark.parametrize(
        ("name", "found"), [("s.csv", "a file"), ("empty", "no run.jsonl there"), ("none", "no such folder")]
    )
    def test_what_is_no_run_is_a_mistake_in_one_line(self, tmp_path, name, found):
        (tmp_path / "s.csv").touch()
        (tmp_path / "empty").mkdir()
        result = CliRunner().invoke(main, ["report", str(tmp_path / name)])
        assert result.exit_code == 2
        said = f"report needs a Run folder, found {found}; `alexnet-bench plot` draws CSVs\n"
        assert result.stderr == f"alexnet-bench: {tmp_path / name}: {said}"

    def test_nothing_measured_yet_says_how_to_begin(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="run `make bench` first, or name a Run folder"):
            report.default_folder()

    def test_a_margin_that_is_none_is_a_mistake(self, tmp_path):
        run = make(tmp_path / "r", slower=1.03)
        result = CliRunner().invoke(main, ["report", str(run.folder), "--margin", "x"])
        assert (result.exit_code, result.stderr) == (
            2,
            "alexnet-bench: --margin: expected percent, above 0 and below 100, found 'x'\n",
        )
        assert CliRunner().invoke(main, ["report", str(run.folder), "--margin", "5"]).exit_code == 0
        assert "within the margin of 5 %" in Page((run.folder / "report.html").read_text()).text()

    def test_a_page_is_written_whole_or_not_at_all(self, tmp_path, monkeypatch):
        run = make(tmp_path / "r")
        target = run.folder / "report.html"
        target.write_text("the page before")

        def full(path, mode, **how):
            if path.name != "report.html.part":
                return open(path, mode, **how)
            path.write_text("<!doctype")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("bench.output.plots.kinds.KINDS", {})
        monkeypatch.setattr("impls.files.open", full, raising=False)
        with pytest.raises(UsageError, match=r"cannot write .*report\.html: No space left on device"):
            report.main(ReportRequest(runs=(run.folder,)))
        assert target.read_text() == "the page before"
        assert sorted(path.name for path in run.folder.iterdir()) == ["report.html", "run.jsonl"]

    def test_a_file_that_cannot_be_written_says_so(self, tmp_path):
        run = make(tmp_path / "r")
        with pytest.raises(UsageError, match=r"cannot write .*: .*; choose another file with --output"):
            report.main(ReportRequest(runs=(run.folder,), output=tmp_path / "none/x.html"))


def test_each_flag_of_a_run_is_explained(tmp_path):
    text = shown(make(tmp_path / "r", protocol=Protocol(rounds=5, burn_in=2))).text()
    assert "short_burn_inFewer than 10 burn-in iterations were asked for." in text
