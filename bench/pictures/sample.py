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
            yield entry, _augmented(picture.square, survey, seed, _row_of(survey, place))
        else:
            yield entry, _there_and_back(central(picture.square, survey.preprocessing.size), survey.preprocessing)


def _augmented(square: np.ndarray, survey: Survey, seed: int, row: int) -> np.ndarray:
    preprocessing, shift = survey.preprocessing, None
    crop = augmented(square, preprocessing.size, seed, 1, row)
    if noise := preprocessing.color_noise:
        shift = color_shift(survey.colors.principal, noise, seed, 1, row)
    return _there_and_back(crop, preprocessing, shift)


def _there_and_back(crop: np.ndarray, preprocessing: Preprocessing, shift: np.ndarray | None = None) -> np.ndarray:
    values = preprocessing.normalized(crop[None], None if shift is None else shift[None])
    pixels: np.ndarray = preprocessing.shown(values)[0]
    return pixels


def _row_of(survey: Survey, place: int) -> int:
    """The place of a picture among those that `train` stores: the readable ones of classes."""
    before = survey.states[:place]
    if survey.states[place] == State.UNLABELED:
        return before.count(State.UNLABELED)
    return sum(before.count(state) for state in LABELED)
