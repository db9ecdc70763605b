"""`train`: train a variant on labeled pictures, by the passes that are timed. Nothing is timed here.

Its folder has settings, history, curves, a confusion matrix and checkpoints (bench/record/training.py).
"""

import contextlib
import dataclasses
import shlex
from pathlib import Path

import numpy as np

from bench import UsageError
from bench.cases.case import Case
from bench.commands.drawn import pictures_of
from bench.commands.requests import TrainRequest
from bench.commands.train_plan import TrainPlan, plan, plan_resumed
from bench.controller.pool import WorkerPool, preflight
from bench.controller.training import Diverged, Training, colors_of, order
from bench.controller.worker_process import WorkerDied
from bench.machine import signals
from bench.machine.lock import lock_devices
from bench.machine.scratch import scratch_folder
from bench.output import console, training_table
from bench.output.labels import counted
from bench.output.plots import confusion as confusion_plot
from bench.output.plots import contact_sheet, curves
from bench.output.plots.contact_sheet import Tile
from bench.output.training_progress import TrainingProgress, describe_pictures
from bench.pictures import flowers, folder, preparer, sample
from bench.pictures.listing import SUFFIXES, escaped
from bench.record import journal, training
from bench.record.training import BEST, LAST, Checkpoint, Epoch, Trained
from bench.worker.pixels import Stored, map_stored
from impls.weights import WeightsError

MOST_DRAWN = 32  # pictures of a batch


def main(request: TrainRequest) -> int:
    if flowers.meant(request.pictures):
        request = dataclasses.replace(request, pictures=None)
    # the lock first: two may resume one folder
    with scratch_folder() as scratch, lock_devices(request.device, console.tell):
        source = folder.read(pictures_of(request.pictures, scratch))
        planned = plan_resumed(request, source) if request.resume else plan(request, source)
        preflight(planned.cases, planned.workers)
        with TrainingProgress(planned.settings.epochs) as progress:
            stored = store(source, planned, scratch / "pictures", progress)
            target = request.resume or new_folder(request, planned)
            draw_batch(planned, stored, target)
            session = Session(planned, target, scratch / "pictures", stored, progress, resume_command(request, target))
            interrupted = session.run()
    return show(training.read(target), session, as_json=request.as_json, interrupted=interrupted)


def store(source: folder.Folder, planned: TrainPlan, target: Path, progress: TrainingProgress) -> Stored:
    """Prepare the pictures for the Workers and tell what was found."""
    count = len(source.pictures)
    done = preparer.store(
        source, planned.settings.preprocessing, target, lambda number: progress.on_pictures(number, count)
    )
    stored = map_stored(target)
    held_out = int(stored.held_out.sum())
    training_count, batch = len(stored.held_out) - held_out, planned.settings.batch
    problems = (*source.problems, *done.skipped)
    for line in (*problems[: console.MOST_PROBLEMS], *filter(None, [planned.note])):
        console.tell(line)
    if source.ignored:
        console.tell(f"ignored: {counted(source.ignored, 'file')} of other kinds than {', '.join(SUFFIXES)}")
    tested = set(stored.labels[stored.held_out].tolist())
    if untested := [name for label, name in enumerate(source.classes) if label not in tested]:
        console.tell(f"no picture is held out of {', '.join(untested)}: the accuracy says nothing of such classes")
    console.tell(describe_pictures(training_count, held_out, planned.settings.classes, done.notes, len(done.skipped)))
    if training_count < batch:
        found = f"{training_count} of a batch of {batch}"
        raise UsageError(f"expected at least one batch of pictures to train on, found {found}; pass a smaller --batch")
    return stored


def draw_batch(planned: TrainPlan, stored: Stored, target: Path) -> None:
    """Draw the first batch of epoch 1 as the net sees it; a training goes on without."""
    settings = planned.settings
    rows = order(np.flatnonzero(~stored.held_out), settings.seed, 1)[: min(settings.batch, MOST_DRAWN)]
    colors, how = colors_of(stored, settings.preprocessing), settings.preprocessing
    tiles = [
        Tile(
            sample.seen_in_training(stored.pictures[row], how, colors, settings.seed, row),
            escaped(settings.classes[stored.labels[row]]),
        )
        for row in rows
    ]
    title = (
        f"{settings.variant} at {how.size} px, {how.name}: {len(rows)} pictures of the first batch as the net sees them"
    )
    try:
        contact_sheet.draw(tiles, title, target / training.BATCH)
    except UsageError as error:
        console.tell(f"no {training.BATCH}: {error}")


def resume_command(request: TrainRequest, target: Path) -> str:
    """The command that continues this training, with what its folder does not store."""
    words = ["alexnet-bench", "train", *([str(request.pictures)] if request.pictures else []), "--resume", str(target)]
    words += ["--device", *request.device] if request.device != ("cpu",) else []
    words += ["--mode", request.mode] if request.mode else []
    words += ["--threads", str(request.threads)] if request.threads else []
    words += [word for name, path in request.python for word in ("--python", f"{name}={path}")]
    words += [word for name, value in request.env for word in ("--env", f"{name}={value}")]
    return shlex.join(words)


