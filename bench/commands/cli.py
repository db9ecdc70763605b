"""The command line: one command per request, in the module of its name.

That module is imported when the command is called, to keep --help fast.
"""

import functools
import gc
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from bench import UsageError
from bench.cases.parse import option_name
from bench.commands import requests
from bench.commands.options import Declaration, declarations
from bench.machine.signals import interruptible
from impls.text import one_line

#: The request class of each command; its docstring is the help text.
REQUESTS: dict[str, type] = {
    "run": requests.RunRequest,
    "layers": requests.LayersRequest,
    "verify": requests.VerifyRequest,
    "profile": requests.ProfileRequest,
    "train": requests.TrainRequest,
    "data": requests.DataRequest,
    "predict": requests.PredictRequest,
    "compare": requests.CompareRequest,
    "scale": requests.ScaleRequest,
    "merge": requests.MergeRequest,
    "sweep": requests.SweepRequest,
    "selftest": requests.SelftestRequest,
    "env": requests.EnvRequest,
    "gpu-check": requests.GpuCheckRequest,
    "memory": requests.MemoryRequest,
    "plot": requests.PlotRequest,
    "report": requests.ReportRequest,
    "export": requests.ExportRequest,
    "ingest": requests.IngestRequest,
}


class Commands(click.Group):
    """Reports a UsageError as one line on stderr and exit code 2, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except UsageError as error:
            click.echo(f"alexnet-bench: {one_line(str(error))}", err=True)
            sys.exit(2)
        except click.UsageError as error:  # click's message quotes what was given
            raise click.UsageError(one_line(error.format_message()), error.ctx) from None
        except KeyboardInterrupt:
            click.echo("alexnet-bench: interrupted", err=True)
            sys.stdout.flush()
            os._exit(130)  # sys.exit after an interrupted import ends by the signal


class Command(click.Command):
    """A command with one parameter per field of its request, made when first needed: the group's --help shows none."""

    def __init__(self, name: str):
        self.request = REQUESTS[name]
        super().__init__(
            name,
            help=self.request.__doc__,
            callback=lambda **values: sys.exit(main_of(name)(self.request(**values))),
        )
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
    settings: dict[str, Any] = {"is_flag": True} if declared.flag else {"type": parse, "metavar": metavar}
    if not required:  # click takes None as given
        settings["default"] = False if declared.flag else declared.default
    return click.Option(
        [name, field],
        **settings,
        multiple=declared.repeated,
        show_default=declared.default is not None,
        required=required,
        help=declared.help,
        envvar=variable,
    )


def show_version(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    """Print version and identity of the code, and exit."""
    if asked:
        code = importlib.import_module("bench.machine.code")
        click.echo(f"alexnet-bench {code.describe()}")
        context.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=show_version, help="Show the version."
)
def main() -> None:
    """Benchmark equivalent AlexNets in PyTorch, TensorFlow and JAX, after checking that they are equal.

    Options can also be set by environment variables: ALEXNET_BENCH_BATCH=32.
    """


def main_of(name: str) -> Callable[[Any], int]:
    """The function from request to exit code in the command's module, imported now."""
    gc.disable()  # imports leave no garbage, and to look for it takes a tenth of their time
    try:
        return importlib.import_module(f"bench.commands.{name.replace('-', '_')}").main  # type: ignore[no-any-return]
    finally:
        gc.enable()


def parse_words(name: str, words: list[str]) -> Any:
    """Parse the arguments of a command into its request."""
    return REQUESTS[name](**main.commands[name].make_context(name, list(words)).params)


for name in REQUESTS:
    main.add_command(Command(name))
