"""What `env` found: its records, and tables and lines for the terminal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from bench.machine import gpu
from bench.machine.host import Fingerprint
from bench.output import console
from bench.worker.ownership import OwnedTwice
from bench.worker.replies import FrameworkConditions, Library, PrecisionProbe, Scalar


class Machine(Fingerprint, frozen=True, kw_only=True):
    """The fingerprint, and how many cores the cgroup allows."""

    quota: float | None = None


@dataclass(frozen=True)
class Shell:
    """Names of variables that change the speed: passed to Workers, and set but not passed."""

    let_through: list[str]
    ignored: list[str]


@dataclass(frozen=True)
class Gpus:
    present: bool
    driver: str | None
    nvml: bool
    cards: list[dict[str, Any]]


@dataclass(frozen=True)
class FrameworkFacts:
    """A framework, as its Worker reported it; None for what it did not come to report."""

    installed: bool
    failed: str | None = None
    """Why it could not start, with the last line that it wrote."""
    install: str | None = None
    pip: str = "pip"
    version: str | None = None
    python: str | None = None
    versions: dict[str, Scalar] = field(default_factory=dict)
    devices: list[str] | None = None
    precision: dict[str, PrecisionProbe] = field(default_factory=dict)
    libraries: list[Library] = field(default_factory=list)
    other_frameworks: list[str] | None = None
    settings: FrameworkConditions | None = None
    owned_twice: list[OwnedTwice] | None = None


@dataclass(frozen=True)
class NoiseFacts:
    """Noise over ``wall_s``, and medians of control measurements; ``evidence``: whether each source can be read."""

    wall_s: float
    steal_pct: float | None
    throttled: float | None
    controls: int
    controls_off: int
    control_cpu_ns: float
    control_mem_ns: float
    evidence: dict[str, bool]


@dataclass(frozen=True)
class EnvReport:
    device: str
    never_run: bool
    """Whether nobody has sent a Run of this kind of device."""
    threads: int
    machine: Machine
    shell: Shell
    gpu: Gpus
    frameworks: dict[str, FrameworkFacts]
    noise: NoiseFacts


#: Libraries of devices, by their names among a Worker's versions, with a word for those that the heading does not name.
LIBRARIES: dict[str, str] = {"hip": "ROCm ", "xpu": "SYCL ", "cuda": "", "cudnn": ""}
#: Rows of the table of frameworks; a dash for unknown.
FACTS: dict[str, Callable[[FrameworkFacts], str]] = {
    "version": lambda facts: facts.version or "-",
    "python": lambda facts: facts.python or "-",
    "state": lambda facts: "cannot start" if facts.failed else "computes",
    "devices": lambda facts: ", ".join(facts.devices or "-"),
    "cuda, cudnn": lambda facts: (
        ", ".join(f"{word}{facts.versions[name]}" for name, word in LIBRARIES.items() if facts.versions.get(name))
        or "-"
    ),
    "threads": lambda facts: str((facts.settings and facts.settings.threads) or "-"),
    "oneDNN": lambda facts: {True: "on", False: "off", None: "-"}[facts.settings.onednn if facts.settings else None],
    "fp32 is": lambda facts: ", ".join(dict.fromkeys(probe.precision for probe in facts.precision.values())) or "-",
    "libraries": lambda facts: (
        "\n".join(library.name + ("" if library.inside else " (outside)") for library in facts.libraries) or "-"
    ),
    "also loaded": lambda facts: _listed(facts.other_frameworks),
    "owned twice": lambda facts: _listed(
        None if (owned := facts.owned_twice) is None else [library.file for library in owned]
    ),
}
UNITS = {"sm_mhz": "MHz", "temp_c": "°C", "watts": "W"}


def show(report: EnvReport, advice: Sequence[str]) -> None:
    """Print the facts in two tables, then the advice."""
    out = console.console()
    machine = console.new_table("machine")
    machine.show_header, machine.box = False, None
    machine.add_column(no_wrap=True)
    machine.add_column()
    for name, value in _machine_rows(report):
        machine.add_row(name, value)
    out.print(machine)
    started = {name: facts for name, facts in report.frameworks.items() if facts.installed}
    if started:
        out.print(f"\nframeworks, each in a Worker of its own for {report.device}")
        table = console.new_table("")
        for heading in ("", *started):
            table.add_column(heading, overflow="fold", no_wrap=not heading)
        for heading, cell in FACTS.items():
            if set(cells := [cell(facts) for facts in started.values()]) != {"-"}:
                table.add_row(heading, *cells)
        out.print(table)
    for name, facts in report.frameworks.items():
        if not facts.installed:
            out.print(f"{name} is not installed: {facts.install}", soft_wrap=True)
    if ignored := ", ".join(report.shell.ignored):
        out.print(f"set here, but not passed to Workers (--env passes one): {ignored}", soft_wrap=True)
    out.print("\nAdvice" if advice else "\nNothing needs to be fixed first.")
    for line in advice:
        out.print(Text(f"- {line}"), soft_wrap=True)


def _listed(names: Sequence[str] | None) -> str:
    return "-" if names is None else ", ".join(names) or "none"


def _machine_rows(report: EnvReport) -> Iterator[tuple[str, str]]:
    machine, measured, cards = report.machine, report.noise, report.gpu
    yield "cpu", machine.cpu
    yield "cores", f"{machine.usable_cores} of {machine.cores} usable"
    yield "memory", "unknown" if machine.memory_mib is None else f"{machine.memory_mib / 1024:.1f} GiB"
    yield (
        "system",
        (machine.system or "")
        + {True: ", a virtual machine", False: ", no virtual machine", None: ""}[machine.virtual],
    )
    yield "governor", machine.governor or "unknown"
    yield "load", "unknown" if machine.load_1min is None else f"{machine.load_1min:.2f} over the last minute"
    if measured.steal_pct is not None:
        yield "stolen", f"{measured.steal_pct:.1f} % of the CPU time in {measured.wall_s:.0f} s"
    yield (
        "control",
        f"loop {measured.control_cpu_ns / 1e6:.1f} ms, 64 MiB copy {measured.control_mem_ns / 1e6:.1f} ms; "
        f"{measured.controls_off} of {measured.controls} more than 5 % off the median",
    )
    known, unknown = (
        [name for name, seen in measured.evidence.items() if seen is is_seen] for is_seen in (True, False)
    )
    yield "evidence", ", ".join(known) + (f"; unknown: {', '.join(unknown)}" if unknown else "")
    yield "gpu", f"driver {cards.driver}" if cards.present else "none of NVIDIA’s"
    for card in cards.cards:
        values = [f"{card[key]:.0f} {unit}" for key, unit in UNITS.items() if card[key] is not None]
        yield f"gpu {card['index']}", ", ".join([card["name"] or "?", *values, *gpu.reason_names(card["reasons"])])
    if report.never_run:
        yield "never run", f"nobody has sent a Run on {report.device} yet: docs/adding.md says how"
