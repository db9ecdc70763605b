"""Read and write a user's model for a comparison with its port: answers of a Worker, with arrays as files."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

import impls
from bench.worker import messages
from bench.worker.guest import NotANet, ran_out_of_memory
from bench.worker.replies import Differentiated, TracedModel, TracedStep
from impls.port import Parameter, Port, shaken

ROUNDING = 5e-7  # of two frameworks, relative, after some layers
SAME_LOSS = 1e-3
RANDOM = "the model is random in training mode, as with dropout"


def of(framework: str) -> Port:
    module: Any = importlib.import_module(impls.FRAMEWORKS[framework].ports)
    return module  # type: ignore[no-any-return]


def read_parameters(port: Port, net: Any, request: messages.ReadParameters) -> list[Parameter]:
    try:
        found = port.parameters(net)
    except ValueError as error:  # another type than float32
        raise NotANet(str(error)) from error
    for number, (_, values) in enumerate(found):
        np.save(Path(request.folder) / f"{number}.npy", values)
    return [parameter for parameter, _ in found]


def write_parameters(port: Port, net: Any, request: messages.WriteParameters) -> int:
    files = (Path(request.folder) / f"{number}.npy" for number in range(len(request.names)))
    port.write(net, {name: np.load(file) for name, file in zip(request.names, files, strict=True)})
    return len(request.names)


def trace(port: Port, net: Any, request: messages.TraceModel) -> TracedModel:
    traced, folder = port.trace(net), Path(request.folder)
    for kind, arrays in (("input", traced.inputs), ("output", traced.outputs)):
        for number, array in enumerate(arrays):
            np.save(folder / f"{kind}.{number}.npy", array)
    steps = []
    for number, step in enumerate(traced.steps):
        if step.input is not None:
            np.save(folder / f"step.{number}.input.npy", step.input)
        for stage, array in enumerate(step.outputs):
            np.save(folder / f"step.{number}.{stage}.npy", array)
        grids = [list(shape) for shape in step.grids]
        steps.append(TracedStep(step.layer, step.input is not None, len(step.outputs), grids))
    return TracedModel(len(traced.inputs), len(traced.outputs), steps)


def differentiate(port: Port, net: Any, request: messages.Differentiate) -> Differentiated:
    """Two passes, the second with inputs and parameters changed by rounding: a model that draws random numbers has
    another loss, and a gradient that moves is not known more exactly."""
    values = {parameter.name: array.copy() for parameter, array in port.parameters(net)}
    try:
        loss, gradients = port.differentiate(net, 0.0)
        port.write(net, {name: shaken(array, ROUNDING) for name, array in values.items()})
        again, others = port.differentiate(net, ROUNDING)
    except Exception as error:  # such as BatchNorm of one value per channel
        if ran_out_of_memory(error):
            raise
        line = next(iter(str(error).splitlines()), "")
        return Differentiated([], [], f"a pass in training mode ended by {type(error).__name__}: {line}"[:300])
    finally:
        port.write(net, values)
    if math.isfinite(loss) and not math.isclose(loss, again, rel_tol=SAME_LOSS):
        return Differentiated([], [], RANDOM)
    noise = []
    for number, (name, array) in enumerate(gradients.items()):
        np.save(Path(request.folder) / f"{number}.npy", array)
        moved = float(np.linalg.norm(np.ravel(array - others[name])))
        noise.append(moved if math.isfinite(moved) else 0.0)
    return Differentiated(list(gradients), noise, "")
