"""Parity set of a net: weights, tie-free images and float64 reference values; and the limits of every comparison.

A gradient jumps where rounding flips a ReLU or the winner of a pool: one flip moves conv1's gradient by 1e-3 to 1e-2 in
float32; without a flip it is within 1e-6. Images nearer to a tie than ``TIE`` are rejected, so limits are strict.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from bench.controller import dump, shipped
from bench.worker.batches import UNITS, has_batch_statistics
from bench.worker.checks import INPUT_GRADIENT, flat, sampled
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.variants import VARIANTS, Variant
from impls.weights import Weights, initial, write_shared

TIE = 3e-6  # fraction of a layer's RMS; float32 rounding moves a pre-activation by up to about 1e-6 of it
FEW = 40  # draws of which those farthest from a tie are taken; oneDNN has flipped values at 3.3e-6, XLA at 3.1e-6
DRAWS = 200  # how many images are tried if no accepted draws are on file


def _derived(limits: dict[str, float]) -> dict[str, float]:
    """A step is a sum of gradients and weights, so its change and velocity are off by as much as a gradient. What ranks
    sum to compare it has few bits, so the sum is exact in float32."""
    return limits | dict.fromkeys(("change", "velocity"), limits["gradient"]) | {"reduced": 1e-6}


#: Relative L2 against float64. fp32: measured worst logits 2.2e-6, loss 1.2e-6, gradient 3.3e-6, statistics 1e-7.
#: tf32 and bf16: three times the worst error of the float64 reference itself when the operands of every convolution and
#: dense layer are rounded to that precision (`python -m bench.controller.parity`; docs/decisions/0004). There
#: rounding flips ReLUs and pools whatever the images, so the norm of a gradient has a limit too.
LIMITS = {
    "fp32": _derived({"logits": 1e-5, "loss": 1e-5, "gradient": 1e-4, "state": 1e-5}),
    "tf32": _derived({"logits": 6e-3, "loss": 2e-3, "gradient": 0.3, "norm": 9e-2, "state": 6e-4}),
    "bf16": _derived({"logits": 4e-2, "loss": 6e-2, "gradient": 0.7, "norm": 0.2, "state": 5e-3}),
}
#: Without tie-free images rounding in float32 flips them too: a gradient moves by up to 2e-2.
LOOSE = _derived(LIMITS["fp32"] | {"gradient": 5e-2, "norm": 5e-3})


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
    """Values that Workers are verified against, for units of images of which batches of any size are composed.

    A unit is one image or, if BatchNorm makes images depend on each other, the images of one draw. ``folder`` has the
    weights, images.npy and the folder of expected values, whose arrays have a first axis of units. ``base`` is the
    smallest batch that is composed as larger ones are. ``stale`` are the values shipped with the project that are not
    those computed; ``unshipped`` is whether the default weights and images have no file of theirs.
    """

    folder: Path
    tie_free: bool
    draws: tuple[int, ...]
    base: int
    target: str = "reference"
    stale: tuple[str, ...] = ()
    unshipped: bool = False

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
        if check.kind == CheckKind.FAULT:
            judged.append(Judged(check.kind, check.what, None, None, False))
            continue
        judged.append(Judged.of_error(check.kind, check.what, check.error, limits[check.kind]))
        if check.kind == CheckKind.GRADIENT and CheckKind.NORM in limits and check.norm is not None:
            what, limit = f"norm of {check.what}", limits[CheckKind.NORM]
            judged.append(Judged.of_error(CheckKind.NORM, what, check.norm, limit))
    return judged


def images(variant: Variant, seed: int, draw: int, count: int) -> np.ndarray:
    """Draw number ``draw`` of the stream ``seed``: N(0, 1) float32 of shape (count, size, size, channels)."""
    rng = np.random.Generator(np.random.PCG64([seed, draw]))
    return rng.standard_normal((count, variant.input_size, variant.input_size, variant.channels), dtype=np.float32)


def draw_labels(variant: Variant, seed: int, count: int) -> np.ndarray:
    """Labels of the images of a parity set, (count,) int32: all different if there are as many classes."""
    rng = np.random.Generator(np.random.PCG64([seed, variant.classes]))
    return np.resize(rng.permutation(variant.classes), count).astype(np.int32)


def accepted(
    variant: Variant,
    weights: Weights,
    together: int,
    seed: int,
    draws: Sequence[int],
    most: int,
    units: int = UNITS,
    few: int = FEW,
) -> list[int]:
    """Tie-free draws of ``together`` images, one per unit. With more ``units`` the first ones are the same.

    ``draws`` are tried first, then the first ``few`` of the stream, of which those farthest from a tie are taken, then
    the others. At most ``most`` draws are tried, so fewer may be returned.
    """
    candidates = [*draws, *(draw for draw in range(most) if draw not in draws)][:most]
    first = 0 if draws else few
    clear = farthest(variant, weights, together, seed, candidates[:first], units)
    for draw in candidates[first:]:
        if len(clear) == units:
            break
        if _is_clear(variant, weights, seed, draw, together, TIE):
            clear.append(draw)
    return clear


def farthest(
    variant: Variant, weights: Weights, together: int, seed: int, draws: Iterable[int], units: int = UNITS
) -> list[int]:
    """Of these draws the tie-free ones farthest from a tie, at most one per unit: the farthest two in order, then the
    next."""
    best: list[tuple[float, int]] = []
    for draw in draws:
        tie = best[-1][0] if len(best) == units else TIE
        if _is_clear(variant, weights, seed, draw, together, tie):
            trace = reference.forward(variant, weights, images(variant, seed, draw, together), training=True)
            best = sorted([*best, (reference.margin(variant, trace), draw)], reverse=True)[:units]
    found = [draw for _, draw in best]
    return sorted(found[:UNITS]) + found[UNITS:]


def _is_clear(variant: Variant, weights: Weights, seed: int, draw: int, together: int, tie: float) -> bool:
    return reference.clear_of_ties(variant, weights, images(variant, seed, draw, together), tie)


def prepare(
    variant: Variant,
    folder: Path,
    *,
    batch: int,
    seed: int = 0,
    weights: Weights | None = None,
    whole: bool = False,
    labeled: bool = False,
    units: int = UNITS,
) -> ParitySet:
    """Write the parity set of a variant to ``folder``, from which Workers map it: two ``units``, or TEAM_UNITS if a
    Team is among them. The first two are the same.

    Values shipped with the project are taken, else computed. If ``whole``, all are computed, and of large gradients
    not only those that a Run compares are written. Those of a training step are written if ``labeled``. Without
    ``weights`` they are initialized from the seed.
    """
    together = images_per_unit(variant, batch)
    known = on_file(variant, seed, together)[:units] if weights is None else []
    weights = weights or initial(variant, seed)
    write_shared(weights, folder / "weights")
    base = together if has_batch_statistics(variant) else min(2, batch)
    drawn = [images(variant, seed, draw, together) for draw in known]
    labels = draw_labels(variant, seed, units * together)
    ready = shipped_values(variant, weights, drawn, labels) if known else None
    if ready and not whole:
        _write(folder, drawn, ready, labels)
        return ParitySet(folder, True, tuple(known), base)
    weights = reference.float64(weights)
    draws = accepted(variant, weights, together, seed, known, most=max(DRAWS * units // UNITS, len(known)), units=units)
    tie_free = len(draws) == units
    if not tie_free:
        draws = list(range(units))
    drawn = [images(variant, seed, draw, together) for draw in draws]
    _, values = compute(variant, weights, drawn, whole, labels if labeled else None)
    _write(folder, drawn, values, labels)
    stale = [] if draws == known or not known else ["images"]
    if ready and not stale:
        stale = shipped.differences(ready, _compared(values))
    unshipped = bool(known) and not ready and together == images_per_unit(variant, 2)
    return ParitySet(folder, tie_free, tuple(draws), base, stale=tuple(stale), unshipped=unshipped)


def shipped_values(
    variant: Variant, weights: Weights, drawn: Sequence[np.ndarray], labels: np.ndarray
) -> dict[str, np.ndarray] | None:
    """Shipped values of the units of these images; None unless there are those of every one."""
    together, found = len(drawn[0]), list[dict[str, np.ndarray]]()
    for part, units in shipped.PARTS.items():
        if not drawn[units]:
            continue
        own = labels[units.start * together : units.stop * together]
        wanted = shipped.digest(variant, weights, np.concatenate(drawn[units]), own)
        values = shipped.load(variant.name, together, wanted, part)
        if values is None:
            return None
        found.append(values)
    return {key: np.concatenate([values[key] for values in found]) for key in found[0]}


def images_per_unit(variant: Variant, batch: int) -> int:
    """Two with BatchNorm if they tile the batch, else one."""
    return 1 if batch % 2 or not has_batch_statistics(variant) else 2


def adopt(variant: Variant, folder: Path, values: dump.Values, precision: str) -> tuple[ParitySet, list[Judged]]:
    """Make a parity set of another implementation's values, computed in ``precision``; its input is the only unit.

    Returns it with the checks of those values against float64, which tell which side is off where two differ.
    """
    write_shared(values.weights, folder / "weights")
    (trained,), expected_values = compute(variant, values.weights, [values.input], True)
    _write(folder, [values.input], expected_values, draw_labels(variant, 0, len(values.input)))
    tie_free = reference.margin(variant, trained) >= TIE
    parity_set = ParitySet(folder, tie_free, (), len(values.input), "theirs")
    (folder / "theirs").mkdir()
    checks = []
    for key, array in values.results():
        kind, _, name = key.partition(".")
        of_images = kind == CheckKind.LOGITS or key == INPUT_GRADIENT
        np.save(folder / "theirs" / f"{key}.npy", array if of_images else np.asarray(array)[None])
        what = f"{kind} {name.replace('.', '/')}".strip()
        expected = expected_values[key]
        off = reference.difference(array, expected if of_images else expected[0])
        checks.append(Check(CheckKind(kind), what, off["error"], off["norm"]))
    return parity_set, judge(checks, parity_set.proofs(parity_set.base, precision)[-1].limits)


def compute(
    variant: Variant, weights: Weights, units: Sequence[np.ndarray], whole: bool, labels: np.ndarray | None = None
) -> tuple[list[reference.Trace], dict[str, np.ndarray]]:
    """Forward passes of units in training form, and reference values by the names of their files.

    Logits and gradients of the images have a first axis of images, all else one of units. With ``labels`` there are
    the mean cross-entropy and its gradients too.
    """
    passes, logits, arrays = [], [], dict[str, list[np.ndarray]]()
    for number, unit in enumerate(units):
        trained = reference.forward(variant, weights, unit, training=True)
        inferred = reference.forward(variant, weights, unit) if trained.statistics else trained
        passes.append(trained)
        logits.append(inferred.logits)
        values = {"loss": np.array(reference.loss(trained.logits))}
        for key, array in flat(reference.gradients(variant, weights, trained)).items():
            values[key] = (array if whole or key == INPUT_GRADIENT else sampled(array)).astype(np.float32)
        if labels is not None:
            loss, start = reference.cross_entropy(trained.logits, np.split(labels, len(units))[number])
            values["entropy"] = np.array(loss)
            gradients = reference.gradients(variant, weights, trained, start=start)
            for key, array in flat(gradients).items():
                name = key.replace("gradient.", "entropy.", 1)
                values[name] = (array if whole else sampled(array)).astype(np.float32)
        for layer, statistics in trained.statistics.items():
            values[f"statistics.{layer}"] = np.stack(statistics)
        for key, array in values.items():
            arrays.setdefault(key, []).append(array)
    joined = {key: (np.concatenate if key == INPUT_GRADIENT else np.stack)(parts) for key, parts in arrays.items()}
    return passes, {"logits": np.concatenate(logits)} | joined


def _compared(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of whole values those that a Run compares."""
    kept = ("logits", INPUT_GRADIENT)
    return {key: array if key in kept else np.stack([sampled(unit) for unit in array]) for key, array in values.items()}


