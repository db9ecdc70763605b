"""Row: one check of the self-test, with what was expected and what was found."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bench.output import console

ENOUGH = 20  # comparisons, below which shares are reported but not judged


class Row(NamedTuple):
    what: str
    expected: str
    found: str
    ok: bool

    def show(self) -> None:
        console.say(f"{'ok  ' if self.ok else 'FAIL'}  {self.what}: {self.found} ({self.expected})")


def exactly(what: str, expected: Any, found: Any) -> Row:
    short = [text if len(text) < 40 else f"{text[:18]}..." for text in (str(expected), str(found))]
    return Row(what, f"exactly {short[0]}", short[1], found == expected)


def at_most_us(what: str, found_us: float, most_us: float, found: str) -> Row:
    """``found`` is the text for ``found_us``, a duration or a deviation in microseconds."""
    return Row(what, f"<= {most_us:g} us", found, abs(found_us) <= most_us)


def within(what: str, share: float, low: float, high: float) -> Row:
    """A share and its limits, which are left out where they are 0 or 1."""
    expected = f"{low:.1%} - {high:.1%}" if low and high < 1 else f">= {low:.1%}" if low else f"<= {high:.1%}"
    return Row(what, expected, f"{share:.1%}", low <= share <= high)


def share_of(what: str, hits: Sequence[bool], least: float, more: str = "") -> Row:
    """The share of hits, judged if there are ENOUGH; ``more`` is added to it."""
    share, judged = sum(hits) / len(hits), len(hits) >= ENOUGH
    expected = "reported" if not least else f">= {least:.0%}" + ("" if judged else f", judged from {ENOUGH} on")
    return Row(what, expected, f"{sum(hits)} of {len(hits)} ({share:.0%}){more}", share >= least or not judged)
