"""The parity set of a net: weights, tie-free images and the float64 values every framework is held against; the limits.

A gradient jumps where rounding flips a ReLU or the winner of a pool: one flip moves conv1's gradient by 1e-3 to 1e-2 in
float32, none leaves 1e-6. So an image that comes nearer to a tie than ``TIE`` is rejected, and limits can be strict.
"""

import functools
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from impls import reference
from impls.layers import BatchNorm
from impls.variants import VARIANTS, Variant
from impls.weights import Weights, initial, share

TIE = 3e-6  # share of a layer's RMS; float32 rounding moves a pre-activation by up to about 1e-6 of it
DRAWS = 50  # how many images are tried where no accepted ones are on file

#: Relative L2 against float64, in fp32: measured worst logits 1.4e-6, loss 1.2e-6, gradient 4e-5, statistics 1e-6.
#: Without tie-free images a flip moves a gradient by up to 2e-2.
LIMITS = {"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "state": 1e-5}
LOOSE = LIMITS | {"gradient": 5e-2}
#: BatchNorm in training form on more than the base batch: TensorFlow sums a channel in plain float32, so the batch's
#: statistics lose digits as it grows and push decisions over ties. Measured on keras_bn, batch 4 to 64: loss 6e-5,
#: gradient 6.9e-2 (torch: 3e-6). Such a Net is proven strictly on the base batch first.
BATCH_STATISTICS = LIMITS | {"loss": 5e-4, "gradient": 0.25, "state": 5e-4}


@dataclass(frozen=True)
class ParitySet:
    """What a Worker is held against; the arrays lie in ``folder`` as weights/, images.npy and reference/."""

    folder: Path
    tie_free: bool
    draws: tuple[int, ...]
    base: int
    batch_statistics: bool

    def proofs(self, batch: int) -> list[tuple[int, dict[str, float]]]:
        """The batches at which a Net is proven, and the limits: its own, after the base batch where that is needed."""
        strict = LIMITS if self.tie_free else LOOSE
        if self.batch_statistics and batch > self.base:
            return [(self.base, strict), (batch, BATCH_STATISTICS)]
        return [(batch, strict)]


def judge(checks: list[dict], limits: dict[str, float]) -> list[dict]:
    """A Worker's checks with tolerance and verdict; an error of None is a wrong shape, a missing or infinite value."""
    return [
        check
        | {
            "tolerance": limits[check["kind"]],
            "ok": check["error"] is not None and check["error"] <= limits[check["kind"]],
        }
        for check in checks
    ]


def images(variant: Variant, seed: int, draw: int, count: int) -> np.ndarray:
    """Draw number ``draw`` of the stream ``seed``: N(0, 1) float32 of shape (count, size, size, 3)."""
    rng = np.random.Generator(np.random.PCG64([seed, draw]))
    return rng.standard_normal((count, variant.input_size, variant.input_size, 3), dtype=np.float32)


def accepted(
    variant: Variant, weights: Weights, count: int, seed: int, draws: list[int], most: int, tie: float | None = None
) -> list[int]:
    """The first draws whose images are tie-free, those of ``draws`` tried first and then the stream from 0.

    Images are drawn one by one; where BatchNorm ties them together, the whole batch of ``count`` is one draw.
    At most ``most`` draws are tried; fewer than asked for come back when that is not enough.
    """
    together = count if has_batch_statistics(variant) else 1
    found: list[int] = []
    candidates = draws + [draw for draw in range(most) if draw not in draws]
    for draw in candidates[:most]:
        if len(found) * together == count:
            break
        trace = reference.forward(variant, weights, images(variant, seed, draw, together), training=True)
        if reference.margin(variant, trace) >= (TIE if tie is None else tie):
            found.append(draw)
    return found


def prepare(variant: Variant, folder: Path, *, batch: int, seed: int = 0) -> ParitySet:
    """Compute the parity set of a variant and write it where Workers can map it.

    The base batch is 2 images, or 1 where ``batch`` is odd; a Worker tiles it to its own batch.
    """
    weights = initial(variant, seed)
    share(weights, folder / "weights")
    count = 1 if batch % 2 else 2
    known = _on_file(variant, seed, count)
    draws = accepted(variant, weights, count, seed, known, most=max(DRAWS, len(known)))
    together = has_batch_statistics(variant)
    wanted = 1 if together else count
    tie_free = len(draws) == wanted
    if not tie_free:
        draws = list(range(wanted))
    base = np.concatenate([images(variant, seed, draw, count // wanted) for draw in draws])
    _write_reference(variant, weights, base, folder)
    return ParitySet(folder, tie_free, tuple(draws), count, together)


def _write_reference(variant: Variant, weights: Weights, base: np.ndarray, folder: Path) -> None:
    target = folder / "reference"
    target.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", base)
    trained = reference.forward(variant, weights, base, training=True)
    inferred = reference.forward(variant, weights, base) if trained.statistics else trained
    np.save(target / "logits.npy", inferred.logits)
    np.save(target / "loss.npy", reference.loss(trained.logits))
    for layer, arrays in reference.gradients(variant, weights, trained).items():
        for name, array in arrays.items():
            np.save(target / f"gradient.{layer}.{name}.npy", array.astype(np.float32))
    for layer, (mean, variance) in trained.statistics.items():
        np.save(target / f"statistics.{layer}.npy", np.stack([mean, variance]))


def has_batch_statistics(variant: Variant) -> bool:
    """Whether the images of a batch depend on each other in training form."""
    return any(isinstance(layer, BatchNorm) for layer in variant.layers)


@functools.cache
def _file() -> dict[str, dict[str, list[int]]]:
    data = resources.files("bench").joinpath("data/tie_free.json")
    return json.loads(data.read_text()) if data.is_file() else {}


def _on_file(variant: Variant, seed: int, count: int) -> list[int]:
    """Accepted draws of the default weights and sizes; empty elsewhere."""
    default = VARIANTS.get(variant.name)
    if default is None or default.hash != variant.hash or seed != 0:
        return []
    return _file().get(variant.name, {}).get(str(count), [])


def search() -> None:
    """Rewrite data/tie_free.json: python -m bench.parity (some minutes: one draw in 4 to 600 is accepted)."""
    found: dict[str, dict[str, list[int]]] = {}
    for name, variant in VARIANTS.items():
        weights = initial(variant)
        found[name] = {}
        for count in (1, 2):
            # TensorFlow's batch statistics are off by 1e-5: one image at TIE flips there, at three times it none does
            tie = 3 * TIE if has_batch_statistics(variant) and count == 1 else TIE
            found[name][str(count)] = accepted(variant, weights, count, 0, [], most=20_000, tie=tie)
        print(name, found[name], flush=True)
        Path(__file__).with_name("data").joinpath("tie_free.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    search()
