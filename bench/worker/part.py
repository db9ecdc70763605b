"""The modules of a user's model, each timed alone: which they are, and the Net of one."""

import dataclasses
import importlib
from typing import Any

import impls
from bench.worker import guest
from bench.worker.guest import Filled, Guest, NotANet
from bench.worker.messages import BuildNet
from bench.worker.replies import ModelPart, ModelParts
from impls.outputs import Unfit
from impls.parts import Call, Parts, awake, deepest
from impls.variants import Variant


class Modules:
    """A user's model as a ``request`` builds it, whose modules are called once; kept for the next of its parts."""

    def __init__(self, request: BuildNet, variant: Variant):
        assert request.guest is not None
        self.request, self.module = _whole(request), _of(request.guest)
        whole = guest.build(request.guest.whole, variant, {}, request.how, (), request.input_shape)
        calls, _ = recorded(self.module, request.guest, whole.net)
        self.calls = {call.module.name: call for call in calls}

    def serve(self, request: BuildNet) -> bool:
        """Whether the request is for a part of the same model, built alike."""
        return bool(request.guest and request.guest.part) and _whole(request) == self.request

    def build(self, net: Guest) -> Filled:
        """The Net of ``net.part``. Raises NotANet if the model has no such module now, or if it fails alone."""
        if net.part not in self.calls:
            raise NotANet(f"{net.source}:{net.call} has no module {net.part}: expected the same at each call")
        try:
            made = self.module.part(self.calls[net.part], self.request.how)
            made.check()
        except Unfit as error:
            raise NotANet(f"{net.part} alone: {error}") from error
        except Exception as error:
            raise guest.refused(net, f"with its {net.part} alone", error) from error
        return Filled(made, self.request.how)


def described(net: Guest, whole: Any) -> ModelParts:
    """The parts of a model that is built. Raises NotANet for a model without modules."""
    calls, inside = recorded(_of(net), net, whole)
    parts = [
        ModelPart(call.module.name, type(call.module.own).__name__, call.calls, list(call.shape), call.params)
        for call in calls
        if not call.refused
    ]
    if not parts:
        raise NotANet(f"{net.source}:{net.call} has no module that can be called alone; `run` times it whole")
    return ModelParts(parts, [f"{call.module.name}: {call.refused}" for call in calls if call.refused], inside)


def recorded(module: Parts, net: Guest, whole: Any) -> tuple[list[Call], int]:
    """The calls of the modules that are timed alone, and how many more are inside them."""
    try:
        found = awake(module.modules(whole), module.idle)
        chosen = deepest(found)
        return module.record(whole, chosen), len(deepest(found, most=10**9)) - len(chosen)
    except Unfit as error:
        raise NotANet(f"{net.source}:{net.call} has no modules of its own: {error}; `run` times it whole") from error


def _of(net: Guest) -> Parts:
    name = impls.FRAMEWORKS[net.framework].parts
    if not name:
        raise NotANet(
            f"{net.source}:{net.call} is a model in {net.framework}: the modules of torch and Keras models are timed "
            "alone; `run` times it whole"
        )
    module: Any = importlib.import_module(name)
    return module  # type: ignore[no-any-return]


def _whole(request: BuildNet) -> BuildNet:
    """What parts of one model have in common."""
    assert request.guest is not None
    return dataclasses.replace(request, guest=request.guest.whole, folder="", needed=[], wanted=[])
