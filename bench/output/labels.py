"""Labels of Cases for people."""

from collections.abc import Iterable

from bench.cases.case import Case, groups
from bench.cases.passes import pass_title
from bench.cases.shard import Shard
from impls import FRAMEWORKS

MOST = 4  # names in a sentence


def label_of(case: Case) -> str:
    """Framework, mode and other Worker settings; for a user's net, its name instead of the framework."""
    if case.foreign:
        return case.foreign.rpartition("::")[2]
    parts = [case.framework, case.mode, *case.settings, *([case.arm] if case.arm else [])]
    if case.guest:
        usual = case.mode == FRAMEWORKS[case.framework].modes[0]
        parts = [
            case.users_net or "",
            *([] if usual else [case.mode]),
            *(part for part in parts[2:] if part != case.guest),
        ]
    parts += [counted(case.loader, "worker")] if case.loader is not None else []
    parts += [counted(case.world, "device")] if case.world > 1 else []
    return " ".join(parts).replace("lrn_", "LRN ").replace("preset_", "preset ")


def describe(case: Case) -> str:
    """Label, pass, net and batch; of another program's benchmark its own name."""
    return case.foreign or f"{label_of(case)}, {pass_title(case.pass_)} of {case.variant} at batch {case.asked_batch}"


def describe_shard(shard: Shard) -> str:
    """Which shard, and how much of the grid it is. One without a group is no mistake: a fleet may be larger than a
    grid."""
    whole, own = len(groups(shard.cases)), len(groups(shard.own))
    if not own:
        return (
            f"{shard.number}: nothing to do: the grid has {counted(whole, 'group')}, shards from {whole} on have none"
        )
    return f"{shard.number}: {own} of the {counted(whole, 'group')} of grid {shard.grid}"


def some_of(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    known = list(names)
    return "; ".join([*known[:MOST], *([f"and {len(known) - MOST} more"] if len(known) > MOST else [])])


def counted(number: float, noun: str) -> str:
    """``1 thread``, ``2 threads``, ``1,000 threads``."""
    return f"{number:,.10g} {noun}{'' if number == 1 else 's'}"
