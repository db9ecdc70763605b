"""`compare`: verdicts for the Cases of two Runs, or for the pairs within one Run; with an exit code."""

from bench import UsageError
from bench.cases.parse import parse_choice, split_list
from bench.commands.requests import CompareRequest
from bench.output import console, reproduce
from bench.output.verdicts import exit_code, markdown, show, spread_unknown
from bench.record import aa_runs, conditions
from bench.record.pairs import between, within
from bench.record.run import Run


def main(request: CompareRequest) -> int:
    base = Run(request.base)
    candidate = Run(request.candidate) if request.candidate else None
    runs = [run for run in (base, candidate) if run]
    margin, words = request.margin, [word for word in split_list(request.allow or "") if word]
    allow = [parse_choice("condition to --allow", word, conditions.COMPARABLE) for word in words]
    if allow and not candidate:
        raise UsageError("--allow: needs two Runs, found one; leave it out, or name a second Run")
    if request.spread and not request.spread.is_dir():
        raise UsageError(f"--spread: no folder {request.spread}")
    folders = [run.folder.resolve().parent for run in runs] + ([request.spread] if request.spread else [])
    stored = aa_runs.find(folders, but=[run.folder for run in runs])
    pairs = between(base, candidate, stored, allow, margin) if candidate else within(base, stored, margin)
    for run in runs:
        console.tell_problems(run)
    code = exit_code(pairs, strict=request.strict) if pairs else 2
    if request.as_json:
        names = {"base": base.folder.name, "candidate": candidate.folder.name if candidate else None}
        cases, needed = [pair.as_json() for pair in pairs], spread_unknown(pairs)
        make = (needed and reproduce.against_itself(candidate or base)) or None
        console.print_json({**names, "cases": cases, "exit_code": code, "aa_command": make})
    elif request.markdown:
        console.say(markdown(base, candidate, pairs, margin))
    elif pairs:
        show(base, candidate, pairs, margin)
    if not pairs:
        console.tell(f"{base.folder}: nothing to compare within this Run; name a second one")
    return code
