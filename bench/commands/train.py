"""`train`: train a variant on labeled pictures, by the passes that are timed. Nothing is timed here.

Its folder has settings, history, curves, a confusion matrix and checkpoints (bench/record/training.py).
"""

import contextlib
from pathlib import Path

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.commands.requests import TrainRequest
from bench.commands.train_plan import TrainPlan, plan, plan_resumed
from bench.controller.pool import WorkerPool, preflight
from bench.controller.training import Diverged, Training, confusion
from bench.controller.worker_process import WorkerDied
from bench.machine import signals
from bench.machine.lock import lock_devices
from bench.machine.scratch import scratch_folder
from bench.output import console, training_table
from bench.output.plots import confusion as confusion_plot
from bench.output.plots import curves
from bench.output.training_progress import TrainingProgress, describe_pictures
from bench.pictures import flowers, folder, preparer
from bench.record import journal, training
from bench.record.training import BEST, LAST, Checkpoint, Epoch, Trained
from bench.worker.pixels import Stored, map_stored
from impls.weights import WeightsError


def main(request: TrainRequest) -> int:
    with scratch_folder() as scratch:
        source = folder.read(request.pictures or drawn(scratch))
        planned = plan_resumed(request, source) if request.resume else plan(request, source)
        preflight(planned.cases, planned.workers)
        with TrainingProgress(planned.settings.epochs) as progress:
            stored = store(source, planned, scratch / "pictures", progress)
            target = go_on(request.resume, planned) if request.resume else new_folder(request, planned)
            with lock_devices([case.device for case in planned.cases], console.tell):
                session = Session(planned, target, scratch / "pictures", stored, progress)
                interrupted = session.run()
    return show(training.read(target), request, failed=session.failed, interrupted=interrupted)


def drawn(scratch: Path) -> Path:
    """The data set of where no folder is given."""
    console.tell("no FOLDER: 600 pictures of five flowers are drawn")
    flowers.draw(scratch / "flowers")
    return scratch / "flowers"


def store(source: folder.Folder, planned: TrainPlan, target: Path, progress: TrainingProgress) -> Stored:
    """Prepare the pictures for the Workers and tell what was found."""
    count = len(source.pictures)
    done = preparer.store(source, planned.settings.size, target, lambda number: progress.on_pictures(number, count))
    stored = map_stored(target)
    held_out = int(stored.held_out.sum())
    training_count, batch = len(stored.held_out) - held_out, planned.settings.batch
    for line in (*done.skipped[: console.MOST_PROBLEMS], *filter(None, [planned.note])):
        console.tell(line)
    console.tell(describe_pictures(training_count, held_out, planned.settings.classes, done.notes, len(done.skipped)))
    if training_count < batch:
        found = f"{training_count} of a batch of {batch}"
        raise UsageError(f"expected at least one batch of pictures to train on, found {found}; pass a smaller --batch")
    return stored


def new_folder(request: TrainRequest, planned: TrainPlan) -> Path:
    """The folder of a new training, with settings and what each framework begins with."""
    settings = planned.settings
    target = journal.new_folder(request.out, request.name or f"train-{settings.variant}", training.SETTINGS)
    assert planned.initial
    with writing(target):
        training.write_settings(target, settings)
        for framework in settings.frameworks:
            training.write_checkpoint(
                target / framework / LAST, settings, framework, Checkpoint(planned.initial, {}, 0)
            )
    return target


def go_on(target: Path, planned: TrainPlan) -> Path:
    """The folder that is resumed, with the settings that hold from now on and without epochs that no checkpoint has."""
    assert planned.earlier
    with writing(target):
        training.write_settings(target, planned.settings)
        training.write_history(target, planned.earlier.epochs)
    return target


class writing(contextlib.AbstractContextManager[None]):
    """Turns a disk that cannot be written into a UsageError that says what is kept."""

    def __init__(self, target: Path):
        self.target = target

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError | WeightsError):
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"cannot write to {self.target}: {why}; the checkpoints before are kept: make room, then continue with "
                f"`alexnet-bench train --resume {self.target}`"
            ) from error


class Session:
    """Trains the frameworks one after the other and writes each epoch; ``failed``: one of them came to no end."""

    def __init__(self, planned: TrainPlan, target: Path, pictures: Path, stored: Stored, progress: TrainingProgress):
        self.planned, self.target, self.pictures, self.stored = planned, target, pictures, stored
        self.progress = progress
        self.epochs: list[Epoch] = list(planned.earlier.epochs if planned.earlier else ())
        self.confusion = dict(planned.earlier.confusion if planned.earlier else {})
        self.failed = False

    def run(self) -> bool:
        """Whether it was interrupted."""
        try:
            for case in self.planned.cases:
                self.train(case)
        except KeyboardInterrupt:
            signals.answered()
            return True
        return False

    def train(self, case: Case) -> None:
        settings, framework = self.planned.settings, case.framework
        start = training.read_last(self.target, framework, self.planned.net)
        if start.epoch >= settings.epochs:
            return
        job = Training(
            *(case, self.planned.net, start, range(start.epoch + 1, settings.epochs + 1), self.planned.sgd),
            frozen=tuple(settings.freeze),
            pictures=self.pictures,
            stored=self.stored,
        )
        self.progress.on_start(framework)
        try:
            with WorkerPool(self.planned.workers) as pool:
                for done in job.run(pool, self.progress):
                    self.keep(done.epoch, done.checkpoint, done.predicted)
                    self.progress.on_epoch(done.epoch)
        except Diverged as diverged:
            self.failed = True
            last = self.target / framework / LAST
            console.tell(
                f"{framework}: {diverged}, at --lr {settings.lr:g} and --init {settings.init}: pass a smaller --lr; "
                f"{last} is that of epoch {training.last_epoch(self.target, framework)}"
            )
        except WorkerDied as died:
            self.failed = True
            console.tell(str(died))

    def keep(self, epoch: Epoch, checkpoint: Checkpoint, predicted: np.ndarray) -> None:
        """Write an epoch; its checkpoint last, from which a killed training is resumed."""
        settings, framework = self.planned.settings, epoch.framework
        before = [each for each in self.epochs if each.framework == framework]
        self.epochs.append(epoch)
        with writing(self.target):
            training.write_history(self.target, self.epochs)
            if all(training.rank(epoch) > training.rank(each) for each in before):
                labels = self.stored.labels[self.stored.held_out]
                self.confusion[framework] = confusion(labels, predicted, len(settings.classes))
                training.write_confusion(self.target, settings.classes, self.confusion)
                best = Checkpoint(checkpoint.weights, {}, checkpoint.epoch)
                training.write_checkpoint(self.target / framework / BEST, settings, framework, best)
            training.write_checkpoint(self.target / framework / LAST, settings, framework, checkpoint)


def show(trained: Trained, request: TrainRequest, *, failed: bool, interrupted: bool) -> int:
    """Draw the plots and print the results; the exit code: 0, 1 if a training failed, 130 if interrupted."""
    if trained.epochs:
        for plot, name in ((curves, "curves.png"), (confusion_plot, "confusion.png")):
            try:
                plot.draw(trained, trained.folder / name)
            except UsageError as error:
                console.tell(f"no {name}: {error}")
    if request.as_json:
        console.print_json(training_table.as_json(trained))
    else:
        if trained.epochs:
            training_table.print_table(trained)
        console.where(trained.folder)
    if interrupted:
        console.tell(
            f"interrupted: every finished epoch is kept; continue with `alexnet-bench train --resume {trained.folder}`"
        )
        return 130
    return 1 if failed else 0
