"""Documents: commands are run, planned or parsed, Python blocks run, links lead to headings, tables match the code."""

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

import albums
import column_help
import fleets
import pytest
import runs as synthetic
import teams
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
from bench.stats import projection
from bench.stats.links import PUBLISHED
from bench.worker.net_file import read_nets
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))]
NOTES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/decisions/*.md"))
LINKING = ["CONTRIBUTING.md", "results/README.md", *PAGES, *NOTES]
TEXT = {name: (ROOT / name).read_text() for name in [*LINKING, "Makefile"]}
README, MEASUREMENT, EQUIVALENCE = (TEXT[name] for name in ("README.md", "docs/measurement.md", "docs/equivalence.md"))
SCALING = TEXT["docs/scaling.md"]
REFERENCE = ROOT / "results/reference"
#: How a line of shell is tested, by pattern: one that starts no Worker is run, a `run` is planned (--dry-run).
EXECUTED = {
    "run": r"alexnet-bench (data|compare|memory|merge|plot|report|export|ingest|scale) |"
    r"alexnet-bench layers (?!.*--framework)",
    "planned": r"alexnet-bench run (?!.*--(resume|weights|nodes|input results) ?)",
}
#: Lines that are not executed, and why; those of alexnet-bench are parsed.
NOT_EXECUTED = {
    r"alexnet-bench (env|verify|profile|selftest|train|predict|gpu-check)\b": "they start Workers; see tests/commands",
    r"alexnet-bench layers .*--framework ": "starts Workers",
    r"alexnet-bench run .*--(resume|weights) ": "needs a Run that was cut off, or Caffe's file",
    r"alexnet-bench run .*--nodes ": "needs other machines; tests/controller/test_nodes.py has Workers behind a prefix",
    r"alexnet-bench run .*--input results/": "needs the drawn flowers; tests/test_walk.py runs it",
    r"make [a-z-]+( |$)": "target and variables are looked up in the Makefile",
    r"git (clone|worktree) ": "a repository of the reader's own",
    r"\(cd \w+ && pytest ": "a suite of the reader's own; tests/commands/test_ingest.py tests files like its own",
    r"(sbatch|kubectl) ": "needs a cluster; tests/test_recipes.py tests what is given to it",
    r"alexnet-bench sweep .*--on |(RAY_AUTH_MODE=token )?ray ": "needs a cluster; tests/scale/test_ray.py starts one",
    r"bencher run ": "needs an account",
    r"export PIP_EXTRA_INDEX_URL=": "is for the reader's shell",
}


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def shell_lines(text):
    """(command, comment) per line of the shell blocks."""
    whole = "\n".join(blocks(text, "sh")).replace("\\\n", " ")
    parts = [line.partition("  #") for line in whole.splitlines()]
    return [(command.strip(), comment.strip()) for command, _, comment in parts if command.strip()]


def line_params(*pages, pattern=""):
    """The matching shell lines as test parameters (page, command, comment), without the path of .venv."""
    rows = [
        (page, command.removeprefix(".venv/bin/"), comment)
        for page in pages
        for command, comment in shell_lines(TEXT[page])
    ]
    return [pytest.param(*row, id=": ".join(row[:2])) for row in rows if re.match(pattern, row[1])]


def invoke(command, *more):
    """The words of a command with globs expanded, and its result."""
    words = [path for word in shlex.split(command)[1:] for path in sorted(glob.glob(word)) or [word]]
    return words, CliRunner().invoke(main, [*words, *more])


def sections(page):
    """By title of each section with Python: its blocks, each with its documented output or an empty text."""
    parts = [(part.partition("\n")[0], part) for part in TEXT[page].split("\n## ")]
    pattern = re.compile(r"^```python\n(.*?)^```$(?:\n\n```\n(.*?)^```$)?", flags=re.DOTALL | re.MULTILINE)
    return {title: pattern.findall(part) for title, part in parts if blocks(part, "python")}


def run(codes):
    """The output of each of these blocks, run in order."""
    outputs, names = [], {"__name__": "document"}
    for code in codes:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, names)
        outputs.append(out.getvalue())
    return outputs


def run_in_child(codes):
    """The same in a child process, for blocks that configure a framework."""
    script = f"import contextlib, io, json, sys\n{inspect.getsource(run)}print(json.dumps(run(json.load(sys.stdin))))"
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps(codes), capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def reader(here, runs=("cpu-2-cores", "cpu-2-cores")):
    """A reader's folder: a checkout with the reference Runs, Runs A and B, A with a profile, Runs with loaders and on
    two devices, a grid in shards, a training and a prediction, two revisions with interpreters, a net, files of
    pytest-benchmark."""
    shutil.copytree(REFERENCE, here / "results/reference")
    for name, source in zip("AB", runs, strict=True):
        shutil.copytree(REFERENCE / source, here / "results" / name)
    row = "owt,{},{},9,torch,eager,forward,{},{},100"
    columns = "variant,layer,kind,height,framework,mode,pass,center_ms,intensity,gflop_per_s"
    rows = [columns, row.format("conv1", "conv", 4, 50), row.format("fc6", "fc", 1, 2)]
    (here / "results/A/profile.csv").write_text("\n".join(rows))
    step = dataclasses.replace(synthetic.A, pass_="train_step")
    slots = [dataclasses.replace(step, pass_=name, loader=2) for name in ("load", "fed")]
    for name in ("loaders", "0-half_width"):
        synthetic.make(here / "results" / name, [step, *slots]).write()
    teams.make(here / "results/teams")
    fleets.shards(here / "results/grid", 8)
    albums.trained(here / "results").rename(here / "results/0-walk")
    albums.predicted(here / "results").rename(here / "results/0-predict-half_width")
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
    @pytest.mark.parametrize(("page", "command", "comment"), line_params(*PAGES, pattern="alexnet-bench "))
    def test_a_command_parses(self, page, command, comment):
        name, *args = shlex.split(command)[1:]
        main.commands[name].make_context(name, args)

    @pytest.mark.parametrize(("page", "command", "comment"), line_params(*PAGES))
    def test_every_line_is_run_or_planned_or_has_a_reason_why_not(self, page, command, comment):
        kinds = [pattern for pattern in (*EXECUTED.values(), *NOT_EXECUTED) if re.match(pattern, command)]
        assert len(kinds) == 1, "expected one pattern; run the line, or give a reason in NOT_EXECUTED"

    @pytest.mark.parametrize("pattern", [*EXECUTED.values(), *NOT_EXECUTED])
    def test_every_pattern_matches_a_line(self, pattern):
        assert line_params(*PAGES, pattern=pattern)

    @pytest.mark.parametrize("page", sorted({row.values[0] for row in line_params(*PAGES, pattern=EXECUTED["run"])}))
    def test_commands_that_time_nothing_end_with_the_exit_code_that_their_page_gives(self, tmp_path, monkeypatch, page):
        runs = ("aa-1", "aa-2") if page == "docs/ci.md" else ("cpu-2-cores", "cpu-2-cores")
        monkeypatch.chdir(reader(tmp_path / "checkout", runs))
        for _, command, comment in (row.values for row in line_params(page, pattern=EXECUTED["run"])):
            words, result = invoke(command)
            code = re.search(r"exit (\d)", comment)
            assert result.exit_code == (int(code[1]) if code else 0), f"{command}: {result.output}"
            if "--output" in words:
                assert Path(words[words.index("--output") + 1]).stat().st_size, command

    @pytest.mark.parametrize(("page", "command", "comment"), line_params(*PAGES, pattern=EXECUTED["planned"]))
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
        recipe = line_params("docs/ci.md", pattern=r"alexnet-bench (ingest (base|head)-1|compare results/\*-base)")
        *_, last = [invoke(row.values[1])[1].output for row in recipe]
        assert re.search(r"test_it .*SAME", last), last

    def test_every_command_plot_kind_and_format_is_on_a_page(self):
        shown = "\n".join(command for page in PAGES for command, _ in shell_lines(TEXT[page]))
        assert [name for name in main.commands if f"alexnet-bench {name}" not in shown] == []
        assert [kind for kind in kinds.KINDS if not re.search(rf"--kind {kind}\b", shown)] == []
        assert [name for name in formats.FORMATS if f"--format {name}" not in shown] == []

    @pytest.mark.parametrize(
        "target",
        sorted({name for page in PAGES for name in re.findall(r"(?:^|`|&& )make ([a-z-]+)", TEXT[page], re.M)}),
    )
    def test_a_make_target_exists_and_has_help(self, target):
        assert re.search(rf"^{target}:.*## ", TEXT["Makefile"], flags=re.MULTILINE)

    def test_variables_given_to_make_are_in_the_makefile(self):
        commands = [command for page in PAGES for command, _ in shell_lines(TEXT[page]) if "make " in command]
        given = set(re.findall(r"\b([A-Z_]+)=", " ".join(commands)))
        assert "VARIANT" in given
        assert [name for name in given if not re.search(rf"\b{name}\b", TEXT["Makefile"])] == []


class TestPython:
    @pytest.mark.parametrize("title", sections("docs/python.md"))
    def test_a_section_runs_and_prints_the_output_shown_below(self, folder, monkeypatch, title):
        monkeypatch.chdir(folder)
        codes, expected = zip(*sections("docs/python.md")[title], strict=True)
        if in_child := any('impls.load("torch")' in code for code in codes):
            pytest.importorskip("torch")
        for output, documented in zip((run_in_child if in_child else run)(codes), expected, strict=True):
            assert documented in ("", output)

    def test_the_net_of_the_page_can_be_timed(self, folder, monkeypatch):
        pytest.importorskip("torch")
        monkeypatch.chdir(folder)
        (net,) = read_nets(["mine.py:build"])
        guest = net.guest()
        assert (guest.framework, guest.takes_weights) == ("torch", False)
        assert run_in_child([TIMED]) == ["(2, 1000) 5\n"]

    @pytest.mark.parametrize(
        ("name", "signature"),
        re.findall(r"^\| `((?:bench|impls)\.[\w.]+)(.*?)` \|", TEXT["docs/python.md"], re.MULTILINE),
    )
    def test_a_documented_name_exists_and_has_the_documented_parameters(self, name, signature):
        documented = re.findall(r"\w+", signature)
        target = resolve(name)
        parameters = [word for word in inspect.signature(target).parameters if word != "self"] if signature else []
        assert documented == parameters[: len(documented)]

    def test_a_run_and_a_case_have_the_documented_attributes(self):
        run = Run(REFERENCE / "cpu-2-cores")
        for name, value in (("bench.record.run.Run(folder)", run), ("bench.cases.case.Case", run.cases[0])):
            (row,) = re.findall(rf"^\| `{re.escape(name)}` \|(.*)", TEXT["docs/python.md"], flags=re.MULTILINE)
            attributes = re.findall(r"`\.(\w+)`", row)
            assert attributes
            assert [attribute for attribute in attributes if not hasattr(value, attribute)] == []


TIMED = """
from impls.net import Build, resident_batches
from impls.variants import VARIANTS
from bench.worker import guest, net_file

variant, how = VARIANTS["owt"].resized(67), Build(2, "cpu", "fp32", "eager", "nchw")
net = guest.build(net_file.read_nets(["mine.py:build"])[0].guest(), variant, {}, how)
net.load(resident_batches(how, 67))
logits, handles = net.forward(), net.forward_backward()
net.wait(handles)
print(tuple(logits.shape), len(handles))
"""


def resolve(name):
    """The object with a dotted name."""
    module, _, rest = name.partition(".")
    value = importlib.import_module(module)
    for part in rest.split("."):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(f"{value.__name__}.{part}")
        value = getattr(value, part)
    return value


class TestFigures:
    """Figures and tables that a page repeats from the code or from a Run."""

    def test_the_table_of_nets_is_the_variants(self):
        rows = re.findall(r"^\| (\w+).*\| ([\d,]+) \| ([\d,]+) \|$", README, flags=re.MULTILINE)
        assert {name: (params, macs) for name, params, macs in rows} == {
            variant.name: (f"{variant.params:,}", f"{variant.macs:,}") for variant in VARIANTS.values()
        }

    def test_the_readme_shows_the_table_of_its_run(self, capsys):
        run = Run(REFERENCE / "cpu-2-cores")
        run_table.run_table(run, within(run))
        table = [line.rstrip() for line in capsys.readouterr().out.partition("Inside the clock")[0].splitlines()]
        assert "\n".join(table).strip() in README

    def test_the_explained_row_is_in_the_readme_table(self):
        result, _, reading = README.partition("## How to read a row")
        (line,) = re.findall(r"^.*1\.158 \[.*$", result, flags=re.MULTILINE)
        quoted = re.findall(r"^\| `(.+?)` \|", reading.partition("\n## ")[0], flags=re.MULTILINE)
        assert re.split(r"  +", line.strip()) == ["jax jit", *quoted[:3], " ".join(quoted[3:5])]
        assert f"jax jit             {quoted[5]}\n" in result
        row = next(row for row in Run(REFERENCE / "cpu-2-cores").rows() if f"{row['mean_ms']:.1f}" == "590.5")
        assert f"center of the row, {row['center_ms']:.1f} ms" in reading
        assert [row["flags"]] == [" ".join(quoted[6:])]

    @pytest.mark.parametrize(("name", "code"), [("aa-1", 0), ("slowdown-5-percent", 1)])
    def test_documented_verdicts_of_stored_runs_are_those_of_compare(self, name, code):
        result = CliRunner().invoke(main, ["compare", str(REFERENCE / name)])
        assert result.exit_code == code, result.output
        shown = MEASUREMENT.partition(f"$ alexnet-bench compare results/reference/{name}\n")[2].splitlines()[0]
        assert shown.rstrip() in [line.rstrip() for line in result.stdout.splitlines()]

    def test_every_field_of_the_protocol_is_documented_with_its_default(self):
        table = MEASUREMENT.partition("### What can be changed")[2].partition("\n## ")[0]
        documented = dict(re.findall(r"^\| (\w+) \| ([^|]+) \|", table, flags=re.MULTILINE))
        fields = dataclasses.asdict(Protocol()).items()
        assert {name: str(value).strip("()") for name, value in fields} == {
            name: text for name, text in documented.items() if name != "field"
        }

    def test_the_limits_are_those_of_the_proof(self):
        limits = {**parity.LIMITS, "fp32, images with ties": parity.LOOSE}
        kinds = ("logits", "loss", "gradient", "norm", "state")
        for name, allowed in limits.items():
            cells = " | ".join(f"{allowed[kind]:g}" if kind in allowed else "" for kind in kinds)
            assert f"| {name} | {cells} |".replace("|  |", "| |") in EQUIVALENCE

    def test_the_tables_of_columns_are_up_to_date(self):
        assert column_help.documented(TEXT["results/README.md"]) == TEXT["results/README.md"], "run `make columns`"

    def test_the_projected_steps_are_those_of_the_projection(self):
        rows = re.findall(r"^\| (\w+) \| (\d+) \| (.+) ms \| (.+%) \| (.+%) \| (.+%) \|$", SCALING, flags=re.MULTILINE)
        assert len(rows) == 5
        net = VARIANTS["owt"]
        for link, devices, *told in rows:
            long, short = (
                projection.project(net, projection.Step.of(net, "train_step", 128, ms), PUBLISHED[link], int(devices))
                for ms in (4.0, 1.75)
            )
            shares = (long.efficiency, short.efficiency, short.plain_efficiency)
            assert told == [f"{long.reduction_ms:.3g}", *(f"{share:.0%}" for share in shares)]

    def test_every_column_of_a_summary_is_explained(self):
        text = TEXT["results/README.md"]
        assert [name for name in names(COLUMNS) if not re.search(rf"\b{name}\b", text)] == []


class TestLinks:
    @pytest.mark.parametrize("page", LINKING)
    def test_links_lead_to_existing_files_and_headings(self, page):
        prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", TEXT[page], flags=re.DOTALL | re.MULTILINE)
        for link, heading in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", prose):
            target = (ROOT / page).parent / link if link else ROOT / page
            assert target.exists(), f"{page}: {link}"
            assert not heading or heading in anchors(target.read_text()), f"{page}: {link}#{heading}"

    @pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
    def test_the_readme_links_to_every_page(self, page):
        assert f"]({page}" in README

    @pytest.mark.parametrize("page", LINKING)
    def test_no_page_has_an_absolute_path(self, page):
        assert re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users|mnt|opt)/\S*", TEXT[page]) == []


def anchors(text):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
