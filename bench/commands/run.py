"""`run`: verify, time, write the Run folder and print the results."""

from collections.abc import Sequence

from bench.cases.case import Case, groups
from bench.cases.protocol import Protocol
from bench.commands import resume
from bench.commands.options import refuse_others
from bench.commands.plan import plan_run
from bench.commands.requests import RunRequest
from bench.commands.results import measure, show
from bench.controller import estimate
from bench.controller.pool import preflight
from bench.output import console, run_table
from bench.record.run import Run


def main(request: RunRequest) -> int:
    if request.resume is not None:
        refuse_others(resume.OPTIONS, "--resume: the Run has its own settings")
        return resume.main(request.resume, request)
    plan = plan_run(request)
    if plan.note:
        console.tell(plan.note)
    if request.dry_run:
        return dry_run(plan.cases, plan.protocol, request.as_json)
    preflight(plan.cases, plan.settings)
    variants = "-".join(request.variant)
    folder, reason = measure(plan, request.out, request.name or (variants if len(variants) < 60 else "grid"))
    return show(Run(folder), reason, request.as_json)


def dry_run(cases: Sequence[Case], protocol: Protocol, as_json: bool) -> int:
    expected = estimate.expect(cases, protocol)
    if as_json:
        console.print_json(
            {
                "cases": [case.id for case in cases],
                "groups": [each._asdict() for each in expected],
                "expected_s": sum(each.seconds for each in expected),
            }
        )
    else:
        run_table.case_list(groups(cases), protocol, expected)
    return 0
