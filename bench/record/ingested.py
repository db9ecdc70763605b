"""Ingested: sessions of another program from which a Run was made."""

from msgspec import Struct


class Ingested(Struct, frozen=True):
    """Source of a Run that another program measured, and when each of its sessions was taken.

    ``hosts`` are the hashed host names; ``clocks``, by Case id, say how samples were timed.
    """

    source: str
    taken: list[str]
    sha256: list[str] = []
    commit: str | None = None
    dirty: bool = False
    hosts: list[str] = []
    clocks: dict[str, str] = {}

    @property
    def described(self) -> str:
        """The source, and the commit that was measured."""
        commit = f", commit {self.commit[:12]}" if self.commit else ""
        return self.source + commit + (" with uncommitted changes" if self.dirty else "")
