"""The command line: one command per request. A command's module is imported when the command is called, to keep --help
fast."""

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
"""The request class of each command."""


class Commands(click.Group):
    """Reports a UsageError as one line on stderr and exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"alexnet-bench: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("alexnet-bench: interrupted", err=True)
            sys.stdout.flush()
            os._exit(130)  # sys.exit after an interrupted import ends by the signal


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
    """The click option or argument for a field of a request."""
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
    """Benchmark equivalent AlexNets in PyTorch, TensorFlow and JAX, after checking that they are equal.

    Options can also be set by environment variables: ALEXNET_BENCH_BATCH=32.
    """


def command(request: type[T], help: str | None = None) -> Callable[[Callable[[T], int]], Callable[[T], int]]:
    """Decorator: register a function from request to exit code as a command."""

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
    """Parse the arguments of a command into its request."""
    return REQUESTS[name](**main.commands[name].make_context(name, list(words)).params)


@command(RunRequest)
def run(request: RunRequest) -> int:
    """Verify that the nets are equal, time them in alternating turns, and write a Run folder.

    Exit 1 if a case failed; with --ab the exit code is that of `compare`.
    """
    if request.resume is not None:
        from bench.commands import resume

        return resume.main(resume_request(request))
    from bench.commands import run as module

    return module.main(request)


def resume_request(request: RunRequest) -> ResumeRequest:
    """The options that --resume accepts; UsageError for any other on the command line (variables are ignored)."""
    context, taken = click.get_current_context(), {field.name for field in dataclasses.fields(ResumeRequest)}
    for field in sorted(context.params.keys() - taken):
        if context.get_parameter_source(field) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"--resume: the Run has its own settings; leave out {option_name(field)}")
    return convert(request, ResumeRequest)


@command(LayersRequest)
def layers(request: LayersRequest) -> int:
    """Print every layer's shape, params, state and MACs.

    With --framework, add what each framework reports; exit 1 if they differ.
    """
    from bench.commands import layers as module

    return module.main(request)


@command(VerifyRequest)
def verify(request: VerifyRequest) -> int:
    """Compare logits, loss and every gradient of each framework with a float64 reference.

    Exit 1 if any differs.
    """
    from bench.commands import verify as module

    return module.main(request)


@command(ProfileRequest)
def profile(request: ProfileRequest) -> int:
    """Time each layer of a net as a net of its own, next to the whole net and the measured peak.

    RUN shows an existing profile. Exit 1 if a case failed.
    """
    from bench.commands import profile as module

    return module.main(request)


@command(CompareRequest)
def compare(request: CompareRequest) -> int:
    """Compare two Run folders: is any case slower in CANDIDATE than in BASE?

    With BASE alone, compare the pairs within that Run. Exit 1 if a case is slower, 4 if incomparable or missing, 3 if
    inconclusive with --strict.
    """
    from bench.commands import compare as module

    return module.main(request)


@command(SelftestRequest)
def selftest(request: SelftestRequest) -> int:
    """Test the harness itself: clock, known durations, a missing wait, overhead, and statistics by simulation.

    --aa and --power time a real case against itself; RUN... evaluates such Runs again. Exit 1 if a check fails. The
    result is stored in selftest.json under --out.
    """
    from bench.commands.selftest import checks as module

    return module.main(request)


@command(EnvRequest)
def env(request: EnvRequest) -> int:
    """Inspect this machine: frameworks, devices, libraries, noise; with advice on what to fix."""
    from bench.commands import env as module

    return module.main(request)


PLOT_HELP = f"""Plot result CSVs or Run folders; default: the newest Run.

{" ".join(f"{kind.name}: {kind.help}." for kind in KINDS.values())}
"""


@command(PlotRequest, PLOT_HELP)
def plot(request: PlotRequest) -> int:
    from bench.commands import plot as module

    return module.main(request)


@command(ReportRequest)
def report(request: ReportRequest) -> int:
    """Write one self-contained HTML page of a Run: verdict, tables, plots, conditions, raw data.

    Default: the newest Run. Several Runs share one page. It needs no network and no other file.
    """
    from bench.commands import report as module

    return module.main(request)


@command(ExportRequest)
def export(request: ExportRequest) -> int:
    """Convert a Run to the format of another program: benchmark store, dashboard, trace viewer, Markdown."""
    from bench.commands import export as module

    return module.main(request)


@command(IngestRequest)
def ingest(request: IngestRequest) -> int:
    """Convert pytest-benchmark JSON files to a Run, for compare, plot and report.

    A file of alexnet-bench (`make ci-bench`, `export`) is restored to its Run. Of others each FILE becomes a Round.
    """
    from bench.commands import ingest as module

    return module.main(request)
