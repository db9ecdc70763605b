"""What a `predict` is to do: the net that a file of weights is of, the names of its classes, and the files."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import UsageError
from bench.cases.case import Case
from bench.commands.drawn import pictures_of
from bench.commands.plan import choose_one_framework, plain_cases, worker_settings
from bench.commands.requests import PredictRequest
from bench.controller.prediction import Asked
from bench.controller.settings import WorkerSettings
from bench.output.labels import counted, some_of
from bench.pictures import flowers, folder
from bench.pictures.class_names import WITH_BACKGROUND, ClassNames, classes_of
from bench.pictures.listing import SUFFIXES, Entry, Listing, escaped, listed
from bench.record.events import WeightsFile
from bench.record.weights_facts import WeightsFacts, read_facts
from impls import weights
from impls.preprocessing import PREPROCESSINGS, Preprocessing
from impls.text import quoted
from impls.variants import VARIANTS, Variant, variant_named
from impls.weights import Weights, WeightsError

#: Threads that wait for others leave their core to those that decode: 8 % more pictures per second on 2 cores.
YIELDING = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True, eq=False)
class PredictPlan:
    """``trained_on`` is the digest of the names of the pictures that the weights were trained on, None if unknown."""

    cases: Sequence[Case]
    workers: WorkerSettings
    net: Variant
    weights: Weights
    file: WeightsFile
    preprocessing: Preprocessing
    classes: ClassNames
    trained_on: str | None
    notes: tuple[str, ...]

    def at_most(self, pictures: int) -> "PredictPlan":
        """With a batch that this many pictures fill."""
        batch = min(self.cases[0].batch, max(1, pictures) * self.preprocessing.crops)
        return dataclasses.replace(self, cases=[dataclasses.replace(case, batch=batch) for case in self.cases])


def plan(request: PredictRequest) -> PredictPlan:
    """Raises UsageError."""
    frameworks = choose_one_framework(request)
    facts = _net_of(request)
    assert facts.variant
    assert facts.size
    assert facts.preprocessing
    own = variant_named(facts.variant, facts.size)
    python = dict(request.python).get("torch")
    try:
        given, sha256 = weights.load_all(request.weights, [own], python, any_classes=True)
    except (WeightsError, OSError) as error:
        raise UsageError(f"--weights: {error}") from error
    outputs = len(given[own.output_layer.name]["bias"])
    classes = classes_of(outputs, facts.classes, request.labels)
    net = own.with_classes(outputs)
    cases = plain_cases(request, frameworks, [facts.variant], batch=request.batch)
    if len(cases) > len(frameworks):
        raise UsageError(f"--mode: expected one per framework, found {request.mode}")
    cases = [dataclasses.replace(case, size=facts.size) for case in cases]
    notes = []
    if outputs == WITH_BACKGROUND and facts.classes is None and request.labels is None:
        notes.append(
            f"{outputs:,} outputs: the first may be a class `background`; pass --labels FILE, one name per line"
        )
    file = WeightsFile(request.weights.name, sha256)
    settings = worker_settings(request)
    settings = dataclasses.replace(settings, env={**YIELDING, **settings.env})
    return PredictPlan(cases, settings, net, given, file, facts.preprocessing, classes, facts.pictures, tuple(notes))


def _net_of(request: PredictRequest) -> WeightsFacts:
    """Variant, size and preprocessing, as the file says or as is asked for; UsageError naming what is missing."""
    facts = read_facts(request.weights).with_asked(request.variant, request.size, request.preprocessing)
    missing = {"variant": facts.variant, "preprocessing": facts.preprocessing}
    choices: dict[str, Iterable[str]] = {"variant": VARIANTS, "preprocessing": PREPROCESSINGS}
    lacking = [name for name, known in missing.items() if known is None]
    if lacking:
        which = "; ".join(f"--{name}, one of {', '.join(choices[name])}" for name in lacking)
        raise UsageError(
            f"--weights: {request.weights.name} does not say of which {' and '.join(lacking)} its net is; pass {which}"
        )
    return facts


@dataclass(frozen=True)
class Files:
    """What was named: files to predict, and what else was found; ``named`` is that for people."""

    asked: tuple[Asked, ...]
    named: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    truths: Counter[str]


def files_of(request: PredictRequest, scratch: Path, trained_on: str | None) -> Files:
    """List what was named. Raises UsageError for a folder that cannot be read."""
    asked, named, problems, notes = list[Asked](), list[str](), list[str](), list[str]()
    for path in dict.fromkeys(request.pictures):
        drawn = flowers.meant(path)
        if not drawn and not path.is_dir():
            named.append(escaped(str(path)))
            if not request.held_out or folder.is_held_out(path.name):
                folder_of = str(path.parent)
                asked.append(Asked(Entry(folder_of, path.name, None), "" if folder_of == "." else folder_of))
            continue
        listing = listed(pictures_of(path, scratch))
        named.append(escaped(str(path) if drawn else path.resolve().name or str(path)))
        problems += listing.problems
        notes += _remarks(listing, path, request.held_out, trained_on)
        asked += (
            Asked(entry, str(path))
            for entry in listing.entries
            if not request.held_out or folder.is_held_out(entry.file)
        )
    truths = Counter(one.entry.truth for one in asked if one.entry.truth is not None)
    return Files(tuple(asked), tuple(named), tuple(problems), tuple(notes), truths)


def nothing_named(request: PredictRequest, files: Files) -> UsageError:
    kinds = ", ".join(SUFFIXES)
    of = f"held-out pictures ({kinds})" if request.held_out else f"pictures ({kinds})"
    advice = "leave --held-out out, or name another folder" if request.held_out else "name files, or their folder"
    return UsageError(f"expected {of}, found none in {quoted(', '.join(files.named))}; {advice}")


def _remarks(listing: Listing, path: Path, held_out: bool, trained_on: str | None) -> Iterator[str]:
    where = escaped(str(path))
    if listing.others:
        yield f"{where}: {counted(listing.others, 'file')} of other kinds than {', '.join(SUFFIXES)} left out"
    if listing.deeper:
        yield f"{where}: {counted(listing.deeper, 'folder')} within class folders left out"
    for names in listing.alike:
        yield f"{where}: classes whose names differ in case only, which some file systems take for one: {names}"
    labeled = [entry for entry in listing.entries if entry.truth is not None]
    if trained_on and labeled and folder.digest(entry.name for entry in labeled) == trained_on and not held_out:
        known = sum(not folder.is_held_out(entry.file) for entry in labeled)
        of = f"{known:,} of these {len(labeled):,} pictures"
        yield f"{where}: the weights were trained on {of}; --held-out leaves them out"


def unknown_truths(files: Files, classes: ClassNames) -> str:
    """A line on class folders that are no class of the weights; empty if there are none."""
    unknown = {truth: count for truth, count in files.truths.items() if classes.place(truth) is None}
    if not unknown:
        return ""
    named = some_of(f"{quoted(escaped(truth))} ({counted(count, 'picture')})" for truth, count in unknown.items())
    known = some_of(classes.shown)
    if len(unknown) == len(files.truths):
        return f"no accuracy: no class folder is one of the weights: expected {known}; found {named}"
    return f"no class of the weights: {named}; they are in record.csv, and not in the accuracy"
