"""Markdown for a comment on a pull request, in which text from a file is nothing but text."""

import re
from collections.abc import Iterable

from bench.output.tables import Table


def escape(text: str) -> str:
    """Text from a file, harmless in a paragraph and in a cell of a table."""
    plain = re.sub(r"[\x00-\x1f\x7f\u2028\u2029]", " ", text.replace("`", "'"))
    harmless = re.sub(r"([\\|\[\]])", r"\\\1", plain).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"(@|#|://|www\.)(?=\w)", r"\1&#8203;", harmless)  # nobody is called, nothing becomes a link


def table(content: Table) -> str:
    """Its headings and rows; the caption is the caller's. No figure and no heading is from a file."""
    numeric = [column.numeric for column in content.columns]
    lines = [_line(column.name for column in content.columns)]
    lines.append(f"|{''.join('--:|' if right else '---|' for right in numeric)}")
    for row in content.rows:
        lines.append(_line(cell.text if right else escape(cell.text) for cell, right in zip(row, numeric, strict=True)))
    return "\n".join(lines)


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
