"""Parity set of a net: weights, tie-free images and float64 reference values; and the limits of every comparison.

A gradient jumps where rounding flips a ReLU or the winner of a pool: one flip moves conv1's gradient by 1e-3 to 1e-2 in
float32; without a flip it is within 1e-6. Images nearer to a tie than ``TIE`` are rejected, so limits are strict.
"""

import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from bench.controller import dump
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.layers import BatchNorm
from impls.variants import VARIANTS, Variant
from impls.weights import Weights, initial, write_shared

TIE = 3e-6  # fraction of a layer's RMS; float32 rounding moves a pre-activation by up to about 1e-6 of it
DRAWS = 200  # how many images are tried if no accepted draws are on file

#: Relative L2 against float64. fp32: measured worst logits 2.2e-6, loss 1.2e-6, gradient 3.3e-6, statistics 1e-7.
#: tf32 and bf16: three times the worst error of the float64 reference itself when the operands of every convolution and
#: dense layer are rounded to that precision (`python -m bench.controller.parity rounding`; docs/decisions/0004). There
#: rounding flips ReLUs and pools whatever the images, so the norm of a gradient has a limit too.
LIMITS = {
    "fp32": {"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "state": 1e-5},
    "tf32": {"logits": 6e-3, "loss": 2e-3, "gradient": 0.3, "norm": 9e-2, "state": 6e-4},
    "bf16": {"logits": 4e-2, "loss": 6e-2, "gradient": 0.7, "norm": 0.2, "state": 4e-3},
}
#: Without tie-free images rounding in float32 flips them too: a gradient moves by up to 2e-2.
LOOSE = LIMITS["fp32"] | {"gradient": 5e-2, "norm": 5e-3}


@dataclass(frozen=True)
class Judged:
    """A check with its limit and verdict. ``error`` is None for a wrong shape, or a missing or infinite value;
    ``tolerance`` is None for a check that compares no values."""

    kind: CheckKind
    what: str
    error: float | None
    tolerance: float | None
    ok: bool

    @classmethod
    def of_error(cls, kind: CheckKind, what: str, error: float | None, tolerance: float) -> "Judged":
        return cls(kind, what, error, tolerance, error is not None and error <= tolerance)

    @property
    def excess(self) -> float:
        """Error over tolerance; infinite without an error."""
        return math.inf if self.error is None or self.tolerance is None else self.error / self.tolerance

    @property
    def description(self) -> str:
        """What was checked, with its error and tolerance if it has an error."""
        if self.error is None:
            return self.what
        return f"{self.what}: off by {self.error:.1e}, allowed {self.tolerance:.0e}"


@dataclass(frozen=True)
class Proof:
    """One build of a Net to verify: at this batch, in this precision, within these limits.

    ``target`` is the folder of the expected values: ``reference`` or ``theirs``.
    """

    batch: int
    precision: str
    limits: dict[str, float]
    target: str = "reference"


@dataclass(frozen=True)
class ParitySet:
    """Values that Workers are verified against. ``folder`` has the arrays: weights/, images.npy and reference/."""

    folder: Path
    tie_free: bool
    draws: tuple[int, ...]
    base: int
    target: str = "reference"

    def proofs(self, batch: int, precision: str, shown: str | None = None) -> list[Proof]:
        """The builds that prove a Case: itself, and if its precision hides a small fault, first the same net in fp32.

        ``shown`` is the precision that was measured in a process where none is set: its limits apply instead of fp32's.
        """
        strict = LIMITS["fp32"] if self.tie_free else LOOSE
        if shown not in (None, "fp32"):
            strict = LIMITS["tf32" if precision == "bf16" else shown]
        if precision == "fp32":
            return [Proof(batch, "fp32", strict, self.target)]
        return [Proof(self.base, "fp32", strict), Proof(batch, precision, LIMITS[precision], self.target)]


def judge(checks: Sequence[Check], limits: Mapping[str, float]) -> list[Judged]:
    """Add tolerance and verdict to a Worker's checks; if there is a limit of norms, one more check per gradient."""
    judged = []
    for check in checks:
        judged.append(Judged.of_error(check.kind, check.what, check.error, limits[check.kind]))
        if check.kind == CheckKind.GRADIENT and CheckKind.NORM in limits and check.norm is not None:
            what, limit = f"norm of {check.what}", limits[CheckKind.NORM]
            judged.append(Judged.of_error(CheckKind.NORM, what, check.norm, limit))
    return judged


def images(variant: Variant, seed: int, draw: int, count: int) -> np.ndarray:
    """Draw number ``draw`` of the stream ``seed``: N(0, 1) float32 of shape (count, size, size, channels)."""
    rng = np.random.Generator(np.random.PCG64([seed, draw]))
    return rng.standard_normal((count, variant.input_size, variant.input_size, variant.channels), dtype=np.float32)


def accepted(variant: Variant, weights: Weights, count: int, seed: int, draws: list[int], most: int) -> list[int]:
    """The first draws whose images are tie-free; those of ``draws`` are tried first, then the stream from 0.

    A draw is one image, or the whole batch of ``count`` if BatchNorm makes its images depend on each other.
    At most ``most`` draws are tried, so fewer than ``count`` may be returned.
    """
    together = count if has_batch_statistics(variant) else 1
    clear: list[int] = []
    candidates = draws + [draw for draw in range(most) if draw not in draws]
    for draw in candidates[:most]:
        if len(clear) * together == count:
            break
        if reference.clear_of_ties(variant, weights, images(variant, seed, draw, together), TIE):
            clear.append(draw)
    return clear


def prepare(variant: Variant, folder: Path, *, batch: int, seed: int = 0, weights: Weights | None = None) -> ParitySet:
    """Compute the parity set of a variant and write it to ``folder``, from which Workers map it.

    The base batch is 2 images, or 1 if ``batch`` is odd; a Worker tiles it to its own batch. Without ``weights`` they
    are initialized from the seed.
    """
    count = 1 if batch % 2 else 2
    known = _on_file(variant, seed, count) if weights is None else []
    weights = weights or initial(variant, seed)
    write_shared(weights, folder / "weights")
    draws = accepted(variant, weights, count, seed, known, most=max(DRAWS, len(known)))
    together = has_batch_statistics(variant)
    wanted = 1 if together else count
    tie_free = len(draws) == wanted
    if not tie_free:
        draws = list(range(wanted))
    base = np.concatenate([images(variant, seed, draw, count // wanted) for draw in draws])
    _write_reference(variant, weights, base, folder)
    return ParitySet(folder, tie_free, tuple(draws), count)


def adopt(variant: Variant, folder: Path, values: dump.Values, precision: str) -> tuple[ParitySet, list[Judged]]:
    """Make a parity set of another implementation's values, computed in ``precision``.

    Returns it with the checks of those values against float64, which tell which side is off where two differ.
    """
    write_shared(values.weights, folder / "weights")
    trained = _write_reference(variant, values.weights, values.input, folder)
    tie_free = reference.margin(variant, trained) >= TIE
    parity_set = ParitySet(folder, tie_free, (), len(values.input), "theirs")
    (folder / "theirs").mkdir()
    checks = []
    for key, array in values.results():
        np.save(folder / "theirs" / f"{key}.npy", array)
        kind, _, name = key.partition(".")
        what = f"{kind} {name.replace('.', '/')}".strip()
        expected = np.load(folder / "reference" / f"{key}.npy")
        off = reference.difference(array, expected)
        checks.append(Check(CheckKind(kind), what, off["error"], off["norm"]))
    return parity_set, judge(checks, parity_set.proofs(parity_set.base, precision)[-1].limits)


def _write_reference(variant: Variant, weights: Weights, base: np.ndarray, folder: Path) -> reference.Trace:
    """Write reference values of these images under ``folder``; return the forward pass in training form."""
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
    return trained


def has_batch_statistics(variant: Variant) -> bool:
    """Whether the images of a batch depend on each other in training form."""
    return any(isinstance(layer, BatchNorm) for layer in variant.layers)


@functools.cache
def _file() -> dict[str, dict[str, list[int]]]:
    data = resources.files("bench.controller").joinpath("tie_free.json")
    return json.loads(data.read_text()) if data.is_file() else {}


def _on_file(variant: Variant, seed: int, count: int) -> list[int]:
    """Accepted draws in tie_free.json, which has those of the default weights and sizes; else empty."""
    default = VARIANTS.get(variant.name)
    if default is None or default.hash != variant.hash or seed != 0:
        return []
    return _file().get(variant.name, {}).get(str(count), [])


def rounding(variant: Variant, precision: str) -> dict[str, float]:
    """Error of a precision itself: the worst of each kind, of the float64 reference with the operands of convolutions
    and dense layers rounded, relative to the plain reference, on the default parity images."""
    weights, draws = initial(variant), _on_file(variant, 0, 2)
    base = np.concatenate([images(variant, 0, draw, 2 // len(draws)) for draw in draws])
    plain, low = (reference.forward(variant, weights, base, training=True, precision=p) for p in (None, precision))
    logits = [
        trace.logits if not plain.statistics else reference.forward(variant, weights, base, precision=p).logits
        for trace, p in ((low, precision), (plain, None))
    ]
    rounded, exact = (reference.gradients(variant, weights, *args) for args in ((low, precision), (plain, None)))
    pairs = [(rounded[layer][name], array) for layer, arrays in exact.items() for name, array in arrays.items()]
    moved = [
        (a, b)
        for layer in plain.statistics
        for a, b in zip(low.statistics[layer], plain.statistics[layer], strict=True)
    ]
    return {
        "logits": reference.relative_l2(*logits),
        "loss": abs(reference.loss(low.logits) / reference.loss(plain.logits) - 1),
        "gradient": max(reference.relative_l2(a, b) for a, b in pairs),
        "norm": max(abs(float(np.linalg.norm(a) / np.linalg.norm(b)) - 1) for a, b in pairs),
        "state": max((reference.relative_l2(a, b) for a, b in moved), default=0.0),
    }


def print_rounding() -> None:
    """Print the errors from which LIMITS of tf32 and bf16 are derived: three times the worst."""
    for precision in ("tf32", "bf16"):
        by_variant = {name: rounding(variant, precision) for name, variant in VARIANTS.items()}
        worst = {kind: max(errors[kind] for errors in by_variant.values()) for kind in LIMITS[precision]}
        for name, errors in (by_variant | {"worst": worst, "limit": LIMITS[precision]}).items():
            print(f"{precision}  {name:12}", *(f"{kind} {errors[kind]:.1e}" for kind in worst), sep="  ", flush=True)


def search() -> None:
    """Rewrite tie_free.json; takes minutes, since one draw in 4 to 600 is accepted."""
    draws: dict[str, dict[str, list[int]]] = {}
    for name, variant in VARIANTS.items():
        weights = initial(variant)
        draws[name] = {str(count): accepted(variant, weights, count, 0, [], most=20_000) for count in (1, 2)}
        print(name, draws[name], flush=True)
        Path(__file__).with_name("tie_free.json").write_text(json.dumps(draws, indent=1) + "\n")


if __name__ == "__main__":
    {"search": search, "rounding": print_rounding}[sys.argv[1]]()
