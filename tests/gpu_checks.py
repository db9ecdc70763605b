"""Steps of `gpu-check` taken without their commands, and Runs that those would have made."""

from runs import make

from bench.commands.gpu_check.child import Ended
from bench.commands.gpu_check.settings import ACCELERATOR
from bench.commands.gpu_check.steps import STEPS, Check, Made
from bench.record.events import Failed
from bench.record.journal import Journal
from bench.record.run import Run

FULL = "ran out of memory: MemoryError: planted"
BY_NAME = {step.name: step for step in STEPS}


def check_of(tmp_path, settings=ACCELERATOR, device="cuda", frameworks=("torch", "jax"), passed_on=()):
    (tmp_path / "runs").mkdir(exist_ok=True)
    return Check(settings, device, frameworks, passed_on, tmp_path)


def taken(name, check, seconds=100.0, ending=lambda line: Made(Ended(line, 0, 1.0), [])):
    """The commands of a step, each of which ends so, and the step's remark."""
    commands, lines, made = BY_NAME[name].commands(check, seconds), [], None
    try:
        while True:
            lines.append(commands.send(made))
            made = ending(lines[-1])
    except StopIteration as end:
        return lines, end.value


def commands_of(name, check, seconds=100.0):
    return taken(name, check, seconds)[0]


def planted_run(folder, case, failed=None):
    """A Run of one Case, which may have failed for a reason."""
    run = make(folder, [case])
    for each, reason in (failed or {}).items():
        Journal(folder).add(Failed(each.id, reason))
        run = Run(folder)
    return run
