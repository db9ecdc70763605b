"""What `env` found, as tables and lines for the terminal."""

from collections.abc import Callable, Iterator
from typing import Any

from rich.text import Text

from bench.machine import gpu
from bench.output import console

#: Rows of the table of frameworks; a dash for unknown.
FACTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "version": lambda facts: facts["version"] or "-",
    "python": lambda facts: facts["python"] or "-",
    "state": lambda facts: "cannot start" if facts["failed"] else "computes",
    "devices": lambda facts: ", ".join(facts["devices"] or "-"),
    "cuda, cudnn": lambda facts: (
        ", ".join(str(facts["versions"][name]) for name in ("cuda", "cudnn") if facts["versions"].get(name)) or "-"
    ),
    "threads": lambda facts: str(facts.get("settings", {}).get("threads") or "-"),
    "oneDNN": lambda facts: {True: "on", False: "off", None: "-"}[facts.get("settings", {}).get("onednn")],
    "fp32 is": lambda facts: (
        ", ".join(dict.fromkeys(probe["precision"] for probe in facts.get("precision", {}).values())) or "-"
    ),
    "libraries": lambda facts: (
        "\n".join(
            library["name"] + ("" if library["inside"] else " (outside)") for library in facts.get("libraries", ())
        )
        or "-"
    ),
    "also loaded": lambda facts: ", ".join(facts.get("other_frameworks", "-")) or "none",
    "owned twice": lambda facts: (
        ", ".join(library["file"] for library in facts["owned_twice"]) or "none" if "owned_twice" in facts else "-"
    ),
}
UNITS = {"sm_mhz": "MHz", "temp_c": "°C", "watts": "W"}


def show(report: dict[str, Any]) -> None:
    """Print the facts in two tables, then the advice."""
    out = console.console()
    machine = console.new_table("machine")
    machine.show_header, machine.box = False, None
    machine.add_column(no_wrap=True)
    machine.add_column()
    for name, value in _machine_rows(report):
        machine.add_row(name, value)
    out.print(machine)
    started = {name: facts for name, facts in report["frameworks"].items() if facts["installed"]}
    if started:
        out.print(f"\nframeworks, each in a Worker of its own for {report['device']}")
        table = console.new_table("")
        for heading in ("", *started):
            table.add_column(heading, overflow="fold", no_wrap=not heading)
        for heading, cell in FACTS.items():
            if set(cells := [cell(facts) for facts in started.values()]) != {"-"}:
                table.add_row(heading, *cells)
        out.print(table)
    for name, facts in report["frameworks"].items():
        if not facts["installed"]:
            out.print(f"{name} is not installed: {facts['install']}", soft_wrap=True)
    if ignored := ", ".join(report["shell"]["ignored"]):
        out.print(f"set here, but not passed to Workers (--env passes one): {ignored}", soft_wrap=True)
    out.print("\nAdvice" if report["advice"] else "\nNothing needs to be fixed first.")
    for line in report["advice"]:
        out.print(Text(f"- {line}"), soft_wrap=True)


def _machine_rows(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    machine, measured, cards = report["machine"], report["noise"], report["gpu"]
    yield "cpu", machine["cpu"]
    yield "cores", f"{machine['usable_cores']} of {machine['cores']} usable"
    yield "memory", f"{machine['memory_mib'] / 1024:.1f} GiB"
    yield (
        "system",
        machine["system"] + {True: ", a virtual machine", False: ", no virtual machine", None: ""}[machine["virtual"]],
    )
    yield "governor", machine["governor"] or "unknown"
    yield "load", f"{machine['load_1min']:.2f} over the last minute"
    if measured["steal_pct"] is not None:
        yield "stolen", f"{measured['steal_pct']:.1f} % of the CPU time in {measured['wall_s']:.0f} s"
    yield (
        "control",
        f"loop {measured['control_cpu_ns'] / 1e6:.1f} ms, 64 MiB copy {measured['control_mem_ns'] / 1e6:.1f} ms; "
        f"{measured['controls_off']} of {measured['controls']} more than 5 % off the median",
    )
    yield (
        "evidence",
        ", ".join(measured["told"]) + (f"; unknown: {', '.join(measured['not_told'])}" * bool(measured["not_told"])),
    )
    yield "gpu", f"driver {cards['driver']}" if cards["present"] else "none"
    for card in cards["cards"]:
        values = [f"{card[key]:.0f} {unit}" for key, unit in UNITS.items() if card[key] is not None]
        yield f"gpu {card['index']}", ", ".join([card["name"] or "?", *values, *gpu.reason_names(card["reasons"])])
