"""The archive of a check: what is in it, what is cut, and what is left out where it would be too large."""

import random
import tarfile

import pytest

from bench.commands.gpu_check import archive


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "check"
    for name, size in {
        "steps.json": 100,
        "report.html": 30_000,
        "logs/03-run.log": 5_000,
        "runs/a/run.jsonl": 40_000,
        "runs/a/summary.csv": 3_000,
        "runs/a/times.png": 20_000,
        "runs/a/compile_cache/inductor/code.so": 90_000,
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(random.Random(name).randbytes(size))  # does not compress
    return made


def contents(path):
    with tarfile.open(path) as opened:
        return {member.name.partition("/")[2]: opened.extractfile(member).read() for member in opened.getmembers()}


def test_it_holds_every_file_but_what_compilers_keep(folder, tmp_path):
    assert archive.write(folder, tmp_path / "a.tar.gz") == []
    held = contents(tmp_path / "a.tar.gz")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del files["runs/a/compile_cache/inductor/code.so"]
    assert held == files


@pytest.mark.parametrize(
    ("largest", "left"),
    [
        (99_000, ["runs/a/run.jsonl"]),
        (50_000, ["runs/a/run.jsonl", "runs/a/times.png"]),
        (36_000, ["runs/a/run.jsonl", "runs/a/times.png", "report.html"]),
        (5_500, ["runs/a/run.jsonl", "runs/a/times.png", "report.html", "logs/03-run.log"]),
    ],
)
def test_the_largest_files_are_left_out_of_a_small_one_and_named(folder, tmp_path, largest, left):
    told = archive.write(folder, tmp_path / "a.tar.gz", largest)
    assert (tmp_path / "a.tar.gz").stat().st_size <= largest
    held = contents(tmp_path / "a.tar.gz")
    assert "steps.json" in held
    assert not set(left) & held.keys()
    assert [name.partition("/")[2] for name in told] == left
    assert all(name in held[archive.LEFT_OUT].decode() for name in left)


def test_of_a_long_log_the_end_is_kept(folder, tmp_path):
    (folder / "logs/03-run.log").write_bytes(b"first\n" + b"x" * archive.LONGEST_LOG + b"last")
    archive.write(folder, tmp_path / "a.tar.gz")
    log = contents(tmp_path / "a.tar.gz")["logs/03-run.log"]
    assert log.startswith(b"[its last 262,144 bytes of 262,154]\nx")
    assert log.endswith(b"xlast")
