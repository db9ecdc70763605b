"""torchvision's AlexNet as weights of ``owt``: ``features.0.weight`` ... ``classifier.6.bias``, in any wrapper.

Its layout: convolutions (filters, channels, h, w), dense layers (out, in), the first of them over (c, h, w).
"""

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from impls.text import one_line
from impls.variants import Variant

FITS = "owt"
#: By layer: https://docs.pytorch.org/vision/stable/models/alexnet.html
MODULES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
NAMES = {"kernel": "weight", "bias": "bias"}
PROGRAM = Path(__file__).with_name("torch_state_dict.py")  # of a process of its own: nothing here imports torch
WRAPPERS = {"module", "_orig_mod"}  # parts of names that DataParallel and torch.compile add, anywhere
LIMIT_S = 300.0  # for torch to read 240 MB


class Refused(ValueError):
    """A file that is no state dict; the message says why, after the file's name."""

    def __init__(self, why: str):
        super().__init__(one_line(why, 300))


def read(path: Path, python: str) -> dict[str, np.ndarray]:
    """Arrays of a .pth or .pt file by name, read by torch of the interpreter ``python`` in a process of its own.

    Raises Refused, OSError.
    """
    command = [python, "-I", str(PROGRAM), str(path.absolute())]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise Refused(f"not read within {LIMIT_S:.0f} s") from error
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Refused(f"torch ended with exit code {done.returncode} reading it: {words[-1] if words else ''}")
    line, _, data = done.stdout.partition(b"\n")
    header = json.loads(line)
    if missing := header.get("missing"):
        raise Refused(
            f"torch is needed to read it ({missing}): pip install 'alexnet-bench[torch]', or write a .safetensors "
            "where torch is: safetensors.torch.save_file(state_dict, FILE)"
        )
    if why := header.get("why"):
        raise Refused(why)
    arrays, begin = {}, 0
    for name, shape in zip(header["names"], header["shapes"], strict=True):
        arrays[name] = np.frombuffer(data, np.float32, math.prod(shape), begin).reshape(shape)
        begin += arrays[name].nbytes
    return arrays


def is_torchvisions(arrays: Mapping[str, object]) -> bool:
    """Whether any name is one of torchvision's."""
    return any(_plain(name).startswith(("features.", "classifier.")) for name in arrays)


def output_bias(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The bias of the last dense layer, which has a value per class; None if it is missing."""
    return next((array for name, array in arrays.items() if _plain(name) == f"{MODULES['fc8']}.bias"), None)


def canonical(arrays: Mapping[str, np.ndarray], variant: Variant) -> dict[str, dict[str, np.ndarray]]:
    """A state dict as weights of ``owt``, whose values are unchecked. Raises Refused for a name or shape that is not
    its own."""
    if variant.name != FITS:
        raise Refused(f"torchvision's names fit --variant {FITS}, found {variant.name}")
    by_name = {_plain(name): array for name, array in arrays.items()}
    if len(by_name) < len(arrays):
        raise Refused(f"expected each array once, found {len(arrays)} arrays of {len(by_name)} names")
    found: dict[str, dict[str, np.ndarray]] = {}
    grid = (1, 1, 0)  # height, width and channels of what the next dense layer is given
    for layer, before, after in variant.placed():
        if layer.kind == "flatten":
            grid = before
        for name, shape in layer.trainable(before).items():
            module = f"{MODULES[layer.name]}.{NAMES[name]}"
            array = _popped(by_name, module, _theirs(shape))
            if name == "kernel":
                height, width, channels = grid if layer.kind == "fc" else shape[:3]
                array = array.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(shape)
            found.setdefault(layer.name, {})[name] = array
        if layer.kind == "fc":
            grid = after
    for name in by_name:
        raise Refused(f"{one_line(name, 100)}: not an array of torchvision's AlexNet")
    return found


def _theirs(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a canonical array in torch."""
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _popped(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = arrays.pop(name, None)
    if array is None or array.shape != shape or array.dtype != np.float32:
        problem = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
        raise Refused(f"{name}: expected float32 of shape {shape}, found {problem}")
    return array


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
