"""Text of others on a terminal: nothing that moves the cursor, sets a color or hides, from any source."""

import ast
import csv
import json

import pytest
from click.testing import CliRunner
from csvs import ROW
from hostile import run_with_text
from paths import ROOT
from runs import A

from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.output import console
from bench.output.progress import Progress
from bench.record.events import Place
from impls.text import LINE, one_line, printable, quoted

#: Escape, bell, a C1 control sequence, DEL, a direction of writing, a zero width, a line separator, a carriage return.
ODD = "a\x1b[31mred\x07\x9b2J\x7f\u202egnp\u200b\u2028b\r\nalexnet-bench: all is well"


def assert_printable(text):
    assert "red" in text
    assert [line for line in text.split("\n") if not line.isprintable()] == []
    assert "\nalexnet-bench: all is well" not in text


@pytest.mark.parametrize(
    "words",
    ["compare", "compare --markdown", "compare --json", "report", "export --format markdown", "export --format trace"],
)
def test_what_a_run_holds_is_printed_without_controls(tmp_path, words):
    run_with_text(tmp_path / "run", ODD)
    done = CliRunner().invoke(main, [*words.split(), str(tmp_path / "run")])
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert [line for line in done.output.split("\n") if not line.isprintable()] == []


def test_a_benchmark_of_another_program_is_printed_without_controls(tmp_path):
    benchmark = {"name": ODD, "group": ODD, "params": {"framework": ODD, "mode": ODD}, "stats": {"data": [0.1, 0.2]}}
    machine = {"node": ODD, "cpu": {"brand_raw": ODD}, "system": ODD, "python_version": ODD}
    stored = {"benchmarks": [benchmark], "machine_info": machine, "version": ODD}
    (tmp_path / "odd.json").write_text(json.dumps(stored))
    done = CliRunner().invoke(main, ["ingest", str(tmp_path / "odd.json"), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert_printable(done.output)


def test_a_cell_of_a_csv_and_a_file_name_are_printed_without_controls(tmp_path):
    file = tmp_path / f"{ODD[:8]}.csv"
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, [*ROW, "invalid_reason", "valid"])
        writer.writeheader()
        writer.writerows([ROW, ROW | {"batch": ODD}, ROW | {"valid": "False", "invalid_reason": ODD}])
    done = CliRunner().invoke(main, ["plot", str(file), "--output", str(tmp_path / "a.svg")])
    assert done.exit_code == 0, done.output
    assert_printable(done.output)


def test_progress_says_what_a_net_says_without_controls(capsys):
    progress = Progress(Protocol(), 1)
    progress.on_fault(ODD, Place(0, 0, 0), ODD, f"{ODD}\n{ODD}", repeated=False)
    progress.on_failed(A, ODD)
    progress.on_disturbed(Place(0, 0, 0), ODD)
    assert_printable(capsys.readouterr().err)


def test_a_line_on_stderr_is_one_line_and_not_long(capsys):
    console.tell(f"{ODD} {'word ' * 9999} {'x' * 9999}; do this")
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert len(text) < LINE + 20
    assert text.endswith("; do this\n")


def test_printed_lines_keep_their_own_breaks_and_styles(capsys):
    console.say("a\x1bb\nc")
    assert capsys.readouterr().out == "a b\nc\n"


@pytest.mark.parametrize("text", ["a b", "grüße 日本 ±", "two  spaces"])
def test_text_without_controls_is_unchanged(text):
    assert one_line(text) == printable(text) == text
    assert quoted(text) == repr(text)


def test_a_long_value_is_cut_in_the_middle():
    assert quoted("a" * 500 + "z" * 500) == f"'{'a' * 52}…{'z' * 24}'"


def test_nothing_else_prints():
    """A ``print`` anywhere else would be a way around the cleaning; these modules clean, or print their own words."""
    printing = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "bench").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    }
    names, own = ("console", "progress", "training_progress"), "bench/output/stdout.py"
    cleaning = tuple(f"bench/output/{name}.py" for name in names)
    parity = ("bench/controller/parity.py", "bench/controller/tie_free.py")
    programs = (*parity, "bench/machine/gpu_cause.py", "bench/machine/node.py")
    assert printing == {*cleaning, own, *programs}
