"""A program: read the tensors of a .pth or .pt file with torch, for a process that does not import it.

    python -I impls/torch_state_dict.py FILE

It writes a line of JSON to stdout: ``names`` and ``shapes``, followed by the values as float32, one array after the
other; or ``why`` it refuses the file, in which nothing is executed (``weights_only``).
"""

import json
import re
import sys
import warnings
import zipfile
from typing import Any

WRAPPERS = ("state_dict", "model")  # keys of a training program's checkpoint, next to its epoch and optimizer


class Refused(ValueError):
    pass


def tensors(path: str) -> dict[str, Any]:
    """The tensors of a state dict, or of one in a checkpoint. Raises Refused."""
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch compresses nothing; what is compressed could be of any size
            packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
        if packed:
            raise Refused(f"expected tensors as torch.save writes them, found {packed[0]} compressed")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip, or torch; its own advice is to load without weights_only
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if not asked:
            raise Refused(f"cut off, damaged, or not of torch.save: {type(error).__name__}: {error}") from error
        raise Refused(
            f"refused: its pickle asks for {asked[1]}; expected tensors and nothing else, as of "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    for key in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not state:
        raise Refused(f"expected a state dict, found {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise Refused(f"{name}: expected a tensor, found {type(tensor).__name__}")
        if tensor.dtype != torch.float32 or tensor.layout != torch.strided:
            raise Refused(f"{name}: expected float32, found {tensor.layout} {tensor.dtype}".replace("torch.", ""))
        if tensor.numel() * 4 > tensor.untyped_storage().nbytes():  # could be of any size too
            raise Refused(f"{name}: expected each value once, found {tuple(tensor.shape)} of repeated ones")
    return state


def main(path: str) -> None:
    warnings.simplefilter("ignore")
    header: dict[str, Any]
    try:
        state = tensors(path)
    except ImportError as error:
        state, header = {}, {"missing": str(error)}
    except Refused as error:
        state, header = {}, {"why": str(error)}
    else:
        header = {"names": list(state), "shapes": [list(tensor.shape) for tensor in state.values()]}
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    for tensor in state.values():
        sys.stdout.buffer.write(tensor.detach().contiguous().numpy().data)


if __name__ == "__main__":
    main(sys.argv[1])
