"""Read and write a user's model for a comparison with its port: answers of a Worker, with arrays as files."""

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np

import impls
from bench.worker import messages
from bench.worker.guest import NotANet, ran_out_of_memory
from bench.worker.replies import Differentiated, TracedCall, TracedModel
from impls.port import Parameter, Port, shaken, state_of

ROUNDING = 5e-7  # of two frameworks, relative, after some layers
SAME_LOSS = 1e-3
RANDOM = "is random in training mode, as with dropout"


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
        for number, array in enumerate(arrays.values()):
            np.save(folder / f"{kind}.{number}.npy", array)
    calls = []
    for number, call in enumerate(traced.calls):
        if call.input is not None:
            np.save(folder / f"call.{number}.input.npy", call.input)
        for stage, array in enumerate(call.outputs):
            np.save(folder / f"call.{number}.{stage}.npy", array)
        grids = [list(shape) for shape in call.grids]
        calls.append(TracedCall(call.layer, call.input is not None, len(call.outputs), grids))
    return TracedModel(list(traced.inputs), list(traced.outputs), calls)


def differentiate(port: Port, net: Any, request: messages.Differentiate) -> Differentiated:
    """Two passes, the second with inputs and parameters changed by rounding: a gradient that moves is not known more
    exactly. If the loss moves, a third as the first: a model that draws random numbers has another loss again."""
    every = port.parameters(net)
    values = {parameter.name: array.copy() for parameter, array in every}
    state = state_of(every)
    try:
        loss, found = port.differentiate(net, 0.0)
        port.write(net, {name: shaken(array, ROUNDING) for name, array in values.items()})
        again, others = port.differentiate(net, ROUNDING)
        if math.isfinite(loss) and not math.isclose(loss, again, rel_tol=SAME_LOSS):
            port.write(net, values)
            again, _ = port.differentiate(net, 0.0)
            if not math.isclose(loss, again, rel_tol=SAME_LOSS):
                return Differentiated([], [], RANDOM)
    except Exception as error:  # such as BatchNorm of one value per channel
        if ran_out_of_memory(error):
            raise
        line = next(iter(str(error).splitlines()), "")
        return Differentiated([], [], f"a pass in training mode ended by {type(error).__name__}: {line}"[:300])
    finally:
        port.write(net, values)
    noise = []
    for number, (name, array) in enumerate(found.items()):
        np.save(Path(request.folder) / f"{number}.npy", array)
        moved = float(np.linalg.norm(np.ravel(array - others[name])))
        if name in state:  # a change is a difference of two values
            moved += ROUNDING * float(np.linalg.norm(np.ravel(state[name])))
        noise.append(moved if math.isfinite(moved) else 0.0)
    return Differentiated(list(found), noise, "")
