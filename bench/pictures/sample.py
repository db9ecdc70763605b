"""A few pictures of a folder, as many of each class, as pixels that a net sees."""

from collections.abc import Iterator

import numpy as np

from bench.pictures.listing import Entry
from bench.pictures.preparer import prepare_all
from bench.pictures.survey import LABELED, State, Survey
from impls.pictures import PictureError
from impls.preprocessing import Preprocessing, augmented, central, color_shift


def choose(survey: Survey, count: int, seed: int, states: tuple[State, ...]) -> list[int]:
    """Places in the listing of ``count`` pictures in one of ``states``, by class, as many of each as there are.

    Equal seeds choose equally with every version of NumPy: raw output of PCG64 is stable (NEP 19).
    """
    by_class: dict[str | None, list[int]] = {}
    for place in np.flatnonzero(np.isin(np.frombuffer(bytes(survey.states), np.uint8), states)).tolist():
        by_class.setdefault(survey.listing.entries[place].truth, []).append(place)
    turns = []  # a picture of each class, then a second one, ...
    for number, places in enumerate(by_class.values()):
        keys = np.random.PCG64([seed, number]).random_raw(len(places))
        chosen = np.argsort(keys, kind="stable")[:count].tolist()
        turns += [(turn, int(keys[index]), places[index]) for turn, index in enumerate(chosen)]
    return sorted(place for _, _, place in sorted(turns)[:count])


def shown(survey: Survey, count: int, seed: int, train: bool) -> Iterator[tuple[Entry, np.ndarray]]:
    """Pictures as a net sees them: what it is given, turned back to pixels, (size, size, 3), uint8, RGB.

    With ``train``, of pictures to train on, crops and colors are those of epoch 1 of a training with this ``seed``;
    otherwise crops are the middle.
    """
    states = (State.UNLABELED, State.TRAINING) if train else (State.UNLABELED, *LABELED)
    places = choose(survey, count, seed, states)
    entries = [survey.listing.entries[place] for place in places]
    found = prepare_all((entry.path for entry in entries), survey.preprocessing)
    for place, entry, picture in zip(places, entries, found, strict=True):
        if isinstance(picture, PictureError):  # changed since it was read
            continue
        if train:
            colors = survey.colors.principal if survey.preprocessing.color_noise else None
            row = _row_of(survey, place)
            yield entry, seen_in_training(picture.square, survey.preprocessing, colors, seed, row)
        else:
            yield entry, seen(central(picture.square, survey.preprocessing.size), survey.preprocessing)


def seen(crop: np.ndarray, preprocessing: Preprocessing, shift: np.ndarray | None = None) -> np.ndarray:
    """What a net is given of a crop, turned back to pixels: (size, size, 3), uint8, RGB."""
    values = preprocessing.normalized(crop[None], None if shift is None else shift[None])
    pixels: np.ndarray = preprocessing.shown(values)[0]
    return pixels


def seen_in_training(
    square: np.ndarray, preprocessing: Preprocessing, colors: np.ndarray | None, seed: int, row: int
) -> np.ndarray:
    """The same of a square in epoch 1 of a training: its crop, flip, and with principal ``colors`` its shift."""
    crop, noise = augmented(square, preprocessing.size, seed, 1, row), preprocessing.color_noise
    return seen(crop, preprocessing, None if colors is None else color_shift(colors, noise, seed, 1, row))


def _row_of(survey: Survey, place: int) -> int:
    """The place of a picture among those that `train` stores: the readable ones of classes."""
    before = survey.states[:place]
    if survey.states[place] == State.UNLABELED:
        return before.count(State.UNLABELED)
    return sum(before.count(state) for state in LABELED)
