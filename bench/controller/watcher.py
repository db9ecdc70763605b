"""Watcher: callbacks of a Run in progress, called between turns."""

from collections.abc import Sequence

from bench.cases.case import Case
from bench.controller.budget import RoundPlan
from bench.record.events import Place


class Watcher:
    """Base class whose callbacks do nothing."""

    def on_reference(self, case: Case) -> None:
        """The float64 reference of the Case's group is computed next."""

    def on_start(self, case: Case, place: Place) -> None:
        """The Case's Worker is started next."""

    def on_burn_in(self, case: Case, place: Place) -> None:
        """The Case's burn-in begins."""

    def on_plan(self, place: Place, plan: RoundPlan, left: int) -> None:
        """Burn-in is over and the turns of the Round are planned; with time enough it is one of ``left`` Rounds."""

    def on_turn(self, case: Case, place: Place, ns: Sequence[int]) -> None:
        """A turn is in the journal; ``ns`` are its samples."""

    def on_fault(self, worker: str, place: Place, reason: str, tail: str, repeated: bool) -> None:
        """A Worker died; ``tail`` is the end of its stderr. The Round is ``repeated``, or its Cases fail."""

    def on_disturbed(self, place: Place, reason: str) -> None:
        """Something outside the Workers disturbed the Round, which is repeated."""

    def on_failed(self, case: Case, reason: str) -> None:
        """The Case is not timed again."""
