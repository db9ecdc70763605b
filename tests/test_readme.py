"""Every command in the README exists and parses; every figure in its table is the rows' own."""

import re
import shlex

import pytest
from click.testing import CliRunner
from conftest import ROOT

from bench.cli import main
from impls.variants import VARIANTS

README = (ROOT / "README.md").read_text()
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
LINES = [line.partition("  #")[0].strip() for line in BLOCKS.splitlines()]


@pytest.mark.parametrize("line", [line for line in LINES if "alexnet-bench " in line])
def test_a_command_in_the_readme_parses(line):
    name, *args = shlex.split(line)[1:]
    main.commands[name].make_context(name, args)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", README, flags=re.MULTILINE))))
def test_a_make_target_in_the_readme_exists_and_has_help(target):
    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_the_table_of_nets_is_the_variants():
    rows = re.findall(r"^\| (\w+).*\| ([\d,]+) \| ([\d,]+) \|$", README, flags=re.MULTILINE)
    assert {name: (params, macs) for name, params, macs in rows} == {
        variant.name: (f"{variant.params:,}", f"{variant.macs:,}") for variant in VARIANTS.values()
    }


def test_every_file_the_documents_point_to_is_there():
    for document in ("README.md", "CONTRIBUTING.md", "results/README.md"):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / document).read_text()):
            assert (ROOT / document).parent.joinpath(link).exists(), f"{document}: {link}"


def test_every_column_of_a_summary_is_explained():
    from bench.rows import COLUMNS

    text = (ROOT / "results/README.md").read_text()
    assert [column for column in COLUMNS if not re.search(rf"\b{column}\b", text)] == []


def test_the_result_in_the_readme_is_what_its_run_says(capsys):
    from bench import screen
    from bench.pairs import within
    from bench.results import Run

    run = Run(ROOT / "results/reference/cpu-2-cores")
    screen.run_table(run, within(run))
    table = [line.rstrip() for line in capsys.readouterr().out.partition("Inside the clock")[0].splitlines()]
    assert "\n".join(table).strip() in README


@pytest.mark.parametrize(("name", "code"), [("aa-1", 0), ("slowdown-5-percent", 1)])
def test_what_the_readme_says_of_known_runs_is_what_compare_says(name, code):
    result = CliRunner().invoke(main, ["compare", str(ROOT / "results/reference" / name)])
    assert result.exit_code == code, result.output
    shown = README.partition(f"$ alexnet-bench compare results/reference/{name}\n")[2].splitlines()[0]
    assert shown.rstrip() in [line.rstrip() for line in result.stdout.splitlines()]
