"""Users' files with a net, as text, and the guest that is read of one."""

from collections.abc import Sequence

from bench.worker.guest import Guest
from bench.worker.net_file import read_nets

BUILD = "def build(variant, weights, how):\n    return None\n"
METHODS = "load forward forward_backward wait logits gradients".split()
NET = "\n".join(
    [
        "class Net:",
        "    def __init__(self, *given):",
        "        self.given = given",
        *(f"    def {name}(self, *given):\n        return {name!r}" for name in METHODS),
    ]
)
PLAIN = f"{NET}\ndef build(variant, how):\n    return Net(variant, how)\n"


def read(text: str, frameworks: Sequence[str] = ()) -> Guest:
    """The guest of one FILE.py:FUNCTION."""
    (net,) = read_nets([text])
    return net.guest(frameworks)
