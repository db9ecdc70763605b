"""A terminal as tests see it: what its rows show after all that was written, also when it was resized."""

import re

CODE = re.compile(r"\x1b\[(\d*)([A-Z])|([\r\n])|([^\r\n\x1b]+)")


class Screen:
    """Rows of ``width`` cells. Like most terminals it breaks long lines anew when it is resized.

    It knows the codes that are allowed: up (A) and erase to the end of the screen (J). Raises ValueError for others.
    """

    def __init__(self, width: int = 80):
        self.width, self.lines, self.line, self.offset = width, [""], 0, 0
        self.written: list[str] = []

    def write(self, text: str) -> int:
        self.written.append(text)
        end = 0
        for match in CODE.finditer(text):
            if match.start() != end:
                raise ValueError(f"unknown code in {text!r}")
            end = match.end()
            number, code, control, plain = match.groups()
            if plain:
                self._type(plain)
            elif control == "\r":
                self.offset -= self.offset % self.width
            elif control == "\n":
                self.line, self.offset = self.line + 1, 0
                self.lines += [""] * (self.line == len(self.lines))
            elif code == "A":
                for _ in range(int(number or 1)):
                    self._up()
            elif code == "J" and not number:
                self.lines[self.line] = self.lines[self.line][: self.offset]
                del self.lines[self.line + 1 :]
            else:
                raise ValueError(f"unknown code in {text!r}")
        if end != len(text):
            raise ValueError(f"unknown code in {text!r}")
        return len(text)

    @property
    def rows(self) -> list[str]:
        """What is seen, without empty rows."""
        rows = (line[at : at + self.width] for line in self.lines for at in range(0, len(line), self.width))
        return [row.rstrip() for row in rows if row.strip()]

    def _type(self, text: str) -> None:
        line = self.lines[self.line].ljust(self.offset)
        self.lines[self.line] = line[: self.offset] + text + line[self.offset + len(text) :]
        self.offset += len(text)

    def _up(self) -> None:
        if self.offset >= self.width:
            self.offset -= self.width
        elif self.line:
            self.line -= 1
            self.offset = max(0, len(self.lines[self.line]) - 1) // self.width * self.width

    def flush(self) -> None:
        """Nothing is buffered."""

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return True
