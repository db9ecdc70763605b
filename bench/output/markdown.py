"""Markdown for pull request comments; text from files is escaped."""

import re
from collections.abc import Iterable

from bench.output.tables import Table
from impls.text import printable


def escape(text: str) -> str:
    """Escape text from a file for a paragraph or a table cell."""
    plain = printable(text).replace("\n", " ").replace("`", "'")
    plain = re.sub(r"([\\|\[\]*~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", plain)  # within a word _ is no markup
    harmless = plain.replace("&", "&amp;").replace("<", "&lt;").replace("$", r"<span>\$</span>")  # no formula on GitHub
    return re.sub(r"(@|#|://|www\.)(?=\w)", r"\1&#8203;", harmless)  # no mentions, no links


def table(content: Table) -> str:
    """Headings and rows, without the caption. Numeric cells and headings never come from a file: not escaped."""
    numeric = [column.numeric for column in content.columns]
    lines = [_line(column.name for column in content.columns)]
    lines.append(f"|{''.join('--:|' if right else '---|' for right in numeric)}")
    for row in content.rows:
        lines.append(_line(cell.text if right else escape(cell.text) for cell, right in zip(row, numeric, strict=True)))
    return "\n".join(lines)


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
