"""`report`: its command, its downloads and its list of flags."""

import base64
import gzip
from pathlib import Path

import pytest
from click.testing import CliRunner
from pages import REFERENCE, Page, page_of
from runs import HOST, make

from bench import UsageError
from bench.cases.protocol import Protocol
from bench.commands import report
from bench.commands.cli import main
from bench.commands.requests import ReportRequest
from bench.record.run import Run

pytestmark = pytest.mark.usefixtures("quick_plots")


class TestFiles:
    def test_the_raw_data_comes_out_as_it_went_in(self, tmp_path):
        (tmp_path / "run.jsonl").write_bytes((REFERENCE / "cpu-2-cores/run.jsonl").read_bytes())
        run = Run(tmp_path)
        run.write()
        files = {one["download"]: one["href"] for one in page_of(run).all("a") if "download" in one}
        assert list(files) == ["run.jsonl.gz", "summary.csv.gz"]
        for name, link in files.items():
            data = gzip.decompress(base64.b64decode(link.removeprefix("data:application/gzip;base64,")))
            assert data == (run.folder / name.removesuffix(".gz")).read_bytes()

    def test_files_of_two_runs_have_names_of_their_own(self, tmp_path):
        found = page_of(make(tmp_path / "1/a b"), make(tmp_path / "2/a b"))
        names = [one["download"] for one in found.all("a") if "download" in one]
        assert names == [f"{number}-a-b-{file}.gz" for number in (1, 2) for file in ("run.jsonl", "summary.csv")]
        assert found.text("h2") == "a b (1)a b (2)"

    def test_a_table_has_nothing_that_a_spreadsheet_runs(self, tmp_path):
        formula = "=cmd|' /C calc'!A0"
        run = make(tmp_path / "r", fingerprint=HOST | {"cpu": formula})
        (link,) = [one["href"] for one in page_of(run).all("a") if one.get("download") == "summary.csv.gz"]
        data = gzip.decompress(base64.b64decode(link.rpartition(",")[2])).decode()
        assert f",'{formula}," in data
        assert f",{formula}," not in data


class TestCommand:
    def test_the_report_is_written_into_the_run_folder_and_named(self, tmp_path):
        run = make(tmp_path / "r")
        result = CliRunner().invoke(main, ["report", str(run.folder)])
        assert result.exit_code == 0, result.output
        assert f"wrote {run.folder / 'report.html'}" in result.stderr
        assert not Page((run.folder / "report.html").read_text()).open

    def test_without_a_run_the_newest_is_reported(self, tmp_path, monkeypatch):
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
    def test_a_path_that_is_no_run_is_a_mistake_in_one_line(self, tmp_path, name, found):
        (tmp_path / "s.csv").touch()
        (tmp_path / "empty").mkdir()
        result = CliRunner().invoke(main, ["report", str(tmp_path / name)])
        assert result.exit_code == 2
        said = f"report needs a folder of `run`, `train` or `predict`, found {found}; `alexnet-bench plot` draws CSVs\n"
        assert result.stderr == f"alexnet-bench: {tmp_path / name}: {said}"

    def test_without_any_run_the_message_says_how_to_begin(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UsageError, match="run `make bench` first, or name a Run folder"):
            report.default_folder()

    def test_a_margin_that_is_no_number_is_a_mistake(self, tmp_path):
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
    text = page_of(make(tmp_path / "r", protocol=Protocol(rounds=5, burn_in=2))).text()
    assert "short_burn_inFewer than 10 burn-in iterations were asked for in the first Round." in text
