"""Mutated files and odd values: no traceback, no hang, no memory. `make fuzz` runs all; a share of them runs always."""

import json
import os
import subprocess
import sys
import time

import pytest
from fuzz import drive
from paths import ROOT

MOST_MIB = 512
ALL = {"runs": 1000, "options": 1000, "files": 200}
SHARE = {kind: count // 20 for kind, count in ALL.items()}


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *(pytest.param(kind, count, id=f"{kind}-share") for kind, count in SHARE.items()),
        *(
            pytest.param(kind, count, id=kind, marks=[pytest.mark.fuzz, pytest.mark.slow])
            for kind, count in ALL.items()
        ),
    ],
)
@pytest.mark.process
@pytest.mark.timeout(1800)
def test_no_traceback_no_hang_and_little_memory(tmp_path, capsys, kind, count):
    """In a process of its own, whose memory is that of these cases."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.drive", kind, str(count), str(tmp_path / kind)],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}", "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    with capsys.disabled():
        print(f"\n{kind}: {count} cases, {', '.join(f'{what} {figure}' for what, figure in figures.items())}")
    assert (figures["tracebacks"], figures["hangs"]) == (0, 0), done.stderr
    assert figures["read"] + figures["refused"] == count
    assert figures["memory_mib"] <= MOST_MIB
    assert figures["slowest_s"] <= drive.LIMIT_S


def test_a_traceback_a_hang_and_a_raw_escape_are_counted(tmp_path, monkeypatch, capsys):
    def planted(dice, folder):
        while True:
            yield "a traceback", lambda: 1 // 0
            yield "a hang", lambda: time.sleep(60)
            yield "a refusal", lambda: drive.command("run", "--variant", "\x1b[31m")
            yield "an escape", lambda: drive.assert_printable(["\x1b[31m"])

    monkeypatch.setitem(drive.KINDS, "planted", planted)
    monkeypatch.setattr(drive, "LIMIT_S", 1)
    monkeypatch.setattr(drive, "WARM", 0)
    figures = drive.drive("planted", 4, tmp_path / "here")
    assert {what: figures[what] for what in ("tracebacks", "hangs", "refused")} == {
        "tracebacks": 2,
        "hangs": 1,
        "refused": 1,
    }
    assert "ZeroDivisionError" in capsys.readouterr().err
