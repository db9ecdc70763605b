"""The harness of alexnet-bench. It never imports a framework; only a Worker does, through ``impls.load``."""

__version__ = "0.1.0"


class UsageError(Exception):
    """A user's mistake, in one line: what was expected, what was found, what to do. Exit code 2."""
