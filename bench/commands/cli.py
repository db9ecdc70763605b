"""The command line: each request is a command. A command's module is imported when it is called, so that --help costs
nothing."""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

import bench
from bench import UsageError
from bench.cases.parse import option_name
from bench.commands.options import Declaration, convert, declarations
from bench.commands.requests import (
    CompareRequest,
    EnvRequest,
    ExportRequest,
    IngestRequest,
    LayersRequest,
    PlotRequest,
    ProfileRequest,
    ReportRequest,
    ResumeRequest,
    RunRequest,
    SelftestRequest,
    VerifyRequest,
)
from bench.output.plots.kinds import KINDS

T = TypeVar("T")
REQUESTS: dict[str, type] = {}
"""The request of each command."""


class Commands(click.Group):
    """A user's mistake is one line on stderr and exit 2, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"alexnet-bench: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("alexnet-bench: interrupted", err=True)
            sys.stdout.flush()
            os._exit(130)  # an import that was interrupted would have Python end by the signal instead


class Command(click.Command):
    """A command with one parameter per field of its request, made when first needed: the group's --help shows none."""

    def __init__(self, name: str, request: type, **settings: Any):
        super().__init__(name, **settings)
        self.request = request
        del self.params  # set by click; found again through the property

    @functools.cached_property
    def params(self) -> list[click.Parameter]:  # type: ignore[override]
        return [parameter(field, declared) for field, declared in declarations(self.request).items()]


def parameter(field: str, declared: Declaration) -> click.Parameter:
    """The option or argument of a field of a request."""
    name, required, metavar = option_name(field), declared.required, declared.metavar

    def parse(text: str) -> Any:
        return declared.parse(name, text)

    if declared.argument:
        nargs = -1 if declared.repeated else 1
        return click.Argument([field], type=parse, nargs=nargs, metavar=metavar, required=required)
    variable = "ALEXNET_BENCH_" + name[2:].upper().replace("-", "_") if declared.environment else None
    settings = {"is_flag": True} if declared.flag else {"type": parse, "metavar": metavar}
    return click.Option(
        [name, field],
        **settings,
        multiple=declared.repeated,
        default=False if declared.flag else declared.default,
        show_default=declared.default is not None,
        required=required,
        help=declared.help,
        envvar=variable,
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bench.__version__, prog_name="alexnet-bench")
def main() -> None:
    """Time equivalent AlexNets in PyTorch, TensorFlow and JAX, side by side, after proving them equal.

    Options can come from the environment: ALEXNET_BENCH_BATCH=32.
    """


def command(request: type[T], help: str | None = None) -> Callable[[Callable[[T], int]], Callable[[T], int]]:
    """Make a command of a function that takes a request; what it returns is the exit code."""

    def register(function: Callable[[T], int]) -> Callable[[T], int]:
        name = function.__name__
        REQUESTS[name] = request
        main.add_command(
            Command(
                name,
                request,
                help=help or function.__doc__,
                callback=lambda **values: sys.exit(function(request(**values))),
            )
        )
        return function

    return register


def parse_words(name: str, words: list[str]) -> Any:
    """The request that these words make of a command."""
    return REQUESTS[name](**main.commands[name].make_context(name, list(words)).params)


@command(RunRequest)
def run(request: RunRequest) -> int:
    """Prove the nets equal, then time them turn by turn, and write a Run folder.

    With --ab the exit code is that of `compare`.
    """
    if request.resume is not None:
        from bench.commands import resume

        return resume.main(resume_request(request))
    from bench.commands import run as module

    return module.main(request)


def resume_request(request: RunRequest) -> ResumeRequest:
    """What --resume takes; UsageError where anything else is written beside it (variables may say what they like)."""
    context, taken = click.get_current_context(), {field.name for field in dataclasses.fields(ResumeRequest)}
    for field in sorted(context.params.keys() - taken):
        if context.get_parameter_source(field) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--resume: the Run has its own settings; leave out {option_name(field)}")
    return convert(request, ResumeRequest)


@command(LayersRequest)
def layers(request: LayersRequest) -> int:
    """Print every layer's shape, params, state and MACs.

    With --framework, what each framework itself reports beside them; exit 1 if they differ.
    """
    from bench.commands import layers as module

    return module.main(request)


@command(VerifyRequest)
def verify(request: VerifyRequest) -> int:
    """Hold logits, loss and every gradient of each framework against a float64 reference.

    Exit 1 if one differs.
    """
    from bench.commands import verify as module

    return module.main(request)


@command(ProfileRequest)
def profile(request: ProfileRequest) -> int:
    """Where does the time go? Every row of a net timed as a net of its own, beside the whole net and the ceiling.

    RUN shows a profile made before. Exit 1 if a case failed.
    """
    from bench.commands import profile as module

    return module.main(request)


@command(CompareRequest)
def compare(request: CompareRequest) -> int:
    """Say of each case whether CANDIDATE is slower than BASE, two Run folders.

    One folder alone: the pairs within that Run. Exit 1 a case is slower, 4 incomparable or missing, 3 with --strict.
    """
    from bench.commands import compare as module

    return module.main(request)


@command(SelftestRequest)
def selftest(request: SelftestRequest) -> int:
    """Does the harness itself hold? Clock, spins, a missing wait, its own cost, and statistics by simulation.

    With --aa or --power it times a real case against itself; RUN... judges such Runs made before. Exit 1 if it fails;
    the result is kept in selftest.json under --out.
    """
    from bench.commands.selftest import checks as module

    return module.main(request)


@command(EnvRequest)
def env(request: EnvRequest) -> int:
    """Look the machine over: frameworks, devices, libraries, noise; and say what could be better."""
    from bench.commands import env as module

    return module.main(request)


PLOT_HELP = f"""Draw result CSVs or Run folders; default: the newest Run.

{" ".join(f"{kind.name}: {kind.help}." for kind in KINDS.values())}
"""


@command(PlotRequest, PLOT_HELP)
def plot(request: PlotRequest) -> int:
    from bench.commands import plot as module

    return module.main(request)


@command(ReportRequest)
def report(request: ReportRequest) -> int:
    """One page that holds everything of a Run, for a browser: verdict, tables, plots, conditions, raw data.

    Default: the newest Run. Several Runs become one page; it needs no network and no other file.
    """
    from bench.commands import report as module

    return module.main(request)


@command(ExportRequest)
def export(request: ExportRequest) -> int:
    """A Run in the format of another program: a store of benchmarks, a dashboard, a trace viewer, a comment."""
    from bench.commands import export as module

    return module.main(request)


@command(IngestRequest)
def ingest(request: IngestRequest) -> int:
    """Make a Run of what pytest-benchmark stored, for compare, plot and report.

    One of our own (`make ci-bench`, `export`) comes back as the Run it was. Of others each FILE is a Round.
    """
    from bench.commands import ingest as module

    return module.main(request)
