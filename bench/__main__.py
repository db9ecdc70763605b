"""python -m bench: the alexnet-bench command from a plain checkout."""

import os
import signal
from typing import Any


def interrupted(*_: Any) -> None:
    """Ctrl-C while Python still imports, where an exception would end in a traceback."""
    os.write(2, b"alexnet-bench: interrupted\n")
    os._exit(130)


def main() -> None:
    before = signal.signal(signal.SIGINT, interrupted)
    from bench.commands.cli import main as command

    signal.signal(signal.SIGINT, before)
    command()


if __name__ == "__main__":
    main()
