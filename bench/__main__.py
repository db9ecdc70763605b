"""Run the alexnet-bench command from a plain checkout: ``python -m bench``."""

import os
import signal
from typing import Any


def exit_interrupted(*_: Any) -> None:
    """Handle Ctrl-C during imports, where KeyboardInterrupt would print a traceback."""
    os.write(2, b"alexnet-bench: interrupted\n")
    os._exit(130)


def main() -> None:
    before = signal.signal(signal.SIGINT, exit_interrupted)
    from bench.commands.cli import main as command
    from bench.output import stdout

    signal.signal(signal.SIGINT, before)
    stdout.call(command)


if __name__ == "__main__":
    main()
