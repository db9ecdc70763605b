"""The eight AlexNets, each written out in full with its source, so that a diff of two nets is a diff of rows."""

import bisect
import dataclasses
import hashlib
import math
from dataclasses import dataclass

from impls.layers import BatchNorm, Conv, Dropout, Fc, Flatten, Layer, LayerError, Lrn, Placed, Pool, Relu, place


@dataclass(frozen=True, slots=True)
class Variant:
    """A net as rows: ``input_size`` pixels square; ``source`` is public, ``note`` one line.

    A ``part`` is a row of another net, to be timed alone: its backward pass starts from its own output in place of a
    loss. ``input_gradient``: the gradient for its input is computed too, which the rows before it would need.
    """

    name: str
    input_size: int
    source: str
    note: str
    layers: tuple[Layer, ...]
    channels: int = 3
    part: bool = False
    input_gradient: bool = False

    def placed(self) -> tuple[Placed, ...]:
        """Every layer with its shapes. Raises LayerError if one does not fit the input size."""
        return place(self.layers, (self.input_size, self.input_size, self.channels))

    def resized(self, input_size: int | None) -> "Variant":
        """The same rows on another input size (None: as it is)."""
        return self if input_size is None else dataclasses.replace(self, input_size=input_size)

    @property
    def output_layer(self) -> Fc:
        """The last dense layer, which has a value per class."""
        return [layer for layer in self.layers if isinstance(layer, Fc)][-1]

    def with_classes(self, classes: int | None) -> "Variant":
        """The same rows with an output layer of another width (None: as it is)."""
        if classes is None:
            return self
        last = self.output_layer
        layers = (dataclasses.replace(last, units=classes) if each is last else each for each in self.layers)
        return dataclasses.replace(self, layers=tuple(layers))

    @property
    def least_size(self) -> int:
        """The smallest input size, in pixels, at which every window fits; every larger one fits too."""

        def fits(size: int) -> bool:
            try:
                return bool(self.resized(size).placed())
            except LayerError:
                return False

        return 1 + bisect.bisect_left(range(1, self.input_size), True, key=fits)

    @property
    def params(self) -> int:
        return sum(placed.params for placed in self.placed())

    @property
    def classes(self) -> int:
        """Values per image of the output, each of which a label may name."""
        return math.prod(self.placed()[-1].output)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image's forward pass."""
        return sum(placed.macs for placed in self.placed())

    @property
    def backward_macs(self) -> int:
        """Twice the forward's, less those of the gradient of the images unless ``input_gradient``."""
        first = next((placed.macs for placed in self.placed() if placed.macs), 0)
        return 2 * self.macs - (0 if self.input_gradient else first)

    @property
    def hash(self) -> str:
        """Hash of rows, input and requested gradients, not of name, source and note.

        A pool that rounds up counts with the pads that it has here: where it adds none the net is the same.
        """
        pads = {layer: layer.pads(shape[0]) for layer, shape, _ in self.placed() if isinstance(layer, Pool)}
        layers = tuple(dataclasses.replace(layer, pad=pads[layer]) if layer in pads else layer for layer in self.layers)
        facts = (self.input_size, self.channels, self.part, self.input_gradient, layers)
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

    def parts(self) -> "tuple[Variant, ...]":
        """Each row as a net of its own, on the input that it has in this one."""
        return tuple(
            Variant(
                f"{self.name}.{placed.layer.name}",
                placed.input[0],
                self.source,
                f"{placed.layer.name} of {self.name} alone",
                (placed.layer,),
                channels=placed.input[2],
                part=True,
                input_gradient=number > 0,
            )
            for number, placed in enumerate(self.placed())
        )


