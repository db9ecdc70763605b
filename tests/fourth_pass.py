"""Run the command lines of lines.json, in order, in a process with a fourth pass.

The output of each line is written to a file of its name; the first that fails ends the process with its error.
"""

import dataclasses
import glob
import json
from pathlib import Path

from click.testing import CliRunner

from bench.cases import passes
from bench.cases.passes import PASSES, Difference
from impls.variants import Variant

ROWS = 4  # of the profiled net, conv1 first: Workers know them all

#: Runs like forward_backward, so that every Net and proof supports it; all other fields differ.
FOURTH = dataclasses.replace(
    PASSES["forward_backward"],
    name="fourth_pass",
    title="fourth pass",
    phrase="the fourth pass",
    inside="forward, backward and something else",
    outside="input copies",
    difference=Difference(
        name="fourth_part",
        title="fourth_part",
        stages=(),
        less="forward_backward",
        includes="nothing else",
    ),
)


def main() -> None:
    PASSES[FOURTH.name] = FOURTH
    passes.DEFAULT_PASSES += (FOURTH.name,)
    parts = Variant.parts
    Variant.parts = lambda self: parts(self)[:ROWS]  # type: ignore[method-assign]
    from bench.commands import cli  # after the new pass, which its help names

    for name, line in json.loads(Path("lines.json").read_text()).items():
        words = [word for part in line.split() for word in (glob.glob(part) if "*" in part else [part])]
        done = CliRunner().invoke(cli.main, words, env={"COLUMNS": "200"})
        if done.exit_code:
            raise SystemExit(f"{line}: {done.output} {done.exception!r}")
        Path(f"{name}.txt").write_text(done.output)


if __name__ == "__main__":
    main()
