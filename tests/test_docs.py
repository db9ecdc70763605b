"""The documents: every command is run, planned, or at least parsed, every block of Python is run, every link leads
somewhere, and every table that repeats the code says what the code says."""

import contextlib
import dataclasses
import glob
import importlib
import inspect
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import column_help
import pytest
from click.testing import CliRunner
from paths import ROOT

from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.controller import parity
from bench.output import formats, run_table
from bench.output.plots import kinds
from bench.record.columns import COLUMNS, names
from bench.record.pairs import within
from bench.record.run import Run
from bench.worker.guest import read_nets
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
NOTES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/decisions/*.md"))
LINKING = ["CONTRIBUTING.md", "results/README.md", *PAGES, *NOTES]
TEXT = {name: (ROOT / name).read_text() for name in [*LINKING, "Makefile"]}
README, MEASUREMENT, EQUIVALENCE = (TEXT[name] for name in ("README.md", "docs/measurement.md", "docs/equivalence.md"))
REFERENCE = ROOT / "results/reference"
#: What is done with a line of shell: one that starts no Worker is run, a `run` is planned (--dry-run).
DONE = {
    "run": r"alexnet-bench (compare|plot|report|export|ingest) |alexnet-bench layers (?!.*--framework)",
    "planned": r"alexnet-bench run (?!.*--(resume|weights) )",
}
#: What is not, and why: ours are parsed, the others looked at by whoever reads them.
NOT_DONE = {
    r"alexnet-bench (env|verify|profile|selftest)\b": "they start Workers or spin; tests/test_<command>.py runs each",
    r"alexnet-bench layers .*--framework ": "starts Workers",
    r"alexnet-bench run .*--(resume|weights) ": "needs a Run that was cut off, or Caffe's file",
    r"make [a-z-]+( |$)": "target and variables are looked up in the Makefile",
    r"git (clone|worktree) ": "a repository of the reader's own",
    r"\(cd \w+ && pytest ": "a suite of the reader's own; tests/commands/test_ingest.py has what it leaves behind",
    r"bencher run ": "needs an account",
    r"export PIP_EXTRA_INDEX_URL=": "is for the reader's shell",
}


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def lines(text):
    """Each command of the blocks of shell, with its comment."""
    whole = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    found = [line.partition("  #") for line in whole.splitlines()]
    return [(command.strip(), comment.strip()) for command, _, comment in found if command.strip()]


def of(*pages, pattern=""):
    """Their lines of shell that match, each a test of its own; how the program is found does not matter."""
    found = [(page, command.removeprefix(".venv/bin/"), said) for page in pages for command, said in lines(TEXT[page])]
    return [pytest.param(*one, id=": ".join(one[:2])) for one in found if re.match(pattern, one[1])]


def invoke(command, *more):
    """An own command; words that a shell would spread are spread."""
    words = [one for word in shlex.split(command)[1:] for one in sorted(glob.glob(word)) or [word]]
    return words, CliRunner().invoke(main, [*words, *more])


def sections(page):
    """Of each section with Python in it: its blocks, each with the text that it has to print, where that is said."""
    found = [(part.partition("\n")[0], part) for part in TEXT[page].split("\n## ")]
    pattern = re.compile(r"^```python\n(.*?)^```$(?:\n\n```\n(.*?)^```$)?", flags=re.DOTALL | re.MULTILINE)
    return {title: pattern.findall(part) for title, part in found if blocks(part, "python")}


def run(codes):
    """What each of these blocks prints, run in order."""
    found, names = [], {"__name__": "document"}
    for code in codes:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        found.append(out.getvalue())
    return found


def run_apart(codes):
    """The same in a process of its own, for what configures a framework."""
    script = f"import contextlib, io, json, sys\n{inspect.getsource(run)}print(json.dumps(run(json.load(sys.stdin))))"
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps(codes), capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def reader(here, runs=("cpu-2-cores", "cpu-2-cores")):
    """Where a reader may be: a checkout with the reference Runs, two Runs A and B, A with a profile, two revisions with
    interpreters, a net, and files of pytest-benchmark."""
    shutil.copytree(REFERENCE, here / "results/reference")
    for name, source in zip("AB", runs, strict=True):
        shutil.copytree(REFERENCE / source, here / "results" / name)
    row = "owt,{},{},9,torch,eager,forward,{},{},100"
    columns = "variant,layer,kind,height,framework,mode,pass,center_ms,intensity,gflop_per_s"
    rows = [columns, row.format("conv1", "conv", 4, 50), row.format("fc6", "fc", 1, 2)]
    (here / "results/A/profile.csv").write_text("\n".join(rows))
    (here / "floor").symlink_to(here / "results/reference")
    (here / "examples").symlink_to(ROOT / "examples")
    for side in (here, here / "old", here / "new", here.parent / "base"):
        (side / "bin").mkdir(parents=True)
        (side / "bin/python").symlink_to(sys.executable)
        (side / "impls").symlink_to(ROOT / "impls")
    (((net, _),),) = sections("docs/adding.md").values()
    (here / "mine.py").write_text(net)
    sessions = re.findall(r"--benchmark-json=\.\./((?:base|head)-\d\.json)", TEXT["docs/ci.md"])
    numbered = [f".benchmarks/Linux-CPython-3.11-64bit/{name}.json" for name in ("0001_before", "0002_after")]
    for minute, name in enumerate([*sessions, *numbered]):
        session = {"name": "test_it", "fullname": "test_speed.py::test_it", "stats": {"data": [0.1, 0.12, 0.12, 0.1]}}
        stored = {"machine_info": {}, "datetime": f"2026-01-01T00:{minute:02}:00", "benchmarks": [session]}
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(json.dumps(stored))
    return here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return reader(tmp_path_factory.mktemp("reader") / "checkout")


class TestCommands:
    @pytest.mark.parametrize(("page", "command", "comment"), of(*PAGES, pattern="alexnet-bench "))
    def test_a_command_parses(self, page, command, comment):
        name, *args = shlex.split(command)[1:]
        main.commands[name].make_context(name, args)

    @pytest.mark.parametrize(("page", "command", "comment"), of(*PAGES))
    def test_a_line_is_run_or_planned_or_there_is_a_reason_why_not(self, page, command, comment):
        kinds = [pattern for pattern in (*DONE.values(), *NOT_DONE) if re.match(pattern, command)]
        assert len(kinds) == 1, "run it, or say in NOT_DONE why not"

    @pytest.mark.parametrize("pattern", [*DONE.values(), *NOT_DONE])
    def test_no_kind_of_line_is_left_without_a_line(self, pattern):
        assert of(*PAGES, pattern=pattern)

    @pytest.mark.parametrize("page", sorted({one.values[0] for one in of(*PAGES, pattern=DONE["run"])}))
    def test_what_times_nothing_does_in_the_order_of_its_page_what_it_says(self, tmp_path, monkeypatch, page):
        runs = ("aa-1", "aa-2") if page == "docs/ci.md" else ("cpu-2-cores", "cpu-2-cores")
        monkeypatch.chdir(reader(tmp_path / "checkout", runs))
        for _, command, comment in (one.values for one in of(page, pattern=DONE["run"])):
            words, result = invoke(command)
            said = re.search(r"exit (\d)", comment)
            assert result.exit_code == (int(said[1]) if said else 0), f"{command}: {result.output}"
            if "--output" in words:
                assert Path(words[words.index("--output") + 1]).stat().st_size, command

    @pytest.mark.parametrize(("page", "command", "comment"), of(*PAGES, pattern=DONE["planned"]))
    def test_a_run_can_be_planned(self, folder, monkeypatch, page, command, comment):
        monkeypatch.chdir(folder)
        monkeypatch.setattr("bench.controller.estimate.matrix_flops", lambda: 1e11)  # nothing is timed here
        _, result = invoke(command, "--dry-run")
        if "is not installed" in result.output:
            pytest.skip(f"{command}: {result.output.strip()}")
        assert result.exit_code == 0, result.output
        assert "expected" in result.output

    def test_sessions_in_the_order_of_the_recipe_are_decided(self, tmp_path, monkeypatch):
        monkeypatch.chdir(reader(tmp_path / "checkout"))
        recipe = of("docs/ci.md", pattern=r"alexnet-bench (ingest (base|head)-1|compare results/\*-base)")
        *_, last = [invoke(one.values[1])[1].output for one in recipe]
        assert re.search(r"test_it .*SAME", last), last

    def test_every_command_kind_and_format_is_shown(self):
        shown = "\n".join(command for page in PAGES for command, _ in lines(TEXT[page]))
        assert [name for name in main.commands if f"alexnet-bench {name}" not in shown] == []
        assert [kind for kind in kinds.KINDS if not re.search(rf"--kind {kind}\b", shown)] == []
        assert [name for name in formats.FORMATS if f"--format {name}" not in shown] == []

    @pytest.mark.parametrize(
        "target", sorted({one for page in PAGES for one in re.findall(r"(?:^|`|&& )make ([a-z-]+)", TEXT[page], re.M)})
    )
    def test_a_make_target_exists_and_has_help(self, target):
        assert re.search(rf"^{target}:.*## ", TEXT["Makefile"], flags=re.MULTILINE)

    def test_make_knows_the_variables_that_it_is_given(self):
        made = [command for page in PAGES for command, _ in lines(TEXT[page]) if "make " in command]
        given = set(re.findall(r"\b([A-Z_]+)=", " ".join(made)))
        assert "VARIANT" in given
        assert [name for name in given if not re.search(rf"\b{name}\b", TEXT["Makefile"])] == []


class TestPython:
    @pytest.mark.parametrize("title", sections("docs/python.md"))
    def test_a_section_runs_and_prints_what_stands_below(self, folder, monkeypatch, title):
        monkeypatch.chdir(folder)
        codes, expected = zip(*sections("docs/python.md")[title], strict=True)
        if apart := any('impls.load("torch")' in code for code in codes):
            pytest.importorskip("torch")
        for found, said in zip((run_apart if apart else run)(codes), expected, strict=True):
            assert said in ("", found)

    def test_the_net_of_the_page_can_be_timed(self, folder, monkeypatch):
        pytest.importorskip("torch")
        monkeypatch.chdir(folder)
        (net,) = read_nets(["mine.py:build"])
        mine = net.guest()
        assert (mine.framework, mine.takes_weights) == ("torch", False)
        assert run_apart([TIMED]) == ["(2, 1000) 5\n"]

    @pytest.mark.parametrize(
        ("name", "said"), re.findall(r"^\| `((?:bench|impls)\.[\w.]+)(.*?)` \|", TEXT["docs/python.md"], re.MULTILINE)
    )
    def test_a_documented_name_is_there_and_takes_what_is_said(self, name, said):
        found = named(name)
        taken = [one for one in inspect.signature(found).parameters if one != "self"] if said else []
        assert re.findall(r"\w+", said) == taken[: len(re.findall(r"\w+", said))]

    def test_a_run_and_a_case_have_what_is_said_of_them(self):
        made = Run(REFERENCE / "cpu-2-cores")
        for name, one in (("bench.record.run.Run(folder)", made), ("bench.cases.case.Case", made.cases[0])):
            (row,) = re.findall(rf"^\| `{re.escape(name)}` \|(.*)", TEXT["docs/python.md"], flags=re.MULTILINE)
            attributes = re.findall(r"`\.(\w+)`", row)
            assert attributes
            assert [attribute for attribute in attributes if not hasattr(one, attribute)] == []


TIMED = """
from impls.net import Build, resident_batches
from impls.variants import VARIANTS
from bench.worker import guest

variant, how = VARIANTS["owt"].resized(67), Build(2, "cpu", "fp32", "eager", "nchw")
net = guest.build("mine.py", "build", variant, {}, how)
net.load(resident_batches(how, 67))
logits, handles = net.forward(), net.forward_backward()
net.wait(handles)
print(tuple(logits.shape), len(handles))
"""


def named(name):
    """The object of a dotted name."""
    module, _, rest = name.partition(".")
    found = importlib.import_module(module)
    for part in rest.split("."):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


class TestFigures:
    """What a page repeats of the code or of a Run."""

    def test_the_table_of_nets_is_the_variants(self):
        rows = re.findall(r"^\| (\w+).*\| ([\d,]+) \| ([\d,]+) \|$", README, flags=re.MULTILINE)
        assert {name: (params, macs) for name, params, macs in rows} == {
            variant.name: (f"{variant.params:,}", f"{variant.macs:,}") for variant in VARIANTS.values()
        }

    def test_the_result_is_what_its_run_says(self, capsys):
        made = Run(REFERENCE / "cpu-2-cores")
        run_table.run_table(made, within(made))
        table = [line.rstrip() for line in capsys.readouterr().out.partition("Inside the clock")[0].splitlines()]
        assert "\n".join(table).strip() in README

    def test_the_row_that_is_read_is_one_of_the_result(self):
        result, _, reading = README.partition("## How to read a row")
        (line,) = re.findall(r"^.*1\.158 \[.*$", result, flags=re.MULTILINE)
        quoted = re.findall(r"^\| `(.+?)` \|", reading.partition("\n## ")[0], flags=re.MULTILINE)
        assert re.split(r"  +", line.strip()) == ["jax jit", *quoted[:3], " ".join(quoted[3:5])]
        assert f"jax jit             {quoted[5]}\n" in result
        row = next(row for row in Run(REFERENCE / "cpu-2-cores").rows() if f"{row['mean_ms']:.1f}" == "590.5")
        assert f"center of the row, {row['center_ms']:.1f} ms" in reading
        assert [row["flags"]] == [" ".join(quoted[6:])]

    @pytest.mark.parametrize(("name", "code"), [("aa-1", 0), ("slowdown-5-percent", 1)])
    def test_what_is_said_of_known_runs_is_what_compare_says(self, name, code):
        result = CliRunner().invoke(main, ["compare", str(REFERENCE / name)])
        assert result.exit_code == code, result.output
        shown = MEASUREMENT.partition(f"$ alexnet-bench compare results/reference/{name}\n")[2].splitlines()[0]
        assert shown.rstrip() in [line.rstrip() for line in result.stdout.splitlines()]

    def test_every_field_of_the_protocol_is_told_with_its_default(self):
        table = MEASUREMENT.partition("### What can be changed")[2].partition("\n## ")[0]
        said = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|", table, flags=re.MULTILINE))
        fields = dataclasses.asdict(Protocol()).items()
        assert {name: str(value).strip("()") for name, value in fields} == {
            k: v for k, v in said.items() if k != "field"
        }

    def test_the_limits_are_those_of_the_proof(self):
        limits = {**parity.LIMITS, "fp32, images with ties": parity.LOOSE}
        kinds = ("logits", "loss", "gradient", "norm", "state")
        for name, allowed in limits.items():
            cells = " | ".join(f"{allowed[kind]:g}" if kind in allowed else "" for kind in kinds)
            assert f"| {name} | {cells} |".replace("|  |", "| |") in EQUIVALENCE

    def test_the_tables_of_columns_are_written_from_the_columns(self):
        assert column_help.documented(TEXT["results/README.md"]) == TEXT["results/README.md"], "run `make columns`"

    def test_every_column_of_a_summary_is_explained(self):
        text = TEXT["results/README.md"]
        assert [name for name in names(COLUMNS) if not re.search(rf"\b{name}\b", text)] == []


class TestLinks:
    @pytest.mark.parametrize("page", LINKING)
    def test_a_link_leads_to_a_file_and_to_a_heading_of_it(self, page):
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", TEXT[page], flags=re.DOTALL | re.MULTILINE)
        for link, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose):
            target = (ROOT / page).parent / link if link else ROOT / page
            assert target.exists(), f"{page}: {link}"
            assert not heading or heading in anchors(target.read_text()), f"{page}: {link}#{heading}"

    @pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
    def test_a_page_can_be_found_from_the_readme(self, page):
        assert f"]({page}" in README

    @pytest.mark.parametrize("page", LINKING)
    def test_no_page_names_a_path_of_one_machine(self, page):
        assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/\S*", TEXT[page]) == []


def anchors(text):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