TUTORIAL = Variant(
    "tutorial",
    input_size=224,
    source="'Classic CNNs: AlexNet' benchmark article after tensorflow/models tutorials/image/alexnet (2016)",
    note="LRN after ReLU, SAME conv1, pool5 padded to 7x7; the article's ReLU on the logits is kept",
    layers=(
        Conv("conv1", 64, 11, stride=4, pad=(3, 4)),
        Relu("relu1"),
        Lrn("lrn1", radius=5, alpha=0.001 / 9, beta=0.75, k=1.0),
        Pool("pool1", 3, stride=2),
        Conv("conv2", 192, 5, pad=(2, 2)),
        Relu("relu2"),
        Lrn("lrn2", radius=5, alpha=0.001 / 9, beta=0.75, k=1.0),
        Pool("pool2", 3, stride=2),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 256, 3, pad=(1, 1)),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1)),
        Relu("relu5"),
        Pool("pool5", 3, stride=2, pad=(1, 1)),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Fc("fc7", 4096),
        Relu("relu7"),
        Fc("fc8", 1000),
        Relu("relu8"),  # the article's quirk: ReLU on the logits
    ),
)

CAFFENET = Variant(
    "caffenet",
    input_size=227,
    source="https://github.com/BVLC/caffe/tree/master/models/bvlc_reference_caffenet",
    note="pool before LRN, two groups in conv2, conv4 and conv5, VALID conv1; Caffe weights load too, but see bvlc",
    layers=(
        Conv("conv1", 96, 11, stride=4),
        Relu("relu1"),
        Pool("pool1", 3, stride=2, ceil=True),
        Lrn("lrn1", radius=2, alpha=2e-5, beta=0.75, k=1.0),
        Conv("conv2", 256, 5, pad=(2, 2), groups=2),
        Relu("relu2"),
        Pool("pool2", 3, stride=2, ceil=True),
        Lrn("lrn2", radius=2, alpha=2e-5, beta=0.75, k=1.0),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=(1, 1), groups=2),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1), groups=2),
        Relu("relu5"),
        Pool("pool5", 3, stride=2, ceil=True),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop6", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Dropout("drop7", 0.5),
        Fc("fc8", 1000),
    ),
)

BVLC = Variant(
    "bvlc",
    input_size=227,
    source="https://github.com/BVLC/caffe/tree/master/models/bvlc_alexnet",
    note="the order the circulating Caffe AlexNet weights were trained in: LRN before pool",
    layers=(
        Conv("conv1", 96, 11, stride=4),
        Relu("relu1"),
        Lrn("lrn1", radius=2, alpha=2e-5, beta=0.75, k=1.0),
        Pool("pool1", 3, stride=2, ceil=True),
        Conv("conv2", 256, 5, pad=(2, 2), groups=2),
        Relu("relu2"),
        Lrn("lrn2", radius=2, alpha=2e-5, beta=0.75, k=1.0),
        Pool("pool2", 3, stride=2, ceil=True),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=(1, 1), groups=2),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1), groups=2),
        Relu("relu5"),
        Pool("pool5", 3, stride=2, ceil=True),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop6", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Dropout("drop7", 0.5),
        Fc("fc8", 1000),
    ),
)

ORIGINAL = Variant(
    "original",
    input_size=224,
    source="Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012",
    note="the paper: LRN before pool with k 2, conv1 padded by 2 so that 224 gives 55, groups as trained on two GPUs",
    layers=(
        Conv("conv1", 96, 11, stride=4, pad=(2, 2)),
        Relu("relu1"),
        Lrn("lrn1", radius=2, alpha=1e-4, beta=0.75, k=2.0),
        Pool("pool1", 3, stride=2),
        Conv("conv2", 256, 5, pad=(2, 2), groups=2),
        Relu("relu2"),
        Lrn("lrn2", radius=2, alpha=1e-4, beta=0.75, k=2.0),
        Pool("pool2", 3, stride=2),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=(1, 1), groups=2),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1), groups=2),
        Relu("relu5"),
        Pool("pool5", 3, stride=2),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop6", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Dropout("drop7", 0.5),
        Fc("fc8", 1000),
    ),
)

SINGLE_TOWER = Variant(
    "single_tower",
    input_size=224,
    source="'AlexNet layer by layer' article: the paper's widths without the split over two GPUs",
    note="96/256/384/384/256 in one tower, no LRN, dropout after fc6 and fc7",
    layers=(
        Conv("conv1", 96, 11, stride=4, pad=(2, 2)),
        Relu("relu1"),
        Pool("pool1", 3, stride=2),
        Conv("conv2", 256, 5, pad=(2, 2)),
        Relu("relu2"),
        Pool("pool2", 3, stride=2),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=(1, 1)),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1)),
        Relu("relu5"),
        Pool("pool5", 3, stride=2),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop6", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Dropout("drop7", 0.5),
        Fc("fc8", 1000),
    ),
)

