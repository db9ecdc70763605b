"""Convert canonical arrays to torch's layout and back; TensorFlow and JAX use the canonical layout."""

import numpy as np
import torch

from impls.layers import Conv, Layer, Shape


def to_torch(layer: Layer, name: str, array: np.ndarray, flat: Shape | None) -> torch.Tensor:
    """Canonical to torch: kernels OIHW, dense (out, in); the first dense after a flatten takes c, h, w."""
    return view_to_torch(layer, name, torch.tensor(array), flat).contiguous()


def view_to_torch(layer: Layer, name: str, value: torch.Tensor, flat: Shape | None) -> torch.Tensor:
    """The same without a copy, as far as there is such a view."""
    if name != "kernel":
        return value
    if isinstance(layer, Conv):
        return value.permute(3, 2, 0, 1)
    if flat is None:
        return value.t()
    return value.reshape(*flat, -1).permute(3, 2, 0, 1).reshape(value.shape[1], -1)


def view_from_torch(layer: Layer, name: str, value: torch.Tensor, flat: Shape | None) -> np.ndarray:
    """Torch to canonical, the way back of ``to_torch``, without a copy: the rows of the first dense kernel after a
    flatten are not flattened, (h, w, c, out)."""
    if name == "kernel":
        if isinstance(layer, Conv):
            value = value.permute(2, 3, 1, 0)
        elif flat is None:
            value = value.t()
        else:
            height, width, channels = flat
            value = value.reshape(-1, channels, height, width).permute(2, 3, 1, 0)
    return value.numpy()


def canonical(x: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) or flat (n, c) to (n, h, w, c)."""
    return x.permute(0, 2, 3, 1) if x.ndim == 4 else x[:, None, None]
