"""`predict`: what is in pictures, by trained weights, in one framework or in several that are compared.

Its folder has a row per file (record.csv), what was run, counts per class and the worst mistakes
(bench/record/prediction.py). Nothing is timed here.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import bench
from bench import UsageError
from bench.commands.predict_plan import Files, PredictPlan, files_of, nothing_named, plan, unknown_truths
from bench.commands.requests import PredictRequest
from bench.controller.pool import WorkerPool, preflight
from bench.controller.predicted import Predicted
from bench.controller.prediction import Predictor
from bench.controller.worker_process import WorkerDied
from bench.machine import signals
from bench.machine.lock import lock_devices
from bench.machine.scratch import scratch_folder
from bench.output import console, prediction_table
from bench.output.bar_line import BarLine
from bench.output.labels import counted
from bench.output.plots import confusion as confusion_plot
from bench.output.plots import contact_sheet
from bench.output.plots.contact_sheet import Tile
from bench.record import journal, prediction
from bench.record.csvfile import Growing
from bench.record.prediction import RECORD, Settings
from bench.record.tally import met

MOST_DRAWN = 2000  # classes of a confusion matrix, which has fewer pixels


def main(request: PredictRequest) -> int:
    with scratch_folder() as scratch, lock_devices(request.device, console.tell):
        planned = plan(request)
        files = files_of(request, scratch, planned.trained_on)
        tell(planned, files)
        if not files.asked:
            raise nothing_named(request, files)
        planned = planned.at_most(len(files.asked))
        preflight(planned.cases, planned.workers)
        return Session(request, planned, files).run()


def tell(planned: PredictPlan, files: Files) -> None:
    """What is known before anything is predicted."""
    for line in (*planned.notes, *files.problems[: console.MOST_PROBLEMS], *files.notes):
        console.tell(line)
    if (more := len(files.problems) - console.MOST_PROBLEMS) > 0:
        console.tell(f"and {more:,} more that cannot be read")
    if line := unknown_truths(files, planned.classes):
        console.tell(line)


class Session:
    """Predicts, writes rows as they come, and shows what came out."""

    def __init__(self, request: PredictRequest, planned: PredictPlan, files: Files):
        self.request, self.planned, self.files = request, planned, files
        self.frameworks = [case.framework for case in planned.cases]
        self.found = Predicted(self.frameworks, planned.classes, planned.preprocessing, request.top)
        self.interrupted = self.failed = False

    def run(self) -> int:
        """The exit code."""
        name = self.request.name or f"predict-{self.planned.cases[0].variant}"
        self.folder = journal.new_folder(self.request.out, name, RECORD)
        self.settings = self._settings({})
        with BarLine() as progress, self._writing():
            try:
                self._predict(progress)
            except KeyboardInterrupt:
                signals.answered()
                self.interrupted = True
            except WorkerDied as died:
                self.failed = True
                console.tell(f"{died}; the rows before are kept")
        self._write()
        return self._show()

    @property
    def done(self) -> bool:
        return not self.interrupted and not self.failed

    def _predict(self, progress: BarLine) -> None:
        planned, total = self.planned, len(self.files.asked)
        with Growing(self.folder / RECORD, prediction.columns(self.request.top)) as record:
            prediction.write_settings(self.folder, self.settings)
            with WorkerPool(planned.workers) as pool:
                predictor = Predictor(pool, planned.cases, planned.net, planned.weights, planned.preprocessing)
                self.settings = self._settings(predictor.start())
                prediction.write_settings(self.folder, self.settings)
                for answers in predictor.run(self.files.asked):
                    record.append(row.cells() for row in self.found.add(answers))
                    progress.on_pictures(self.found.files, total)

    def _settings(self, versions: dict[str, dict[str, str]]) -> Settings:
        planned, case = self.planned, self.planned.cases[0]
        return Settings(
            schema=prediction.SCHEMA,
            alexnet_bench=bench.__version__,
            weights=planned.file,
            variant=case.variant,
            size=planned.net.input_size,
            preprocessing=planned.preprocessing,
            classes=list(planned.classes.shown),
            classes_from=planned.classes.source,
            frameworks=self.frameworks,
            device=case.device,
            batch=case.batch,
            pictures=list(self.files.named),
            held_out=self.request.held_out,
            versions=versions,
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turns a disk that cannot be written into a UsageError that says what is kept."""
        try:
            yield
        except OSError as error:
            why = f"cannot write to {self.folder}: {error.strerror or error}"
            raise UsageError(
                f"{why}; the rows before are kept: make room, or choose another folder with --out"
            ) from error

    def _write(self) -> None:
        found, tallies = self.found, self.found.tallies
        with self._writing():
            prediction.write_settings(
                self.folder, self.settings, found.outcome(len(self.files.problems), done=self.done)
            )
            if any(tally.total for tally in tallies.values()):
                prediction.write_counts(self.folder, found.classes.shown, tallies)
        if any(tally.total for tally in tallies.values()):
            self._draw(prediction.MATRIX, self._draw_confusion)
        if found.mistakes:
            self._draw(prediction.MISTAKES, self._draw_mistakes)

    def _draw(self, name: str, draw: Callable[[Path], None]) -> None:
        try:
            draw(self.folder / name)
        except UsageError as error:
            console.tell(f"no {name}: {error}")

    def _draw_confusion(self, target: Path) -> None:
        found = self.found
        places = met(list(found.tallies.values()))
        if len(places) > MOST_DRAWN:
            raise UsageError(
                f"expected at most {MOST_DRAWN} classes, found {len(places):,}; see {prediction.CONFUSION}"
            )
        names = [found.classes.shown[place] for place in places]
        panels = {framework: tally.matrix(places) for framework, tally in found.tallies.items()}
        confusion_plot.draw_counts(names, panels, target)

    def _draw_mistakes(self, target: Path) -> None:
        found, framework = self.found, self.frameworks[0]
        tiles = [
            Tile(each.pixels, f"{each.predicted} {each.probability:.2f}\nis {each.truth}", wrong=True)
            for each in found.mistakes
        ]
        tally = found.tallies[framework]
        wrong = tally.total - round(tally.top1.value * tally.total) if tally.top1 else 0
        which = (
            f"the {len(tiles)} most certain of {wrong:,} mistakes" if wrong > len(tiles) else counted(wrong, "mistake")
        )
        title = f"{framework}: {which}, as the net sees them"
        contact_sheet.draw(tiles, title, target)

    def _show(self) -> int:
        found = self.found
        for line in found.problems[: console.MOST_PROBLEMS]:
            console.tell(line)
        others = len(self.files.problems)  # links that lead nowhere, pipes, folders
        if left := found.unreadable + others:
            console.tell(f"left out: {left:,} of {counted(found.files + others, 'file')}, which cannot be read")
        if self.request.as_json:
            outcome = found.outcome(len(self.files.problems), done=self.done)
            made = prediction_table.as_json(self.settings, found, outcome, str(self.folder))
            console.print_json(made)
        else:
            if found.predicted:
                prediction_table.print_predicted(self.settings, found)
            console.where(self.folder)
        if self.interrupted:
            left = len(self.files.asked) - found.files
            console.tell(f"interrupted: {found.files:,} files are in {self.folder / RECORD}, {left:,} are not")
            return 130
        if self.failed or found.not_finite:
            return 1
        if not found.predicted:
            console.tell(f"nothing could be read of {counted(found.files, 'file')}")
            return 2
        return 1 if self.request.strict and (found.unreadable or self.files.problems) else 0
