"""How the process of a Worker begins: the code that its interpreter is given, and its arguments."""

from collections.abc import Sequence

OLDEST = (3, 11)  # of a Worker: enum.StrEnum
# Loads the two packages from the given paths without adding those to sys.path: another interpreter must import its own
# framework and numpy. Python 2.7 compiles it too, to say that it is too old.
BOOTSTRAP = f"""
import sys
if sys.version_info[:2] < {OLDEST}:
    sys.exit("Python %d.%d: a Worker needs {OLDEST[0]}.{OLDEST[1]} or newer" % tuple(sys.version_info[:2]))
if sys.argv[4]:
    import os
    os.sched_setaffinity(0, map(int, sys.argv[4].split(",")))
import importlib.util
for name, path in (("impls", sys.argv[1]), ("bench", sys.argv[2])):
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
from bench.worker.main import main
main(sys.argv[3], int(sys.argv[5]))
"""


def command(
    python: str, packages: tuple[str, str], framework: str, cores: Sequence[int], controller: int = 0
) -> list[str]:
    """The command line of a Worker. ``packages`` are the files of impls and bench; ``cores`` are empty for all.

    ``controller`` is the number of the process with which it ends, 0 for one of another machine.
    """
    return [python, "-c", BOOTSTRAP, *packages, framework, ",".join(map(str, cores)), str(controller)]
