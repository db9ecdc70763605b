"""Float64 reference values of the default weights, sizes and images, shipped so that a Run need not compute them.

Two .npz per variant and number of images per unit: of the first two units, and of the third, which only a Team needs.
``python -m bench.controller.tie_free values`` writes them, `verify` computes the first again and compares.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench.worker.batches import UNITS
from bench.worker.team_batches import TEAM_UNITS
from impls import reference
from impls.variants import Variant
from impls.weights import Weights

FOLDER = Path(__file__).with_name("reference")
DIGEST = "digest"
#: The units in each file, by the end of its name.
PARTS = {"": slice(0, UNITS), "-third": slice(UNITS, TEAM_UNITS)}
TOLERANCE = 1e-6  # values are float32; sums of another BLAS differ by 1e-15


def digest(variant: Variant, weights: Weights, images: np.ndarray, labels: np.ndarray) -> str:
    """Hash of the layers and arrays that the values follow from; numpy may draw others one day."""
    sha256 = hashlib.sha256(variant.hash.encode())
    sha256.update(np.ascontiguousarray(images).data)
    sha256.update(np.ascontiguousarray(labels).data)
    for arrays in weights.values():
        for array in arrays.values():
            sha256.update(np.ascontiguousarray(array).data)
    return sha256.hexdigest()


def load(variant: str, together: int, wanted: str, part: str = "") -> dict[str, np.ndarray] | None:
    """Values by the names of their files, with a first axis of units or images; None unless their digest is ``wanted``.

    Of large gradients only the values that a Run compares.
    """
    path = _path(variant, together, part)
    try:
        with np.load(path) as file:
            values = dict(file)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):  # missing or damaged
        return None
    return values if str(values.pop(DIGEST, "")) == wanted else None


def save(variant: str, together: int, known: str, values: Mapping[str, np.ndarray], part: str = "") -> None:
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(_path(variant, together, part), **{DIGEST: np.array(known)}, **values)  # type: ignore[arg-type]


def differences(shipped: Mapping[str, np.ndarray], computed: Mapping[str, np.ndarray]) -> list[str]:
    """Names of arrays that are missing on a side or differ by more than TOLERANCE, relative L2."""
    return [
        name
        for name in sorted(shipped.keys() | computed.keys())
        if name not in shipped
        or name not in computed
        or shipped[name].shape != computed[name].shape
        or not reference.relative_l2(shipped[name], computed[name]) <= TOLERANCE
    ]


def _path(variant: str, together: int, part: str) -> Path:
    return FOLDER / f"{variant}-{together}{part}.npz"
