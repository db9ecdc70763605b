"""What a `train` is to do: settings, Cases and initial weights, of a request or of the folder that it resumes."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import structs

import bench
from bench import UsageError
from bench.cases.case import Case, check_size
from bench.commands.options import refuse_others
from bench.commands.plan import choose_one_framework, plain_cases, worker_settings
from bench.commands.requests import TrainRequest
from bench.controller.settings import WorkerSettings
from bench.output.labels import counted
from bench.pictures.folder import Folder
from bench.record import training
from bench.record.events import WeightsFile
from bench.record.training import Settings, Trained
from bench.record.weights_facts import WeightsFacts, read_facts
from impls import weights
from impls.inits import INITS
from impls.net import Sgd
from impls.preprocessing import PREPROCESSINGS
from impls.text import quoted
from impls.variants import VARIANTS, Variant, variant_named
from impls.weights import Weights, WeightsError

VARIANT, SIZE, EPOCHS, PLAIN = "half_width", 99, 20, "plain"
MOST_NAMED = 10  # classes in a line
#: Options that can be given with --resume: what a training does not store, and what changes no step.
WITH_RESUME = {
    "resume",
    "pictures",
    "epochs",
    "mode",
    "python",
    "env",
    "device",
    "threads",
    "worker_limit_s",
    "as_json",
}


@dataclass(frozen=True)
class TrainPlan:
    """``initial`` is what every framework begins with, None of a resumed one; ``note`` says how it differs from its
    file."""

    settings: Settings
    cases: Sequence[Case]
    workers: WorkerSettings
    initial: Weights | None = None
    earlier: Trained | None = None
    note: str = ""

    @property
    def net(self) -> Variant:
        return variant_named(self.settings.variant, self.settings.size, len(self.settings.classes))

    @property
    def sgd(self) -> Sgd:
        return Sgd(self.settings.lr, self.settings.momentum, self.settings.decay)


def plan(request: TrainRequest, source: Folder) -> TrainPlan:
    """Raises UsageError."""
    frameworks = choose_one_framework(request)
    facts = _net_of(request)
    assert facts.variant
    assert facts.size
    assert facts.preprocessing
    classes = _classes(source, request.classes)
    net = variant_named(facts.variant, facts.size, len(classes))
    _refuse_frozen(request.freeze, net)
    initial, file, note = _initial(request, net, classes, facts)
    sgd = Sgd(request.lr)
    settings = Settings(
        schema=training.SCHEMA,
        alexnet_bench=bench.__version__,
        variant=facts.variant,
        size=facts.size,
        preprocessing=facts.preprocessing,
        classes=classes,
        frameworks=frameworks,
        epochs=request.epochs or EPOCHS,
        lr=sgd.lr,
        momentum=sgd.momentum,
        decay=sgd.decay,
        batch=request.batch,
        seed=request.seed,
        init=request.init,
        freeze=list(request.freeze),
        weights=file,
        pictures=request.pictures.resolve().name if request.pictures else None,
        names=source.digest,
    )
    return TrainPlan(settings, _cases(request, settings), worker_settings(request), initial, note=note)


def plan_resumed(request: TrainRequest, source: Folder) -> TrainPlan:
    """The plan of a folder of `train`; raises UsageError unless the pictures have its classes."""
    assert request.resume
    refuse_others(WITH_RESUME, "--resume: a training goes on with its own settings")
    earlier = training.read(request.resume)
    settings = earlier.settings
    if settings.variant not in VARIANTS or settings.batch < 1:
        raise UsageError(f"--resume: {request.resume / training.SETTINGS} has other values than `train` writes")
    check_size([settings.variant], settings.size)
    if settings.names != source.digest or settings.classes[: len(source.classes)] != list(source.classes):
        of = f"the pictures of {settings.pictures}" if settings.pictures else "the drawn flowers"
        same = "name the same FOLDER" if settings.pictures else "leave FOLDER out"
        raise UsageError(
            f"--resume: it was trained on {of}, found other pictures or classes; {same}, or begin anew "
            f"with --weights {request.resume / settings.frameworks[0] / training.BEST}"
        )
    settings = structs.replace(settings, epochs=request.epochs or settings.epochs)
    last = [training.last_result(request.resume, framework) for framework in settings.frameworks]
    if all(result and result.epoch.epoch >= settings.epochs for result in last):
        raise UsageError(f"--resume: nothing is left of {counted(settings.epochs, 'epoch')}; pass a larger --epochs")
    earlier = dataclasses.replace(earlier, settings=settings)
    return TrainPlan(settings, _cases(request, settings), worker_settings(request), earlier=earlier)


def _net_of(request: TrainRequest) -> WeightsFacts:
    """Variant, size and preprocessing: as asked, as the file of weights says, or the defaults."""
    given = read_facts(request.weights) if request.weights else WeightsFacts(size=None if request.size else SIZE)
    facts = given.with_asked(request.variant or given.variant or VARIANT, request.size, None)
    if request.preprocessing is None and facts.preprocessing:
        return facts
    assert facts.size
    return dataclasses.replace(facts, preprocessing=PREPROCESSINGS[request.preprocessing or PLAIN].at(facts.size))


def _classes(source: Folder, count: int | None) -> list[str]:
    """Names in the order of the labels: those of the folder, and more without a name if ``count`` asks for them."""
    names = list(source.classes)
    for name in names:
        if not name.isprintable():
            raise UsageError(f"expected class folders with printable names in UTF-8, found {quoted(name)}; rename it")
        if count and name.startswith("unnamed "):
            raise UsageError(f"--classes: {quoted(name)} is the name of a class without pictures; rename the folder")
    if count is not None and count < len(names):
        raise UsageError(f"--classes: expected at least the {len(names)} of the folder, found {count}; leave it out")
    return names + [f"unnamed {number}" for number in range(len(names) + 1, (count or 0) + 1)]


def _refuse_frozen(freeze: Sequence[str], net: Variant) -> None:
    known = list(weights.shapes(net))
    for name in freeze:
        if name not in known:
            raise UsageError(f"--freeze: {net.name} has no layer {quoted(name)} to train: choose of {', '.join(known)}")
    if set(known) <= set(freeze):
        raise UsageError(f"--freeze: expected fewer than all layers of {net.name}; nothing is left to train")


def _initial(
    request: TrainRequest, net: Variant, classes: Sequence[str], facts: WeightsFacts
) -> tuple[Weights, WeightsFile | None, str]:
    """Initial weights, the file that they are from, and a line on what of it was replaced."""
    drawn = INITS[request.init](net, request.seed)
    if request.weights is None:
        return drawn, None, ""
    path, last, python = request.weights, net.output_layer.name, dict(request.python).get("torch")
    try:
        given, sha256 = weights.load_all(path, [net], python, any_classes=True)
    except (WeightsError, OSError) as error:
        raise UsageError(f"--weights: {error}") from error
    named, units = facts.classes, len(given[last]["bias"])
    before = ", ".join(named) if named and len(named) <= MOST_NAMED else f"{units:,} classes"
    file, note = WeightsFile(path.name, sha256), f"{path.name}: every layer is taken from it"
    if units != net.output_layer.units or (named is not None and list(named) != list(classes)):
        given = given | {last: drawn[last]}
        note = f"{path.name}: {last} was of other classes ({before}) and is drawn; every other layer is taken from it"
    return given, file, note


def _cases(request: TrainRequest, settings: Settings) -> list[Case]:
    cases = plain_cases(request, settings.frameworks, [settings.variant], batch=settings.batch)
    if len(cases) > len(settings.frameworks):
        raise UsageError(f"--mode: expected one per framework, found {request.mode}")
    return [dataclasses.replace(case, size=settings.size, seed=settings.seed) for case in cases]
