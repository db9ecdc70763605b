"""`plot`: which file it reads where nothing is named, and where the picture goes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import UsageError
from bench.commands import plot
from bench.commands.cli import main
from bench.output.plots.kinds import KINDS


@pytest.mark.parametrize("name", ["a folder", "x", "-", "x.docx"])
def test_a_picture_goes_to_a_file_that_says_what_it_is(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    done = CliRunner().invoke(main, ["plot", "--output", name])
    message = f"alexnet-bench: --output: expected a file that ends in .png, .svg or .pdf, found {name!r}\n"
    assert (done.exit_code, done.stderr) == (2, message)


def test_an_unknown_kind_says_which_there_are(tmp_path):
    done = CliRunner().invoke(main, ["plot", str(tmp_path), "--kind", "pie"])
    kinds = "times, distribution, series, throughput, roofline, layers, loaders, scaling or history"
    assert (done.exit_code, done.stderr) == (2, f"alexnet-bench: unknown kind 'pie': choose {kinds}\n")


def test_the_help_says_what_each_kind_shows():
    text = " ".join(CliRunner().invoke(main, ["plot", "--help"]).stdout.split())
    assert all(f"{kind.name}: {kind.help}" in text for kind in KINDS.values())


def test_without_a_run_plot_says_how_to_make_one_unless_the_kind_needs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="run `make bench` first, or name a CSV file"):
        plot.default_paths(KINDS["times"])
    assert plot.default_paths(KINDS["history"]) == []


def test_plot_takes_the_newest_run_with_a_summary_or_events(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, file in (("20260101T000000Z-a", "summary.csv"), ("20260102T000000Z-b", "summary.csv")):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / file).touch()
    (tmp_path / "results/20260103T000000Z-c").mkdir()
    assert plot.default_paths(KINDS["times"]) == [Path("results/20260102T000000Z-b")]
    (tmp_path / "results/20260103T000000Z-c/run.jsonl").touch()
    assert plot.default_paths(KINDS["times"]) == [Path("results/20260103T000000Z-c")]
