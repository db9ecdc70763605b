"""Run folders of others: no file is written to where a symbolic link in them leads."""

import os

import pytest
from click.testing import CliRunner
from runs import A, make

from bench import UsageError
from bench.commands import results
from bench.commands.cli import main
from bench.record import selftest_store
from bench.record.journal import Journal
from bench.record.run import Run
from impls.files import open_whole

WRITTEN = ("report.html", "summary.csv", "samples.csv", "layers.csv", "times.png", "roofline.png", "throughput.png")


def invoke(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done


@pytest.fixture
def victim(tmp_path):
    (victim := tmp_path / "victim").write_text("mine")
    return victim


@pytest.fixture
def run(tmp_path, victim):
    """A Run in which all that could be written is a link to a file outside it, or to none."""
    run = make(tmp_path / "run")
    for number, name in enumerate(WRITTEN):
        (run.folder / name).symlink_to(victim if number % 2 == 0 else tmp_path / f"made-{name}")
        (run.folder / f"{name}.part").symlink_to(victim)
    return run


def assert_nothing_outside(folder, victim):
    assert victim.read_text() == "mine"
    assert [path.name for path in folder.iterdir() if path.name.startswith("made")] == []


def test_report_replaces_a_link(run, victim, tmp_path):
    assert invoke("report", run.folder).exit_code == 0
    assert_nothing_outside(tmp_path, victim)
    assert (run.folder / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not (run.folder / "report.html").is_symlink()


@pytest.mark.parametrize(
    "words",
    ["report --output {}/report.html", "plot --output {}/times.png", "export --format bencher --output {}/report.html"],
)
def test_an_output_in_a_run_folder_replaces_a_link(run, victim, tmp_path, words):
    assert invoke(*words.format(run.folder).split(), run.folder).exit_code == 0
    assert_nothing_outside(tmp_path, victim)


def test_tables_and_pictures_of_a_run_replace_links(run, victim, tmp_path):
    results.write_files(Run(run.folder))
    assert_nothing_outside(tmp_path, victim)
    assert (run.folder / "times.png").read_bytes().startswith(b"\x89PNG")


def test_a_link_that_a_user_named_elsewhere_is_followed(run, victim, tmp_path):
    (tmp_path / "page.html").symlink_to(victim)
    assert invoke("report", run.folder, "--output", tmp_path / "page.html").exit_code == 0
    assert victim.read_text().startswith("<!DOCTYPE html>")
    assert (tmp_path / "page.html").is_symlink()


def test_stdout_is_written_to_as_a_device(run):
    done = invoke("export", "--format", "bencher", "--output", "/dev/null", run.folder)
    assert done.exit_code == 0
    assert not os.path.isfile("/dev/null")


@pytest.mark.parametrize(
    "words",
    [
        "report {}",
        "report {0} {0}",
        "compare {}",
        "compare {0} {0}",
        "plot {} --output x.png",
        "export --format trace {}",
        "run --resume {}",
        "profile {}",
        "run --dry-run --weights {}",
        "ingest {}",
        "data {}",
        "verify --against {}",
    ],
)
def test_a_link_to_itself_is_one_line(tmp_path, words):
    for name in ("loop", "loop.npy", "loop.py"):
        (tmp_path / name).symlink_to(tmp_path / name)
    done = invoke(*words.format(tmp_path / "loop").split())
    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 1


def test_a_report_whose_file_is_a_link_to_itself_is_written(tmp_path):
    run = make(tmp_path / "run")
    (run.folder / "report.html").symlink_to(run.folder / "report.html")
    assert invoke("report", run.folder).exit_code == 0
    assert (run.folder / "report.html").is_file()


@pytest.mark.parametrize("name", ["run.jsonl", "workers", "compile_cache", "workers/torch-eager.stderr", "summary.csv"])
def test_a_run_with_a_link_is_not_resumed(tmp_path, victim, name):
    run = make(tmp_path / "run", [A], stop="interrupted")
    elsewhere = tmp_path / "elsewhere"
    if name == "run.jsonl":
        (run.folder / name).rename(elsewhere)
    path = run.folder / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere if name == "run.jsonl" else victim)
    before = elsewhere.read_bytes() if elsewhere.exists() else b""
    done = invoke("run", "--resume", run.folder)
    assert (done.exit_code, done.stderr) == (
        2,
        f"alexnet-bench: --resume: {path} is a symbolic link, which no Run makes; expected a file or a folder\n",
    )
    assert_nothing_outside(tmp_path, victim)
    assert not before or elsewhere.read_bytes() == before


def test_a_journal_is_not_opened_through_a_link(tmp_path, victim):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.jsonl").symlink_to(victim)
    with pytest.raises(UsageError, match="cannot write to"):
        Journal(tmp_path / "run")
    assert_nothing_outside(tmp_path, victim)


def test_a_self_test_is_not_stored_through_a_link(tmp_path, victim):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / selftest_store.STORED).symlink_to(victim)
    selftest_store.store(tmp_path / "results", "harness", True, [])
    assert_nothing_outside(tmp_path, victim)


def test_a_run_jsonl_that_is_a_pipe_is_not_waited_for(tmp_path):
    (tmp_path / "runs" / "pipe").mkdir(parents=True)
    os.mkfifo(tmp_path / "runs" / "pipe" / "run.jsonl")
    make(tmp_path / "runs" / "whole")
    for words in (("compare", tmp_path / "runs" / "pipe"), ("report", tmp_path / "runs" / "pipe")):
        assert invoke(*words).exit_code == 2
    assert invoke("compare", tmp_path / "runs" / "whole").exit_code in (0, 1)


def test_a_picture_that_could_not_be_written_leaves_none(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def half(figure, file, **how):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    run = make(tmp_path / "run")
    run.write()
    monkeypatch.setattr(Figure, "savefig", half)
    done = invoke("plot", run.folder, "--output", tmp_path / "a.png")
    expected = f"cannot write {tmp_path / 'a.png'}: No space left on device; check the folder and its disk"
    assert done.stderr == f"alexnet-bench: {expected}\n"
    assert not (tmp_path / "a.png").exists()


def test_a_file_that_fails_leaves_the_earlier_one(victim):
    with pytest.raises(ZeroDivisionError), open_whole(victim, "w") as file:
        file.write(str(1 / 0))
    assert victim.read_text() == "mine"
