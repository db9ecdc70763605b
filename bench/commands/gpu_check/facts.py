"""Facts: which frameworks can compute on the device, and what nvidia-smi says of it."""

import contextlib
import importlib.util
import subprocess

from bench import UsageError
from bench.commands.options import convert
from bench.commands.plan import choose_frameworks, plain_cases, worker_settings
from bench.commands.requests import GpuCheckRequest, RunRequest
from bench.controller.pool import preflight
from bench.output import console
from impls import FRAMEWORKS, PEERS

SMI_S = 10.0


def usable(request: GpuCheckRequest) -> list[str]:
    """The frameworks asked for, or all that are installed and see the device; those that do not are named.

    Raises UsageError if one that was asked for does not see it, or none does: that of the first.
    """
    run = convert(request, RunRequest, device=(request.device,))
    if request.framework is None:
        run = convert(run, RunRequest, framework=installed(request))
    seen, refused = [], list[UsageError]()
    for name in choose_frameworks(run):
        one = convert(run, RunRequest, framework=name)
        try:
            preflight(plain_cases(one, [name], ["tutorial"]), worker_settings(one))
        except UsageError as error:
            if request.framework is not None:
                raise
            refused.append(error)
        else:
            seen.append(name)
    if not seen:
        raise refused[0]
    for refusal in refused:
        console.tell(f"left out: {refusal}")
    return seen


def installed(request: GpuCheckRequest) -> str | None:
    """All frameworks here and of --python; None without any, which `run` refuses."""
    known = dict(request.python)
    names = [name for name in PEERS if name in known or importlib.util.find_spec(FRAMEWORKS[name].package)]
    return ",".join(names) or None


def nvidia_smi() -> str:
    """What nvidia-smi prints, also where it fails; empty if there is none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, errors="replace", timeout=SMI_S)
        return done.stdout + done.stderr
    return ""
