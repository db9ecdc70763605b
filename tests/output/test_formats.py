"""`export`: what other programs get, held against the program itself where it can be installed, else its schema."""

import csv
import dataclasses
import json
import os
import re
import subprocess
import sys

import jsonschema
import pytest
import teams
from click.testing import CliRunner
from export_schemas import BENCHER, SMALLER_IS_BETTER, TRACE
from markdown_it import MarkdownIt
from msgspec import structs
from paths import ROOT
from pytest_benchmark.stats import Stats
from runs import A, B, arms, event, head, make, turn, worker

from bench import UsageError
from bench.cases.arm import Ab
from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.output import formats, trace
from bench.record import journal
from bench.record.journal import Journal
from bench.record.run import Run

REFERENCE = ROOT / "results" / "reference" / "cpu-2-cores"
BENCHMARKS = ("pytest-benchmark", "bencher", "github-action-benchmark")


def invoke(run, name, *args):
    return CliRunner().invoke(main, ["export", "--format", name, *map(str, args), str(run)])


def one_failed(folder, reason="a gradient\nis \x1b[31mnan"):
    make(folder)
    Journal(folder).add(event("failed", case_id=B.id, reason=reason))
    return folder


def single_sample(folder):
    """A Run of one sample: no stddev, no interval."""
    folder.mkdir()
    journal_ = Journal(folder)
    journal_.add(event("run", **head([A], Protocol(rounds=1))))
    journal_.add(event("worker", group=0, round=0, attempt=0, **worker(A)))
    journal_.add(event("turn", **turn(A, [7_000_000])))
    journal_.add(event("round", group=0, round=0, attempt=0, disturbed=""))
    return Run(folder)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    target = tmp_path_factory.mktemp("stored") / "0001_run.json"
    assert invoke(REFERENCE, "pytest-benchmark", "--output", target).exit_code == 0
    return target


