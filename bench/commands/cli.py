"""The command line. Each command imports what it needs inside, so that --help costs nothing."""

import os
import sys
from typing import Any

import click

import bench
from bench import UsageError
from bench.cases.passes import PASSES
from bench.output.plots.kinds import KINDS
from impls import PEERS

TRAINING = " and ".join(each.name for each in PASSES.values() if each.training)


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


def option(name: str, **settings: Any) -> Any:
    """An option that the environment can give too: ALEXNET_BENCH_BATCH=32."""
    variable = "ALEXNET_BENCH_" + name.lstrip("-").upper().replace("-", "_")
    return click.option(name, envvar=variable, show_envvar=False, **settings)


def options(*chosen: Any) -> Any:
    def apply(command: Any) -> Any:
        for one in reversed(chosen):
            command = one(command)
        return command

    return apply


DEFAULT_RUN = ", ".join(name for name, it in PEERS.items() if it.in_default_run)
MODES = "; ".join(f"{name}: {', '.join(it.modes)}" for name, it in PEERS.items())
LAYOUTS = "; ".join(f"{name}: {', '.join(it.layouts)}" for name, it in PEERS.items())

net_options = options(
    option("--framework", metavar="LIST", help=f"{', '.join(PEERS)}, or all; default: {DEFAULT_RUN}, if installed"),
    option("--mode", metavar="LIST", help=MODES),
    option("--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda, or cuda:1"),
    option("--size", metavar="PIXELS", help="input size; default: the variant's own"),
    option("--threads", metavar="N", help="default: all cores this process may use"),
    option("--seed", default="0", metavar="N", help="of weights, images and the order of turns"),
    option("--python", metavar="FRAMEWORK=PATH", multiple=True, help="another interpreter for one framework"),
    option("--env", metavar="NAME[=VALUE]", multiple=True, help="let one more variable through to the Workers"),
    option("--worker-limit", default="600", metavar="SECONDS", help="longest that one request may take"),
)

layout_option = option("--layout", metavar="LIST", help=LAYOUTS)
lrn_option = option(
    "--lrn", default="native", show_default=True, metavar="LIST", help="native: the framework's own; fast"
)
preset_option = option(
    "--preset",
    default="equal",
    show_default=True,
    metavar="LIST",
    help="equal (all pinned alike), default (nothing set)",
)
weights_option = option("--weights", metavar="FILE", help="Caffe's .npy or a .safetensors; default: drawn from --seed")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bench.__version__, prog_name="alexnet-bench")
def main() -> None:
    """Time equivalent AlexNets in PyTorch, TensorFlow and JAX, side by side, after proving them equal.

    Options can come from the environment: ALEXNET_BENCH_BATCH=32.
    """


@main.command()
@option("--variant", default="tutorial", show_default=True, metavar="LIST", help="a variant, several, or all")
@net_options
@option("--precision", default="fp32", show_default=True, metavar="LIST", help="fp32, bf16, or on a GPU tf32")
@layout_option
@option("--net", metavar="FILE.py:FUNCTION", multiple=True, help="a net of your own beside ours; see examples/")
@lrn_option
@preset_option
@option("--batch", metavar="LIST", help="default: 8 on a CPU, 128 on a GPU")
@option("--pass", default="all", show_default=True, metavar="LIST", help=f"{', '.join(PASSES)}, or all")
@option("--rounds", metavar="N", help="fresh Workers each; default 5")
@option("--burn-in", metavar="N", help="the fewest; default 10, more until times are steady")
@option("--iterations", metavar="N", help="samples of a case in a Round; default 10, on a GPU 20")
@option("--no-gate", is_flag=True, help="burn in exactly as often as asked")
@option("--max-time", metavar="SECONDS", help="for the whole Run; each first Round is run all the same")
@option("--target-ci", metavar="PERCENT", help="stop when 95 % intervals are that narrow (from 8 Rounds, at most 30)")
@option(
    "--ab", metavar="KEY=A,B", help="two sides, turn by turn; KEY: impls, python, net, threads, mode, layout, lrn ..."
)
@option("--dropout", is_flag=True, help=f"dropout on in {TRAINING}")
@option("--protocol", default="rounds", show_default=True, metavar="NAME", help="rounds, or classic (the article's)")
@weights_option
@option("--out", default="results", show_default=True, metavar="DIR", help="where the Run folder is made")
@option("--name", metavar="NAME", help="end of the Run folder's name; default: the variants")
@click.option(
    "--resume", metavar="FOLDER", type=click.Path(), help="go on with a Run that was cut off; shapes nothing new"
)
@click.option("--dry-run", is_flag=True, help="print the cases and the time they are expected to take")
@click.option("--json", "as_json", is_flag=True, help="the results on stdout as JSON, nothing else there")
@click.pass_context
def run(context: click.Context, **asked: Any) -> None:
    """Prove the nets equal, then time them turn by turn, and write a Run folder.

    With --ab the exit code is that of `compare`.
    """
    from bench.commands import run as command

    given = [name for name in asked if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE]
    sys.exit(command.main(asked, given))


