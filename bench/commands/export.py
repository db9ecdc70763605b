"""`export`: a Run in the format of another program. Its words are translated here and nowhere else: a round of
pytest-benchmark is an iteration of ours, and its iterations are 1."""

from pathlib import Path
from typing import Any

from bench import UsageError
from bench.cases.parse import parse_choice
from bench.output import console
from bench.output.formats import FORMATS, WHOLE, write
from bench.record.run import Run
from impls.caffe import one_line

LONGEST = 10_000  # characters of a line on stderr


def main(asked: dict[str, Any]) -> int:
    name = parse_choice("format", asked["format"], FORMATS)
    run = Run(Path(asked["run"]))
    console.tell_problems(run)
    invalid = {case.id: reason for case in run.cases if (reason := run.invalid_reason(case))}
    if len(invalid) == len(run.cases):
        raise UsageError(
            f"{run.folder}: no valid case to export; {one_line('; '.join(dict.fromkeys(invalid.values())), LONGEST)}"
        )
    for case_id, reason in invalid.items() if name not in WHOLE else ():
        console.tell(one_line(f"{case_id} is left out: {reason}", LONGEST))
    text = FORMATS[name](run)
    if asked["output"]:
        write(Path(asked["output"]), text + "\n")
        console.tell(f"wrote {asked['output']}")
    else:
        print(text)
    return 0
