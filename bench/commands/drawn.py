"""The drawn flowers, where a command is given them in place of a folder."""

from pathlib import Path

from bench.output import console
from bench.pictures import flowers


def pictures_of(folder: Path | None, scratch: Path, save: Path | None = None) -> Path:
    """The folder of pictures that was named, or the drawn ones, drawn as the new folder ``save`` or in ``scratch``."""
    if folder is not None and not flowers.meant(folder):
        return folder
    target = save or scratch / "flowers"
    console.tell("600 pictures of five flowers are drawn")
    flowers.draw(target)
    return target
