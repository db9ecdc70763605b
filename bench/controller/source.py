"""Pictures for the loaders of a Run: the feed of each Case, and the proof of what a loader delivers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.cases.case import PRESETS, Case
from bench.controller.gate import Disagrees, refuse
from bench.controller.running_worker import RunningWorker
from bench.pictures import judge
from bench.pictures.listing import escaped
from bench.record import events
from bench.record.events import Place
from bench.worker.messages import ProveLoader
from impls import accelerator_of
from impls.loader import Feed
from impls.pictures import decode
from impls.preprocessing import Preprocessing, central
from impls.text import one_line

PROVEN, PROOF_BATCH = 32, 8  # pictures of the proof, and per batch of it


@dataclass(frozen=True, eq=False)
class Source:
    """The pictures of a Run, on disk until it ends.

    paths, labels : of each picture, which all decode
    folder : for listings and what loaders deliver in their proof
    """

    paths: tuple[str, ...]
    labels: tuple[int, ...]
    facts: events.Pictures
    folder: Path

    @cached_property
    def listing(self) -> str:
        return self._listed("pictures", range(len(self.paths)))

    @cached_property
    def proven(self) -> list[int]:
        """Places of the pictures of the proof, spread over all."""
        count = min(PROVEN, len(self.paths)) // PROOF_BATCH * PROOF_BATCH or min(PROVEN, len(self.paths))
        return [place * len(self.paths) // count for place in range(count)]

    def _listed(self, name: str, places: Sequence[int]) -> str:
        file = self.folder / f"{name}.json"
        chosen = {"paths": [self.paths[place] for place in places], "labels": [self.labels[place] for place in places]}
        file.write_text(json.dumps(chosen))
        return str(file)

    def feed(self, case: Case) -> Feed:
        """What a Case's loader delivers."""
        assert case.loader is not None
        how = self.preprocessing(case), case.batch, case.loader, case.seed, case.preset
        return Feed(self.listing, *how, pinned=accelerator_of(case.device).page_locked)

    def preprocessing(self, case: Case) -> Preprocessing:
        own, size = self.facts.preprocessing, case.net.input_size
        return own if own.size == size else own.at(size)

    @cached_property
    def judged(self) -> dict[Preprocessing, np.ndarray]:
        """Crops of the proof in float64, by preprocessing: (n, size, size, 3), RGB from 0 to 255."""
        return {}

    def expected(self, preprocessing: Preprocessing) -> np.ndarray:
        if preprocessing not in self.judged:
            squares = (judge.square(decode(Path(self.paths[row])).pixels, preprocessing) for row in self.proven)
            self.judged[preprocessing] = np.stack([central(square, preprocessing.size) for square in squares])
        return self.judged[preprocessing]

    def prove(self, worker: RunningWorker, case: Case, place: Place) -> events.LoaderProof:
        """Have a Case's loader deliver an epoch, and compare it with float64. Raises Disagrees, WorkerDied."""
        count, preprocessing = len(self.proven), self.preprocessing(case)
        batch = PROOF_BATCH if count % PROOF_BATCH == 0 else count
        listing, images = self._listed("proof", self.proven), self.folder / "proof.npy"
        assert case.loader is not None
        feed = Feed(listing, preprocessing, batch, case.loader, case.seed, case.preset)
        epoch = worker.process.ask(ProveLoader(feed, str(images)))
        refuse(epoch_fault(epoch.rows, epoch.labels, [self.labels[place] for place in self.proven]))
        errors = pixel_errors(np.load(images), self.expected(preprocessing)[epoch.rows], preprocessing)
        worst = int(errors.reshape(count, -1).max(1).argmax())
        picture = Path(self.paths[self.proven[epoch.rows[worst]]])
        name = escaped(f"{picture.parent.name}/{picture.name}")
        proof = events.LoaderProof(
            *place,
            case_id=case.id,
            pictures=count,
            error=float(errors.max()),
            mean_error=float(errors.mean()),
            picture=name,
        )
        if case.preset == PRESETS[0] and not proof.error <= judge.MOST:
            raise Disagrees(
                one_line(
                    f"its loader is off by up to {proof.error:.3g} of 255 from float64, in {name}; expected at most "
                    f"{judge.MOST}"
                )
            )
        return proof


def epoch_fault(rows: list[int], labels: list[int], expected: list[int]) -> str:
    """Why an epoch is not one: a picture that came twice or never, or with the label of another; else empty."""
    if sorted(rows) != list(range(len(expected))):
        missing = sorted(set(range(len(expected))) - set(rows))
        return f"its loader delivered {len(set(rows))} of {len(expected)} pictures in an epoch, without {missing[:3]}"
    wrong = sum(label != expected[row] for row, label in zip(rows, labels, strict=True))
    return f"its loader delivered {wrong} of {len(expected)} pictures with another label" if wrong else ""


def pixel_errors(images: np.ndarray, expected: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Differences of values for a net from crops in float64, in steps of 255: of the shape of both."""
    ordered = expected if preprocessing.colors == "RGB" else expected[..., ::-1]
    values = images.astype(np.float64) * np.array(preprocessing.divide) + np.array(preprocessing.subtract)
    errors: np.ndarray = np.abs(values - ordered)
    return errors
