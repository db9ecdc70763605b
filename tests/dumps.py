"""A small net and what a dump of it holds."""

import numpy as np
from arrays import flat

from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import initial

ROWS = (Conv("conv1", 4, 3), BatchNorm("bn1", eps=1e-3, momentum=0.1), Flatten("flatten"), Fc("fc6", 3))
NET = Variant("tiny", input_size=5, source="", note="", layers=ROWS)
WEIGHTS = initial(NET)
TRAINABLE = ("conv1/kernel", "conv1/bias", "bn1/gamma", "bn1/beta", "fc6/kernel", "fc6/bias")
MOVING = ("bn1/moving_mean", "bn1/moving_variance")
KEYS = {"input", "logits", "loss"}
KEYS |= {f"weights/{name}" for name in (*TRAINABLE, *MOVING)} | {f"gradients/{name}" for name in TRAINABLE}


def good(batch=2, results=np.float32):
    """What a dump of NET holds, with bits that arithmetic would lose."""
    rng = np.random.default_rng(3)
    arrays = {f"weights/{name}": array.copy() for name, array in flat(WEIGHTS).items()}
    arrays |= {f"gradients/{name}": rng.normal(size=flat(WEIGHTS)[name].shape).astype(results) for name in TRAINABLE}
    arrays["gradients/conv1/kernel"][0, 0, 0, :2] = -0.0, 1e-45
    arrays["input"] = rng.normal(size=(batch, 5, 5, 3)).astype(np.float32)
    arrays["logits"] = rng.normal(size=(batch, 3)).astype(results)
    arrays["loss"] = np.array(1.5, results)
    return arrays