class TestTheCommand:
    @pytest.mark.parametrize("name", formats.FORMATS)
    def test_stdout_holds_the_export_and_nothing_else(self, name, tmp_path):
        result = invoke(make(tmp_path / "run").folder, name)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == formats.FORMATS[name](Run(tmp_path / "run")) + "\n"
        assert name == "markdown" or json.loads(result.stdout)

    def test_a_file_is_written_and_said(self, tmp_path):
        run, target = make(tmp_path / "run"), tmp_path / "bencher.json"
        result = invoke(run.folder, "bencher", "--output", target)
        assert (result.exit_code, result.stdout) == (0, "")
        assert result.stderr == f"alexnet-bench: wrote {target}\n"
        assert target.read_text(encoding="utf-8") == formats.bencher(run) + "\n"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bencher.json", "run"]

    @pytest.mark.parametrize(
        ("target", "why"), [("nowhere/a.json", "No such file or directory"), ("run", "Is a directory")]
    )
    def test_a_file_that_cannot_be_written_is_one_line(self, tmp_path, target, why):
        make(tmp_path / "run")
        result = invoke(tmp_path / "run", "bencher", "--output", tmp_path / target)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == (
            f"alexnet-bench: cannot write {tmp_path / target}: {why}; choose another file with --output\n"
        )

    def test_a_write_that_fails_leaves_the_file_there_was(self, tmp_path, monkeypatch):
        target = tmp_path / "a.json"
        target.write_text("before")
        monkeypatch.setattr(os, "replace", lambda *both: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(UsageError, match=r"cannot write .*a\.json: No space left on device; choose another file"):
            formats.write(target, "after")
        assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]

    def test_link_or_device_is_written_directly(self, tmp_path):
        (tmp_path / "link").symlink_to(tmp_path / "there")
        formats.write(tmp_path / "link", "text")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there").read_text() == "text"

    @pytest.mark.parametrize(
        ("name", "folder", "message"),
        [
            ("csv", "run", f"unknown format 'csv': choose {', '.join([*formats.FORMATS][:-1])} or markdown"),
            ("trace", "nowhere", "nowhere: cannot read run.jsonl: No such file or directory"),
            ("trace", "failed", "failed: no valid case to export; the loss is nan; not measured"),
        ],
    )
    def test_a_mistake_is_one_line_and_exit_2(self, tmp_path, monkeypatch, name, folder, message):
        make(tmp_path / "run")
        make(tmp_path / "failed", rounds=0)
        Journal(tmp_path / "failed").add(event("failed", case_id=A.id, reason="the loss\nis nan"))
        monkeypatch.chdir(tmp_path)
        result = invoke(folder, name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"alexnet-bench: {message}\n"

    @pytest.mark.parametrize("name", BENCHMARKS)
    def test_a_case_that_failed_is_left_out_and_said(self, name, tmp_path):
        result = invoke(one_failed(tmp_path / "run"), name)
        assert result.exit_code == 0
        assert result.stderr == f"alexnet-bench: {B.id} is left out: a gradient is [31mnan\n"
        assert A.id in result.stdout
        assert f'"{B.id}"' not in result.stdout


class TestPytestBenchmark:
    def test_samples_are_seconds_to_the_last_digit(self, stored):
        run = Run(REFERENCE)
        for one, case in zip(json.loads(stored.read_text())["benchmarks"], run.cases, strict=True):
            assert one["stats"]["data"] == [ns * 1e-9 for samples in run.samples(case) for ns in samples]
            assert (one["name"], one["param"], one["group"]) == (case.id, case.id, case.pass_)
            assert one["fullname"] == f"alexnet-bench::{case.id}"

    @pytest.mark.parametrize("many", [1, 2, 3, 4, 5, 6, 7, 8, 50, 51])
    def test_the_figures_are_those_it_would_work_out_itself(self, many):
        samples = [1_000_003 * (1 + i * i % 17) + 10**8 * (i % 13 == 5) for i in range(many)]
        for ns in (samples, [1_234_567] * many):
            theirs = Stats()
            for one in ns:
                theirs.update(one * 1e-9)
            assert formats.replayed(ns) == theirs.as_dict() | {"data": theirs.data, "iterations": 1}

    def test_machine_and_run_are_named(self, stored):
        it, run = json.loads(stored.read_text()), Run(REFERENCE)
        machine = it["machine_info"]
        assert (machine["node"], machine["system"], machine["machine"]) == ("5bce98f73f3e", "Linux", "x86_64")
        assert machine["cpu"]["brand_raw"] == "Intel(R) Xeon(R) Processor"
        assert (it["datetime"], it["version"]) == ("2026-11-26T06:32:15+00:00", "5.3.1")
        for one, row in zip(it["benchmarks"], run.rows(), strict=True):
            extra = one["extra_info"]
            assert extra["fingerprint"] == structs.asdict(run.head.fingerprint)
            assert all(extra[name] == row[name] for name in formats.FACTS)
            assert one["params"]["framework"] == row["framework"]

    def test_the_whole_run_is_enclosed(self, stored):
        held = json.loads(stored.read_text())["alexnet_bench"]
        assert held == formats.enclosed(Run(REFERENCE))
        assert (held["schema"], held["run_id"]) == (1, "20261126T063215Z-reference")
        assert journal.unpack(held["run_jsonl"]) == (REFERENCE / "run.jsonl").read_bytes()

    def compare(self, folder, *args):
        done = subprocess.run(
            [sys.executable, "-c", "from pytest_benchmark.cli import main; main()", "compare", *map(str, args)],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr.replace(f"Generated csv: {folder / 'table.csv'}", "").strip()) == (0, "")
        return done.stdout

    def test_pytest_benchmark_compare_reads_two_exports(self, stored, tmp_path):
        other = tmp_path / "0002_run.json"
        assert invoke(ROOT / "results/reference/aa-1", "pytest-benchmark", "--output", other).exit_code == 0
        by_name = ("--sort=fullname", "--group-by=fullname", "--name=long", f"--csv={tmp_path / 'table.csv'}")
        shown = self.compare(tmp_path, stored, other, *by_name)
        rows = list(csv.DictReader((tmp_path / "table.csv").open()))
        theirs = {row["name"]: float(row["mean"]) for row in rows}
        for run in (Run(REFERENCE), Run(ROOT / "results/reference/aa-1")):
            for row in run.rows():
                name = f"alexnet-bench::{row['case_id']}"
                assert name in shown
                assert theirs[name] == pytest.approx(row["mean_ms"] / 1e3, rel=1e-12)
        assert {row["param:framework"] for row in rows} == {"torch", "tensorflow", "jax"}

    def test_pytest_benchmark_compare_groups_by_framework(self, stored, tmp_path):
        columns = "--columns=min,max,mean,stddev,median,iqr,outliers,ops,rounds,iterations"
        shown = self.compare(tmp_path, stored, "--group-by=param,param:framework", columns)
        for row in Run(REFERENCE).rows():
            assert f"{row['case_id']} framework={row['framework']}'" in shown

    def test_pytest_benchmark_compares_a_test_with_an_export(self, tmp_path):
        """A benchmark of another program has a test's own full name, so the two stand side by side."""
        theirs = dataclasses.replace(A, foreign="test_it.py::test_it")
        hook = "def pytest_benchmark_generate_machine_info():\n    return {}\n"  # its own takes seconds
        (tmp_path / "conftest.py").write_text(hook)
        (tmp_path / "test_it.py").write_text("def test_it(benchmark):\n    benchmark.pedantic(len, ((),), rounds=3)\n")
        target = tmp_path / "exported.json"
        assert invoke(make(tmp_path / "run", [theirs]).folder, "pytest-benchmark", "--output", target).exit_code == 0
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "pytest_benchmark.plugin",
                "--benchmark-compare=exported.json",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Comparing against benchmarks from: exported.json" in done.stderr
        assert sorted(re.findall(r"^test_it \((\w+)\)", done.stdout, re.MULTILINE)) == ["NOW", "exported"]


class TestDashboards:
    def test_bencher_gets_nanoseconds_and_the_interval(self):
        run = Run(REFERENCE)
        found = json.loads(formats.bencher(run))
        jsonschema.validate(found, BENCHER)
        for case in run.cases:
            center = run.summary(case).center
            ends = {"value": center.center, "lower_value": center.low, "upper_value": center.high}
            assert found[case.id]["latency"] == pytest.approx(ends, rel=1e-12)

    def test_the_action_gets_the_median_in_milliseconds_and_half_of_the_interval(self):
        run = Run(REFERENCE)
        found = json.loads(formats.github_action_benchmark(run))
        jsonschema.validate(found, SMALLER_IS_BETTER)
        assert [(one["name"], one["value"]) for one in found] == [
            (row["case_id"], row["median_ms"]) for row in run.rows()
        ]
        assert found[0] | {"value": 0} == {
            "name": "tutorial-torch-eager-cpu-fp32-b8-forward",
            "unit": "ms",
            "value": 0,
            "range": "± 11.45",
            "extra": "torch 2.13.0+cpu on Intel(R) Xeon(R) Processor\nmedian of 50 samples in 5 Rounds\n"
            "range: half of the 95 % interval over Rounds\nflags: unsteady_machine\nRun 20261126T063215Z-reference",
        }

    def test_below_3_rounds_there_are_no_bounds_and_the_range_is_the_stddev(self, tmp_path):
        run = make(tmp_path / "run", rounds=2, base_ns=5_000_000)
        found = json.loads(formats.bencher(run))
        jsonschema.validate(found, BENCHER)
        assert all(one["latency"].keys() == {"value"} for one in found.values())
        (one, _) = json.loads(formats.github_action_benchmark(run))
        assert "range: stddev of the samples" in one["extra"].splitlines()

    def test_one_sample_has_no_range(self, tmp_path):
        run = single_sample(tmp_path / "run")
        (one,) = json.loads(formats.github_action_benchmark(run))
        jsonschema.validate([one], SMALLER_IS_BETTER)
        assert (one["value"], "range" in one, "range" in one["extra"]) == (7.0, False, False)
        assert json.loads(formats.pytest_benchmark(run))["benchmarks"][0]["stats"]["stddev"] == 0


def tags(text):
    """The elements of a comment, as Markdown with raw HTML let through."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    return {tag.split()[0].strip("/") for tag in re.findall(r"<([^>]+)>", html)}


HOSTILE = (
    "a|b `x` <script>alert(1)</script>\n\n# title [x](javascript:alert(1)) ![x](y) @everyone &lt; http://evil.example"
)
HARMLESS = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}


class TestMarkdown:
    def test_markdown_is_the_table_of_the_run(self):
        text = formats.markdown(Run(REFERENCE))
        lines = text.splitlines()
        assert lines[0] == "**tutorial, 224 px, batch 8, cpu (2 threads), fp32**: 5 Rounds x 10 after 10 burn-in"
        assert "| forward | torch eager | 184 ± 14.29 (50) | 43.39 | 24% | 1 |" in lines
        assert "| forward_backward | jax jit | 590.5 ± 135.5 (50) | 15.04 | 24% | 1.158 [1.075, 1.248] |" in lines
        assert "| backward | torch eager | 315.5 [265.8, 365.2] |  |  |  |" in lines
        assert "- forward jax jit: noisy unsteady_machine (CPU time: 2 % stolen, 1 % used by others)" in lines
        assert "- jax 0.10.2, tensorflow 2.21.0, torch 2.13.0+cpu on Intel(R) Xeon(R) Processor" in lines
        (note,) = (line for line in lines if line.startswith("Inside the clock: forward: inference mode"))
        assert "outside it: input copies" in note
        assert "above 1 is slower" in note
        assert lines[-1] == "Run 20261126T063215Z-reference"
        assert tags(text) <= HARMLESS
        assert {"table", "td", "strong", "li"} <= tags(text)

    def test_markdown_of_several_devices_has_the_efficiency(self, tmp_path):
        text = formats.markdown(teams.make(tmp_path / "run"))
        assert "| forward_backward | torch eager | 2 | 400 | 266.7 | 75% [75, 75] |" in text
        assert "| torch eager | 2 | 94% [94, 94] | 80% [80, 80] |" in text
        assert "Each reduction sums 244.4 MB of gradients over all devices." in text

    def test_markdown_of_an_ab_begins_with_the_verdicts(self):
        text = formats.markdown(Run(ROOT / "results/reference/slowdown-5-percent"))
        assert text.startswith("**1 SLOWER**: ")
        assert text.index("| verdict |") < text.index("| images/s |")

    def test_a_case_that_failed_says_so_and_has_no_figures(self, tmp_path):
        text = formats.markdown(Run(one_failed(tmp_path / "run")))
        assert "| forward | tensorflow graph | failed |  |  |  |" in text.splitlines()
        assert "- forward tensorflow graph: a gradient is  [31mnan".replace("[", r"\[") in text.splitlines()

    def test_a_hostile_header_stays_text(self, tmp_path):
        fingerprint = {"host": HOSTILE, "cpu": HOSTILE, "system": HOSTILE}
        said = {"versions": {A.framework: HOSTILE, B.framework: HOSTILE}}
        sides = Ab("env:X", (HOSTILE, "b"))
        run = make(tmp_path / "run", arms(A, ab=sides), ab=sides, fingerprint=fingerprint, run_id=HOSTILE, unlike=said)
        Journal(run.folder).add(event("failed", case_id=run.cases[1].id, reason=HOSTILE))
        for text in (formats.markdown(Run(run.folder)), formats.markdown(foreign(tmp_path / "theirs"))):
            assert tags(text) <= HARMLESS
            assert "everyone" in text
            assert not re.search(r"@\w|://\w", text)
            for line in (line for line in text.splitlines() if line.startswith("|")):
                assert len(re.findall(r"(?<!\\)\|", line)) in (6, 7)

    def test_hostile_strings_leave_the_other_formats_well_formed(self, tmp_path):
        run = foreign(tmp_path / "theirs")
        jsonschema.validate(json.loads(formats.bencher(run)), BENCHER)
        jsonschema.validate(json.loads(formats.github_action_benchmark(run)), SMALLER_IS_BETTER)
        jsonschema.validate(json.loads(json.dumps(trace.trace_of(run))), TRACE)
        assert json.loads(formats.pytest_benchmark(run))["benchmarks"][0]["fullname"] == HOSTILE


def foreign(folder):
    """As `ingest` makes it of another program's benchmarks: no Workers, no net, names that anybody chose."""
    case = dataclasses.replace(A, framework="other", mode="call", layout="", foreign=HOSTILE, variant=HOSTILE)
    folder.mkdir()
    whole = Journal(folder)
    source = {"source": HOSTILE, "taken": []}
    whole.add(event("run", **head([case], Protocol(HOSTILE, rounds=1, paired=False), run_id=HOSTILE, ingested=source)))
    whole.add(event("turn", **turn(case, [5_000_000, 6_000_000])))
    whole.add(event("round", group=0, round=0, attempt=0, disturbed=""))
    return Run(folder)
