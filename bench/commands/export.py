"""`export`: convert a Run to the format of another program."""

from bench import UsageError
from bench.cases.parse import parse_choice
from bench.commands.requests import ExportRequest
from bench.output import console
from bench.output.formats import FORMATS, WHOLE, write
from bench.record.run import Run


def main(request: ExportRequest) -> int:
    name = parse_choice("format", request.format, FORMATS)
    run = Run(request.run)
    console.tell_problems(run)
    invalid = {case.id: reason for case in run.cases if (reason := run.invalid_reason(case))}
    if len(invalid) == len(run.cases):
        raise UsageError(f"{run.folder}: no valid case to export; {'; '.join(dict.fromkeys(invalid.values()))}")
    for case_id, reason in invalid.items() if name not in WHOLE else ():
        console.tell(f"{case_id} is left out: {reason}")
    text = FORMATS[name](run)
    if request.output:
        write(request.output, text + "\n")
        console.tell(f"wrote {request.output}")
    else:
        console.say(text)
    return 0
