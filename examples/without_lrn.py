"""Our torch net without its LRN layers, to measure their cost: run --net examples/without_lrn.py:build.

It computes another function than the Variant, so it does not take the Variant's weights and cannot be proven.
"""

import dataclasses

from impls import torch_alexnet
from impls.layers import Lrn
from impls.net import Build, Net
from impls.variants import Variant
from impls.weights import initial


def build(variant: Variant, how: Build) -> Net:
    rows = tuple(layer for layer in variant.layers if not isinstance(layer, Lrn))
    plain = dataclasses.replace(variant, layers=rows)
    return torch_alexnet.build(plain, initial(plain), how)
