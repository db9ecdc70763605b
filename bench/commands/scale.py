"""`scale`: project a pass on more devices from its time on one, as a Run measured it. Nothing is timed."""

import dataclasses
from collections.abc import Sequence

from bench import UsageError
from bench.cases.case import Case
from bench.cases.parse import split_list
from bench.commands.requests import ScaleRequest
from bench.output import console, scale_table
from bench.output.labels import describe, some_of
from bench.output.run_table import print_line, print_table
from bench.record import projection as record
from bench.record.run import Run
from bench.stats import projection
from bench.stats.links import PUBLISHED, Link

GIVEN = "given"


def main(request: ScaleRequest) -> int:
    run = Run(request.model)
    console.tell_problems(run)
    found = project(run, request)
    if request.as_json:
        console.print_json(scale_table.as_json(found))
        return 0
    print_table(scale_table.table(found))
    for note in scale_table.notes(found):
        print_line(note, dim=True)
    return 0


def project(run: Run, request: ScaleRequest) -> scale_table.Projection:
    """The projection that is asked for. Raises UsageError."""
    case = choose(run, request)
    step, teams = record.step_of(run, case), record.measured(run, case)
    links = links_of(record.own_link(run, case), request)
    by_world = {each.case.world: each for each in teams}
    rows = [
        (link, projection.project(case.net, step, link, world))
        for link in links
        for world in sorted({*request.devices, *(by_world if link.name == record.OWN else ())})
    ]
    return scale_table.Projection(
        case,
        step,
        projection.dense_of(case.net),
        projection.hiding_gb_per_s(case.net, step),
        links,
        rows,
        by_world,
        record.OWN,
    )


def choose(run: Run, request: ScaleRequest) -> Case:
    """The Case of one device that the options name; UsageError if none or several do."""
    wanted = {
        "framework": split_list(request.framework) if request.framework else None,
        "mode": split_list(request.mode) if request.mode else None,
        "precision": split_list(request.precision) if request.precision else None,
        "variant": request.variant,
        "batch": [request.batch] if request.batch else None,
        "pass_": [request.pass_] if request.pass_ else None,
    }
    cases = record.candidates(run, wanted)
    if len(cases) > 1:
        raise UsageError(
            f"{run.folder}: expected one case, found {some_of(map(describe, cases))}; choose with --framework, "
            "--variant, --batch, --mode or --precision"
        )
    return cases[0]


def links_of(own: Link | None, request: ScaleRequest) -> Sequence[Link]:
    """The links to project over: that of --bandwidth, those of --link, or the Run's own and all published ones."""
    links = [PUBLISHED[name] for name in request.link or ()]
    if request.bandwidth is not None:
        if len(links) > 1:
            raise UsageError(f"--bandwidth: expected one --link whose bandwidth it replaces, found {len(links)}")
        base = links[0] if links else Link(GIVEN, request.bandwidth)
        links = [dataclasses.replace(base, gb_per_s=request.bandwidth, known="given", what="", source="")]
    elif not links:
        links = [*([own] if own else []), *PUBLISHED.values()]
    if request.latency is None:
        return links
    return [dataclasses.replace(link, latency_us=request.latency) for link in links]
