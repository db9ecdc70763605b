"""Run the command lines of lines.json, in order, in a process with a third pass.

The output of each line is written to a file of its name; the first that fails ends the process with its error.
"""

import dataclasses
import glob
import json
from pathlib import Path

from click.testing import CliRunner

from bench.cases.passes import PASSES, Difference

#: Runs like forward_backward, so that every Net and proof supports it; all other fields differ.
THIRD = dataclasses.replace(
    PASSES["forward_backward"],
    name="train_step",
    title="forward and update",
    phrase="a training step",
    inside="forward, backward and an update",
    outside="input copies",
    difference=Difference(name="update", title="update", stages=(), less="forward_backward"),
)


def main() -> None:
    PASSES[THIRD.name] = THIRD
    from bench.commands import cli  # after the new pass, which its help names

    for name, line in json.loads(Path("lines.json").read_text()).items():
        words = [word for part in line.split() for word in (glob.glob(part) if "*" in part else [part])]
        done = CliRunner().invoke(cli.main, words, env={"COLUMNS": "200"})
        if done.exit_code:
            raise SystemExit(f"{line}: {done.output} {done.exception!r}")
        Path(f"{name}.txt").write_text(done.output)


if __name__ == "__main__":
    main()
