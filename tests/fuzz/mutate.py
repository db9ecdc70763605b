"""Mutations of files and values, drawn from a random.Random."""

import copy
import json
import random
from typing import Any

#: What a JSON leaf, a cell or an option is replaced by: limits of integers and floats, controls, markup, other types.
ODD: tuple[Any, ...] = (
    *(0, 1, -1, 2, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**26, 10**400),
    *(0.0, -0.0, 0.5, 5e-324, -5e-324, 1e-9, 1e19, 1e308, -1e308, float("inf"), float("-inf"), float("nan")),
    *("", " ", "0", "-1", "1e308", "nan", "٣", "a,b", "a=b", "../..", "/dev/null", "a b", "=cmd|' /C calc'!A0"),
    *(
        "\x1b[31mred\x07",
        "\x9b2J",
        "\u202egnp",
        "\u200b",
        "a\nb",
        "\r\n",
        "\t",
        "\\",
        "'",
        '"',
        "%s%n",
        "{}",
        "{0.__class__}",
    ),
    *(
        "<script>",
        "| a |",
        "`x`",
        "é" * 70,
        "😀",
        "x" * 300,
        "x" * 5000,
        "9" * 5000,
        "word " * 2000,
        "\ufeff",
        "\uffff",
    ),
    *(None, True, False, [], {}, [[]], {"a": 1}, [None], [1] * 1000, {"": ""}),
)


def odd_text(dice: random.Random) -> str:
    """An odd value as text, as a shell can pass it."""
    value = dice.choice(ODD)
    text = value if isinstance(value, str) else str(value)
    if dice.random() < 0.2:
        text = "".join(chr(dice.randrange(1, 0x3000)) for _ in range(dice.randrange(1, 12)))
    return f"{text}\udcff" if dice.random() < 0.05 else text  # a byte that is not UTF-8


def mutate_bytes(dice: random.Random, data: bytes) -> bytes:
    """Flip, insert, remove, double or cut bytes, once to four times."""
    wrong = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at, length = dice.randrange(len(wrong) + 1), dice.choice((1, 1, 2, 8, 100))
        match dice.randrange(6):
            case 0:
                wrong[at : at + 1] = bytes([dice.randrange(256)])
            case 1:
                wrong[at:at] = dice.randbytes(length)
            case 2:
                del wrong[at : at + length]
            case 3:
                wrong[at:at] = wrong[at : at + length]
            case 4:
                wrong[at : at + length] = bytes(length)
            case 5 if dice.random() < 0.3:
                del wrong[at:]
    return bytes(wrong)


def mutate_lines(dice: random.Random, lines: list[bytes]) -> list[bytes]:
    """Remove, double, move or swap lines."""
    lines = list(lines)
    for _ in range(dice.randrange(1, 4)):
        a, b = dice.randrange(len(lines)), dice.randrange(len(lines))
        match dice.randrange(4):
            case 0 if len(lines) > 1:
                del lines[a]
            case 1:
                lines.insert(b, lines[a])
            case 2:
                lines[a], lines[b] = lines[b], lines[a]
            case 3:
                lines[min(a, b) : max(a, b)] = lines[min(a, b) : max(a, b)] * 2
    return lines


def mutate_json(dice: random.Random, document: Any) -> Any:
    """Replace, remove, add or rename one to three values anywhere in a JSON document."""
    document = copy.deepcopy(document)
    for _ in range(dice.randrange(1, 4)):
        places = list(_places(document))
        if not places:
            break
        holder, key = dice.choice(places)
        match dice.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[dice.choice(("new", "event", "", "schema"))] = holder.pop(key)
            case 2 if isinstance(holder, list):
                holder.append(holder[key])
            case 3:
                holder[key] = [holder[key]] * dice.choice((1, 2, 500))
            case 4:
                for _ in range(dice.choice((1, 50))):
                    holder[key] = {"a": holder[key]}
            case _:
                holder[key] = _odd(dice, holder[key])
    return document


def _odd(dice: random.Random, value: Any) -> Any:
    """An odd value, twice in three of the same type, which validation of types does not see."""
    alike = [odd for odd in ODD if type(odd) is type(value) or {type(odd), type(value)} == {int, float}]
    return dice.choice(alike if alike and dice.random() < 0.67 else ODD)


def _places(document: Any) -> Any:
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in list(pairs):
        yield document, key
        yield from _places(value)


def to_json(document: Any) -> bytes:
    """As Python writes it: NaN and Infinity too."""
    return json.dumps(document).encode()
