"""The drawn flowers, where a command is given them in place of a folder."""

from pathlib import Path

from bench.output import console
from bench.pictures import flowers


def pictures_of(folder: Path | None, scratch: Path) -> Path:
    """The folder of pictures that was named, or the drawn ones, drawn in ``scratch``."""
    if folder is not None and not flowers.meant(folder):
        return folder
    console.tell("600 pictures of five flowers are drawn")
    flowers.draw(scratch / "flowers")
    return scratch / "flowers"
