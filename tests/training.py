"""Two small nets whose training steps are proven, and the checks of them that fail."""

from bench.controller import parity
from impls.layers import BatchNorm, Conv, Fc, Flatten, Lrn, Pool, Relu
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


def split_net(groups: int) -> Variant:
    """A net that 2 or 3 ranks can share in every way, with convolutions in so many groups and, without, BatchNorm."""
    lrn = {"radius": 2, "alpha": 0.1, "beta": 0.75, "k": 1.0}  # a neighbor's channels count
    early = (BatchNorm("bn1", eps=1e-3, momentum=0.1),) if groups == 1 else (Lrn("lrn1", **lrn),)
    rows = (
        Conv("conv1", 12, 3, stride=2),
        Relu("relu1"),
        *early,
        Pool("pool1", 3, stride=2),
        Conv("conv2", 12, 3, pad=(1, 1), groups=groups),
        Relu("relu2"),
        Lrn("lrn2", **lrn),
        Conv("conv3", 12, 3, pad=(1, 1)),
        Flatten("flatten"),
        Fc("fc4", 18),
        Relu("relu4"),
        Fc("fc5", 6),
        Relu("relu5"),
    )
    return Variant(f"small_groups{groups}", 19, "", "", rows)


SMALL = {net.name: net for net in (NET, WITH_BN, *map(split_net, (1, 2, 3)))}
LIMITS = parity.LIMITS["fp32"]


def failed(checks):
    """Checks that are not within the limits of fp32."""
    return [check for check in parity.judge(checks, LIMITS) if not check.ok]
