"""How it is timed: the harness. It never imports a framework; only a Worker loads one, through ``impls.load``."""

__version__ = "0.1.0"


class UsageError(Exception):
    """A user's mistake: one line, expected, found, what to do; exit 2."""