KERAS_BN = Variant(
    "keras_bn",
    input_size=224,
    source="'AlexNet with TensorFlow 2.0' article: a Keras functional model, 46,846,744 parameters in its summary",
    note="LRN replaced by BatchNorm, VALID conv1, 24 classes; the softmax after the logits is left out",
    layers=(
        Conv("conv1", 96, 11, stride=4),
        Relu("relu1"),
        BatchNorm("bn1", eps=1e-3, momentum=0.1),
        Pool("pool1", 3, stride=2),
        Conv("conv2", 256, 5, pad=(2, 2)),
        Relu("relu2"),
        BatchNorm("bn2", eps=1e-3, momentum=0.1),
        Pool("pool2", 3, stride=2),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 384, 3, pad=(1, 1)),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1)),
        Relu("relu5"),
        Pool("pool5", 3, stride=2),
        Flatten("flatten"),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop6", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Dropout("drop7", 0.5),
        Fc("fc8", 24),
    ),
)

HALF_WIDTH = Variant(
    "half_width",
    input_size=224,
    source="'AlexNet explained, built and trained' article: one of the paper's two towers, in PyTorch",
    note="48/128/192/192/128, no pool after conv1, no ReLU between the four dense layers",
    layers=(
        Conv("conv1", 48, 11, stride=4, pad=(2, 2)),
        Relu("relu1"),
        Conv("conv2", 128, 5, pad=(2, 2)),
        Relu("relu2"),
        Pool("pool2", 2, stride=2),
        Conv("conv3", 192, 3, pad=(1, 1)),
        Relu("relu3"),
        Pool("pool3", 2, stride=2),
        Conv("conv4", 192, 3, pad=(1, 1)),
        Relu("relu4"),
        Conv("conv5", 128, 3, pad=(1, 1)),
        Relu("relu5"),
        Pool("pool5", 3, stride=2),
        Flatten("flatten"),
        Fc("fc6", 2048),
        Dropout("drop6", 0.5),
        Fc("fc7", 2048),
        Dropout("drop7", 0.5),
        Fc("fc8", 1000),
        Dropout("drop8", 0.5),
        Fc("fc9", 5),
    ),
)

OWT = Variant(
    "owt",
    input_size=224,
    source="https://arxiv.org/abs/1404.5997",
    note="the 'one weird trick' net that torchvision ships: no LRN, dropout before fc6 and fc7",
    layers=(
        Conv("conv1", 64, 11, stride=4, pad=(2, 2)),
        Relu("relu1"),
        Pool("pool1", 3, stride=2),
        Conv("conv2", 192, 5, pad=(2, 2)),
        Relu("relu2"),
        Pool("pool2", 3, stride=2),
        Conv("conv3", 384, 3, pad=(1, 1)),
        Relu("relu3"),
        Conv("conv4", 256, 3, pad=(1, 1)),
        Relu("relu4"),
        Conv("conv5", 256, 3, pad=(1, 1)),
        Relu("relu5"),
        Pool("pool5", 3, stride=2),
        Flatten("flatten"),
        Dropout("drop6", 0.5),
        Fc("fc6", 4096),
        Relu("relu6"),
        Dropout("drop7", 0.5),
        Fc("fc7", 4096),
        Relu("relu7"),
        Fc("fc8", 1000),
    ),
)

VARIANTS = {
    variant.name: variant for variant in (TUTORIAL, CAFFENET, BVLC, ORIGINAL, SINGLE_TOWER, KERAS_BN, HALF_WIDTH, OWT)
}


def variant_named(name: str, size: int | None = None, classes: int | None = None) -> Variant:
    """A Variant by its name, at an input size, with so many classes; ``owt.conv1`` is that row alone.

    KeyError where there is none.
    """
    net, dot, _ = name.partition(".")
    variant = VARIANTS[net].resized(size).with_classes(classes)
    return {part.name: part for part in variant.parts()}[name] if dot else variant
