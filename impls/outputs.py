"""What a user's model returns: tensors, in tuples, dicts and dataclasses."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


class Unfit(ValueError):
    """A model that cannot be timed, one line."""


def tensors_in(value: Any, kind: Any) -> list[Any]:
    """The tensors of type ``kind`` in an output, in its order; of other objects nothing."""
    if isinstance(value, kind):
        return [value]
    if isinstance(value, Mapping):
        children: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        children = value
    else:
        children = vars(value).values() if dataclasses.is_dataclass(value) else ()
    return [tensor for child in children for tensor in tensors_in(child, kind)]


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a call: a dict by names, a tuple or list in order, all else a single one."""
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs), {}) if isinstance(inputs, tuple | list) else ((inputs,), {})


def check_outputs(first: list[np.ndarray], again: list[np.ndarray]) -> None:
    """Outputs of two calls on the same inputs. Raises Unfit if there are none, or if they differ."""
    if not first:
        raise Unfit("it returned no floating-point tensor: expected one, or a tuple, dict or dataclass with some")
    for old, new in zip(first, again, strict=True):
        scale = float(np.max(np.abs(old), initial=0.0, where=np.isfinite(old)))
        if old.shape != new.shape or not np.allclose(old, new, rtol=1e-3, atol=1e-3 * scale, equal_nan=True):
            raise Unfit(
                "two calls on the same inputs gave different outputs: expected the same in inference mode; "
                "switch off its dropout or random numbers there"
            )
