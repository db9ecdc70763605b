"""Make a Run, with exclusive use of its devices."""

from collections.abc import Callable
from pathlib import Path

from bench.cases.case import Case
from bench.cases.protocol import Protocol
from bench.cases.shard import Shard
from bench.controller.rounds import Rounds
from bench.controller.settings import WorkerSettings
from bench.controller.watcher import Watcher
from bench.machine.lock import lock_devices
from bench.record import journal, selftest_store
from bench.record.reasons import StopReason


def measure(
    cases: list[Case],
    protocol: Protocol,
    settings: WorkerSettings,
    out: Path,
    name: str,
    *,
    shard: Shard | None = None,
    watcher: Watcher | None,
    waiting: Callable[[str], None],
) -> tuple[Path, StopReason]:
    """Make a Run, of the Cases of ``shard`` if there is one; return its folder and why it ended.

    ``waiting`` is called if another Run holds a device.
    """
    with lock_devices([case.device for case in cases], waiting):
        folder = journal.new_folder(out, name)
        rounds = Rounds(cases, protocol, settings, folder, watcher)
        rounds.write_header(folder.name, name, selftest_store.latest(out), shard)
        reason = rounds.run()
    return folder, reason