def _write(folder: Path, units: Sequence[np.ndarray], values: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
    target = folder / "reference"
    target.mkdir(parents=True)
    np.save(folder / "images.npy", np.concatenate(units))
    np.save(folder / "labels.npy", labels)
    for key, array in values.items():
        np.save(target / f"{key}.npy", array)


@functools.cache
def _file() -> dict[str, dict[str, list[int]]]:
    data = resources.files("bench.controller").joinpath("tie_free.json")
    return json.loads(data.read_text()) if data.is_file() else {}


def on_file(variant: Variant, seed: int, together: int) -> list[int]:
    """Accepted draws in tie_free.json, which has those of the default weights and sizes; else empty."""
    default = VARIANTS.get(variant.name)
    if default is None or default.hash != variant.hash or seed != 0:
        return []
    return _file().get(variant.name, {}).get(str(together), [])


def rounding(variant: Variant, precision: str) -> dict[str, float]:
    """Error of a precision itself: the worst of each kind, of the float64 reference with the operands of convolutions
    and dense layers rounded, relative to the plain reference, on the default parity images."""
    together = 2 if has_batch_statistics(variant) else 1
    weights, draws = initial(variant), on_file(variant, 0, together)[: 2 // together]
    base = np.concatenate([images(variant, 0, draw, together) for draw in draws])
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


if __name__ == "__main__":
    print_rounding()
