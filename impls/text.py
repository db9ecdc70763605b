"""Text of others, made safe for a terminal and short enough for a message."""

import re

LINE, WORD, VALUE = 1000, 300, 80  # characters; a list of a net's arrays takes 700, a path seldom 300


def printable(text: str) -> str:
    """``text`` with a space for each character but a line break that could move a cursor, set a color, turn the
    direction of writing or hide: C0, C1, DEL, separators, formats, surrogates (file names), private use."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: str, most: int = LINE) -> str:
    """Printable and on one line; long words and a long line are cut in the middle, since a message ends in what to
    do."""
    line = text if text.isprintable() else " ".join(printable(text).split())
    return _cut(re.sub(rf"\S{{{WORD + 1},}}", lambda word: _cut(word[0], WORD), line), most)


def quoted(value: object) -> str:
    """A value as a user wrote it, in quotes; cut in the middle."""
    return one_line(repr(value), VALUE)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most * 2 // 3]}…{text[len(text) - most // 3 + 1 :]}"
