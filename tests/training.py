"""Two small nets whose training steps are proven, and the checks of them that fail."""

from bench.controller import parity
from impls.layers import BatchNorm, Conv, Fc, Flatten, Pool, Relu
from impls.variants import Variant

CLASSES = 7  # no other array of the net has an axis of so many values
ROWS = (
    Conv("conv1", 6, 3, stride=2),
    Relu("relu1"),
    BatchNorm("bn1", eps=1e-3, momentum=0.1),
    Pool("pool1", 3, stride=2),
    Flatten("flatten"),
    Fc("fc2", 16),
    Relu("relu2"),
    Fc("fc3", CLASSES),
)
NET = Variant("small", 19, "", "", tuple(row for row in ROWS if not isinstance(row, BatchNorm)))
WITH_BN = Variant("small_bn", 19, "", "", ROWS)
LIMITS = parity.LIMITS["fp32"]


def failed(checks):
    """Checks that are not within the limits of fp32."""
    return [check for check in parity.judge(checks, LIMITS) if not check.ok]
