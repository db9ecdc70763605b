"""docs/pictures.md: each command of its walk, in order, on the drawn flowers in all frameworks, with little to do."""

import glob
import os
import re
import shlex
import subprocess
import sys

import pytest
from paths import ROOT

pytestmark = pytest.mark.process
#: Smaller than the page's: in place of the value that its line names, else by the environment.
SMALL = {
    "EPOCHS": "1",
    "SIZE": "67",
    "BATCH": "8",
    "ROUNDS": "1",
    "ITERATIONS": "2",
    "BURN_IN": "1",
}
COMMANDS = {"data": (), "train": ("EPOCHS", "SIZE"), "predict": (), "run": tuple(SMALL)[1:], "report": ()}


def small(words, options):
    """The words of a line, with the small values of these options; and of those that it does not name."""
    words = list(words)
    named = {option: f"--{option.lower().replace('_', '-')}" for option in options}
    for option, word in named.items():
        if word in words:
            words[words.index(word) + 1] = SMALL[option]
    return words, {f"ALEXNET_BENCH_{option}": SMALL[option] for option, word in named.items() if word not in words}


def walk():
    text = (ROOT / "docs/pictures.md").read_text().partition("## The walk")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in block.splitlines()]


@pytest.mark.timeout(1200)  # 3.5 minutes on 2 idle cores
def test_every_command_of_the_walk_does_what_the_page_says(tmp_path, tmp_path_factory):
    done, scratch = {}, tmp_path_factory.mktemp("w")  # short: torch's loaders have sockets in it
    for line in walk():
        program, name, *words = shlex.split(line)
        assert program == "alexnet-bench"
        words = [path for word in words for path in sorted(glob.glob(word, root_dir=tmp_path)) or [word]]
        words, env = small(words, COMMANDS[name])
        run = subprocess.run(
            [sys.executable, "-m", "bench", name, *words],
            cwd=tmp_path,
            env={**os.environ, **env, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert run.returncode == 0, (line, run.stderr)
        done[name] = run
    assert list(done) == list(COMMANDS)
    results = tmp_path / "results"
    assert (results / "data-flowers.png").exists()
    assert "600" in done["data"].stdout
    assert {path.parent.name for path in results.glob("*-walk/*/best.safetensors")} == {"torch", "tensorflow", "jax"}
    (record,) = results.glob("*/record.csv")
    rows = record.read_text().splitlines()
    assert len(rows) == 1 + 3 * 115  # held-out pictures, in three frameworks
    assert "Largest difference of logits" in done["predict"].stdout
    assert "What the step waits for them" in done["run"].stdout
    page = (tmp_path / "report.html").read_text()
    assert "What the step waits for them" in page
    for plate in ("A batch.", "Curves.", "Confusion.", "Worst mistakes."):
        assert f"<strong>{plate}</strong>" in page
