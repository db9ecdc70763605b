"""Write the files of parity sets that come with the project: tie-free images, and reference values on them.

``python -m bench.controller.tie_free search`` finds the images, which takes some minutes, and computes the values;
``python -m bench.controller.tie_free values`` does the latter alone.
"""

import json
import sys
from pathlib import Path

import numpy as np

from bench.controller import parity, shipped
from bench.controller.parity import images_per_unit
from bench.worker.team_batches import TEAM_UNITS
from impls import reference
from impls.variants import VARIANTS
from impls.weights import initial

SEARCHED = 2000  # one draw in 4 to 600 is farther than TIE from a tie


def search() -> None:
    """Rewrite tie_free.json, by the number of images per unit: of SEARCHED draws those farthest from a tie."""
    draws: dict[str, dict[str, list[int]]] = {}
    for name, variant in VARIANTS.items():
        weights = reference.float64(initial(variant))
        draws[name] = {
            str(together): parity.farthest(variant, weights, together, 0, range(SEARCHED), TEAM_UNITS)
            for together in dict.fromkeys(images_per_unit(variant, batch) for batch in (1, 2))
        }
        print(name, draws[name], flush=True)
        Path(__file__).with_suffix(".json").write_text(json.dumps(draws, indent=1) + "\n")


def write_values() -> None:
    """Rewrite the shipped reference values, of the draws on file."""
    for name, variant in VARIANTS.items():
        weights, together = initial(variant), images_per_unit(variant, 2)
        drawn = [parity.images(variant, 0, draw, together) for draw in parity.on_file(variant, 0, together)]
        labels = np.split(parity.draw_labels(variant, 0, TEAM_UNITS * together), TEAM_UNITS)
        for part, units in shipped.PARTS.items():
            own = np.concatenate(labels[units])
            _, values = parity.compute(variant, reference.float64(weights), drawn[units], False, own)
            digest = shipped.digest(variant, weights, np.concatenate(drawn[units]), own)
            shipped.save(name, together, digest, values, part)
        print(name, flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["search"]:
        search()
    write_values()
