"""The verdicts, each with its symbol, color, exit codes and sentence."""

from enum import StrEnum
from typing import Self


class Word(StrEnum):
    """Verdict on a candidate compared with its baseline, in the order of listings."""

    SLOWER = "SLOWER", "🔴", "bad", 1, 1, True, "The whole interval is above 1 by more than the margin of {margin}."
    FASTER = "FASTER", "🟢", "good", 0, 0, True, "The whole interval is below 1 by more than the margin of {margin}."
    SAME = "SAME", "⚪", "faint", 0, 0, True, "The whole interval is within the margin of {margin}."
    INCONCLUSIVE = "INCONCLUSIVE", "🟡", "open", 0, 3, False, "Not decided: {reason}."
    INCOMPARABLE = "INCOMPARABLE", "⛔", "open", 4, 4, False, "Not decided: {reason}."
    MISSING = "MISSING", "⛔", "open", 4, 4, False, "Not decided: {reason}."

    sign: str
    """Symbol in Markdown."""
    color: str
    """Color in the report, a name in report.css."""
    exit_code: int
    strict_exit_code: int
    """Exit code with --strict."""
    decides: bool
    sentence: str
    """Explanation in the report."""

    def __new__(cls, word: str, sign: str, color: str, code: int, strict: int, decides: bool, sentence: str) -> Self:
        self = str.__new__(cls, word)
        self._value_ = word
        self.sign, self.color, self.decides, self.sentence = sign, color, decides, sentence
        self.exit_code, self.strict_exit_code = code, strict
        return self