@main.command()
@option("--variant", default="all", show_default=True, metavar="LIST", help="a variant, several, or all")
@net_options
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def layers(**asked: Any) -> None:
    """Print every layer's shape, params, state and MACs.

    With --framework, what each framework itself reports beside them; exit 1 if they differ.
    """
    from bench.commands import layers as command

    sys.exit(command.main(asked))


@main.command()
@option("--variant", default="tutorial", show_default=True, metavar="LIST", help="a variant, several, or all")
@net_options
@option("--batch", metavar="N", help="images the net is built for; default 2, or those of --against")
@option("--precision", default="fp32", show_default=True, metavar="LIST", help="fp32, bf16, or on a GPU tf32")
@layout_option
@lrn_option
@weights_option
@option("--dump", metavar="FILE.npz", help="keep input, weights and what one framework made of them")
@option("--against", metavar="FILE.npz", help="hold against another implementation's values instead of float64")
@option("--save-weights", metavar="FILE.safetensors", help="keep one variant's weights: the seed's, or a .npy's")
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def verify(**asked: Any) -> None:
    """Hold logits, loss and every gradient of each framework against a float64 reference.

    Exit 1 if one differs.
    """
    from bench.commands import verify as command

    sys.exit(command.main(asked))


@main.command()
@click.argument("run", metavar="[RUN]", type=click.Path(), required=False)
@option("--variant", default="tutorial", show_default=True, metavar="LIST", help="a variant, several, or all")
@net_options
@option("--precision", default="fp32", show_default=True, metavar="LIST", help="fp32, bf16, or on a GPU tf32")
@layout_option
@lrn_option
@preset_option
@option("--batch", metavar="LIST", help="default: 32 on a CPU, 128 on a GPU")
@option("--rounds", metavar="N", help="fresh Workers each; default 3")
@option("--burn-in", metavar="N", help="default 3")
@option("--iterations", metavar="N", help="samples of a row in a Round; default 6")
@option("--max-time", metavar="SECONDS", help="for the whole Run; the first Round is run all the same")
@option("--out", default="results", show_default=True, metavar="DIR", help="where the Run folder is made")
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def profile(**asked: Any) -> None:
    """Where does the time go? Every row of a net timed as a net of its own, beside the whole net and the ceiling.

    RUN shows a profile made before. Exit 1 if a case failed.
    """
    from bench.commands import profile as command

    sys.exit(command.main(asked))


@main.command()
@click.argument("base", metavar="BASE", type=click.Path())
@click.argument("candidate", metavar="[CANDIDATE]", type=click.Path(), required=False)
@option("--margin", default="2", show_default=True, metavar="PERCENT", help="less than this is the same")
@option("--allow", metavar="LIST", help="conditions that may differ, being what is compared: versions, python, env ...")
@option("--spread", metavar="DIR", help="where A/A Runs are, beside the folders that BASE and CANDIDATE are in")
@option("--strict", is_flag=True, help="exit 3 where a case is inconclusive")
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
@click.option("--markdown", is_flag=True, help="a table for a pull request")
def compare(**asked: Any) -> None:
    """Say of each case whether CANDIDATE is slower than BASE, two Run folders.

    One folder alone: the pairs within that Run. Exit 1 a case is slower, 4 incomparable or missing, 3 with --strict.
    """
    from bench.commands import compare as command

    sys.exit(command.main(asked))