def new_folder(request: TrainRequest, planned: TrainPlan) -> Path:
    """The folder of a new training, with settings and what each framework begins with."""
    settings = planned.settings
    target = journal.new_folder(request.out, request.name or f"train-{settings.variant}", training.SETTINGS)
    assert planned.initial
    with writing(target, resume_command(request, target)):
        training.write_settings(target, settings)
        for framework in settings.frameworks:
            start = Checkpoint(planned.initial, {})
            training.write_checkpoint(target / framework / LAST, settings, framework, start)
    return target


class writing(contextlib.AbstractContextManager[None]):
    """Turns a disk that cannot be written into a UsageError that says what is kept, and the ``command`` to go on."""

    def __init__(self, target: Path, command: str):
        self.target, self.command = target, command

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, OSError | WeightsError):
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"cannot write to {self.target}: {why}; the checkpoints before are kept: make room, then continue with "
                f"`{self.command}`"
            ) from error


class Session:
    """Trains the frameworks one after the other and writes each epoch; ``failed``: one of them came to no end.

    ``command`` is what continues it.
    """

    def __init__(
        self,
        planned: TrainPlan,
        target: Path,
        pictures: Path,
        stored: Stored,
        progress: TrainingProgress,
        command: str,
    ):
        self.planned, self.target, self.pictures, self.stored = planned, target, pictures, stored
        self.progress, self.command = progress, command
        self.epochs: list[Epoch] = list(planned.earlier.epochs if planned.earlier else ())
        self.confusion = dict(planned.earlier.confusion if planned.earlier else {})
        self.failed = False

    def run(self) -> bool:
        """Whether it was interrupted."""
        try:
            with writing(self.target, self.command):
                training.write_settings(self.target, self.planned.settings)
            for case in self.planned.cases:
                self.train(case)
        except KeyboardInterrupt:
            signals.answered()
            return True
        return False

    def train(self, case: Case) -> None:
        settings, framework = self.planned.settings, case.framework
        start = training.read_last(self.target, framework, self.planned.net)
        if start.result:  # of a killed training the files that follow from it may be missing
            self.record(start)
        if start.epoch >= settings.epochs:
            return
        job = Training(
            *(case, self.planned.net, start, range(start.epoch + 1, settings.epochs + 1), self.planned.sgd),
            frozen=tuple(settings.freeze),
            preprocessing=settings.preprocessing,
            pictures=self.pictures,
            stored=self.stored,
        )
        self.progress.on_start(framework)
        try:
            with WorkerPool(self.planned.workers) as pool:
                for checkpoint in job.run(pool, self.progress):
                    assert checkpoint.result
                    with writing(self.target, self.command):
                        training.write_checkpoint(self.target / framework / LAST, settings, framework, checkpoint)
                    self.record(checkpoint)
                    self.progress.on_epoch(checkpoint.result.epoch)
        except Diverged as diverged:
            self.failed = True
            begun = f"--weights {settings.weights.file}" if settings.weights else f"--init {settings.init}"
            last, result = self.target / framework / LAST, training.last_result(self.target, framework)
            kept = f"or go on from epoch {result.epoch.epoch}: --weights {last}" if result else "no epoch was finished"
            what = f"{framework}: {diverged}, at --lr {settings.lr:g} from {begun}"
            console.tell(f"{what}: begin with a smaller --lr; {kept}")
        except WorkerDied as died:
            self.failed = True
            console.tell(str(died))

    def record(self, checkpoint: Checkpoint) -> None:
        """Write what follows from a last checkpoint: its row of the history and, if it is the best, its weights."""
        assert checkpoint.result
        settings, epoch = self.planned.settings, checkpoint.result.epoch
        framework = epoch.framework
        before = [each for each in self.epochs if each.framework == framework and each.epoch < epoch.epoch]
        others = [each for each in self.epochs if each.framework != framework]
        self.epochs = sorted([*others, *before, epoch], key=lambda each: settings.frameworks.index(each.framework))
        with writing(self.target, self.command):
            training.write_history(self.target, self.epochs)
            if all(training.rank(epoch) > training.rank(each) for each in before):
                self.confusion[framework] = checkpoint.result.confusion(len(settings.classes))
                training.write_confusion(self.target, settings.classes, self.confusion)
                best = dataclasses.replace(checkpoint, velocity={})
                training.write_checkpoint(self.target / framework / BEST, settings, framework, best)


def show(trained: Trained, session: Session, *, as_json: bool, interrupted: bool) -> int:
    """Draw the plots and print the results; the exit code: 0, 1 if a training failed, 130 if interrupted."""
    if trained.epochs:
        for plot, name in ((curves, training.CURVES), (confusion_plot, training.MATRIX)):
            try:
                plot.draw(trained, trained.folder / name)
            except UsageError as error:
                console.tell(f"no {name}: {error}")
    if as_json:
        console.print_json(training_table.as_json(trained))
    else:
        if trained.epochs:
            training_table.print_table(trained)
        console.where(trained.folder)
    if interrupted:
        console.tell(f"interrupted: every finished epoch is kept; continue with `{session.command}`")
        return 130
    return 1 if session.failed else 0
