"""Mirrored cycles: the samples of two Cases of one Run in the order taken."""

from bench.cases.case import Case
from bench.record.recording import Recording
from bench.stats.ratio import Cycle, Ratio


def cycles_of(run: Recording, baseline: Case, candidate: Case) -> list[list[Cycle]]:
    """Whole cycles of each Round that counts for both: the samples of either side, in the order taken."""
    usable = run.usable(baseline) & run.usable(candidate)
    cells: dict[tuple[int, int], dict[str, list[list[float]]]] = {}
    for turn in [*run.turns_of(baseline), *run.turns_of(candidate)]:
        if turn.round in usable:
            cell = cells.setdefault((turn.round, turn.cycle), {})
            cell.setdefault(turn.case_id, []).append(run.valid_ns(turn))
    rounds: dict[int, list[Cycle]] = {}
    for (round_, _), cell in sorted(cells.items()):
        both = [cell.get(case.id, []) for case in (baseline, candidate)]
        if all(len(turns) == 2 and all(turns) for turns in both):  # an incomplete cycle is not mirrored
            rounds.setdefault(round_, []).append((both[0][0] + both[0][1], both[1][0] + both[1][1]))
    return [rounds[key] for key in sorted(rounds)]


def ratio_of(run: Recording, baseline: Case, candidate: Case) -> Ratio | None:
    """The time of the candidate over that of the baseline; None without a Round that has a whole cycle of both."""
    cycles = cycles_of(run, baseline, candidate)
    return Ratio.of(cycles) if cycles else None