@main.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=click.Path())
@option("--aa", is_flag=True, help="time one case as if it were two: nothing may be found")
@option("--power", metavar="PERCENT", help="slow one of the two by this much: it must be found")
@option("--repeat", default="1", show_default=True, metavar="N", help="Runs of --aa or --power")
@option("--thorough", is_flag=True, help="the whole grid of simulations, about 2 minutes")
@option("--variant", default="half_width", show_default=True, metavar="LIST", help="of --aa and --power")
@net_options
@option("--batch", default="4", show_default=True, metavar="LIST", help="of --aa and --power")
@option("--pass", default="all", show_default=True, metavar="LIST", help="of --aa and --power")
@option("--rounds", default="10", show_default=True, metavar="N", help="of --aa and --power")
@option("--iterations", metavar="N", help="of --aa and --power")
@option("--out", default="results", show_default=True, metavar="DIR", help="where results are kept")
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def selftest(**asked: Any) -> None:
    """Does the harness itself hold? Clock, spins, a missing wait, its own cost, and statistics by simulation.

    With --aa or --power it times a real case against itself; RUN... judges such Runs made before. Exit 1 if it fails;
    the result is kept in selftest.json under --out.
    """
    from bench.commands.selftest import checks as command

    sys.exit(command.main(asked))


@main.command()
@net_options
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def env(**asked: Any) -> None:
    """Look the machine over: frameworks, devices, libraries, noise; and say what could be better."""
    from bench.commands import env as command

    sys.exit(command.main(asked))


PLOT_HELP = f"""Draw result CSVs or Run folders; default: the newest Run.

{" ".join(f"{kind.name}: {kind.help}." for kind in KINDS.values())}
"""


@main.command(help=PLOT_HELP)
@click.argument("results", nargs=-1, metavar="[CSV_OR_RUN...]", type=click.Path())
@option("--kind", default="times", show_default=True, metavar="KIND", help=f"one of {', '.join(KINDS)}")
@option("--output", metavar="FILE", help="PNG, SVG or PDF by its ending; default: KIND.png")
def plot(results: tuple[str, ...], kind: str, output: str | None) -> None:
    from bench.commands import plot as command

    sys.exit(command.main(results, kind, output))


@main.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]", type=click.Path())
@option("--output", metavar="FILE.html", help="default: report.html in the Run's folder")
@option("--margin", default="2", show_default=True, metavar="PERCENT", help="as `compare` was given it")
def report(**asked: Any) -> None:
    """One page that holds everything of a Run, for a browser: verdict, tables, plots, conditions, raw data.

    Default: the newest Run. Several Runs become one page; it needs no network and no other file.
    """
    from bench.commands import report as command

    sys.exit(command.main(asked))


@main.command()
@click.argument("run", metavar="RUN", type=click.Path())
@option(
    "--format",
    required=True,
    metavar="FORMAT",
    help="pytest-benchmark, bencher, github-action-benchmark, trace or markdown",
)
@option("--output", metavar="FILE", help="default: stdout")
def export(**asked: Any) -> None:
    """A Run in the format of another program: a store of benchmarks, a dashboard, a trace viewer, a comment."""
    from bench.commands import export as command

    sys.exit(command.main(asked))


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@option("--out", default="results", show_default=True, metavar="DIR", help="where the Run folder is made")
@option("--name", metavar="NAME", help="end of the Run folder's name; default: the file's")
@click.option("--json", "as_json", is_flag=True, help="on stdout as JSON")
def ingest(**asked: Any) -> None:
    """Make a Run of what pytest-benchmark stored, for compare, plot and report.

    One of our own (`make ci-bench`, `export`) comes back as the Run it was. Of others each FILE is a Round.
    """
    from bench.commands import ingest as command

    sys.exit(command.main(asked))
