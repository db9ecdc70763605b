"""Stdout in an encoding without our signs, full, or closed: no traceback, and what was measured is kept."""

import io
import os
import subprocess
import sys

import pytest
from command import NULL
from paths import ROOT

from bench.output import run_table, stdout
from bench.record.run import Run

pytestmark = pytest.mark.process
REFERENCE = ROOT / "results" / "reference" / "cpu-2-cores"
FULL = "alexnet-bench: cannot write to stdout: No space left on device; a Run that was measured is kept in its folder\n"


def run(*args, out=subprocess.PIPE, err=subprocess.PIPE, **env):
    """`python -m bench`, with this stdout."""
    command = [sys.executable, "-m", "bench", *map(str, args)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, stdout=out, stderr=err, check=False)


@pytest.mark.parametrize("encoding", ["ascii:strict", "cp1252"])
def test_tables_are_printed_in_any_encoding(encoding):
    made = run("compare", REFERENCE, REFERENCE, "--markdown", PYTHONIOENCODING=encoding)
    assert (made.returncode, made.stderr) == (0, b"")
    assert "verdict" in made.stdout.decode(encoding.partition(":")[0])


def printed(monkeypatch, encoding, command):
    """What a command prints on a stdout in this encoding."""
    raw = io.BytesIO()
    with monkeypatch.context() as patch:  # pytest sets stdout anew between fixtures and tests
        patch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
        stdout.call(command)
        return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_the_signs_of_a_table_have_a_place_in_any_encoding(encoding, monkeypatch):
    found = printed(monkeypatch, encoding, lambda: run_table.run_table(Run(REFERENCE), []))
    assert ("mean +/- stddev ms" if encoding == "ascii" else "mean ± stddev ms") in found
    assert "?" not in found


def test_every_sign_that_an_encoding_lacks_is_replaced():
    assert "1 ± 2 µs × 3 °C’s — 水".encode("ascii", "in_ascii") == b"1 +/- 2 us x 3 deg C's - ?"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("--help",), ("layers", "--json"), ("compare", REFERENCE, REFERENCE)])
def test_a_full_stdout_is_a_line(words, unbuffered):
    with open("/dev/full", "w") as full:
        made = run(*words, out=full, PYTHONUNBUFFERED=unbuffered)
    assert (made.returncode, made.stderr.decode()) == (2, FULL)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_run_with_full_streams_is_measured_and_keeps_its_tables(tmp_path):
    with open("/dev/full", "w") as full:
        made = run("run", *NULL, "--pass", "forward", "--out", tmp_path, out=full, err=full)
    (folder,) = tmp_path.iterdir()
    assert made.returncode == 2
    assert [row["valid"] for row in Run(folder).rows()] == [True]
    assert {"summary.csv", "samples.csv", "layers.csv"} <= {path.name for path in folder.iterdir()}


def test_a_closed_stdout_is_no_error():
    made = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m bench layers >&-"], cwd=ROOT, capture_output=True, check=False
    )
    assert (made.returncode, made.stderr) == (0, b"")


def test_an_error_of_another_file_stays_one(monkeypatch):
    def command():
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        printed(monkeypatch, "utf-8", command)
