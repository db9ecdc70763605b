"""`verify --net A --net B`: whether two versions of a model agree, and at which layer they part first."""

import dataclasses

from bench import UsageError
from bench.commands.options import refuse_others
from bench.commands.plan import choose_frameworks, plain_cases, refuse_input, worker_settings
from bench.commands.requests import VerifyRequest
from bench.controller.pairing import map_text, pair, read_map
from bench.controller.port import Models, Side
from bench.output import console, port_table
from bench.worker.net_file import read_nets
from impls import PEERS
from impls.files import open_target
from impls.text import quoted

#: Options that apply; the rest are of our own nets.
TAKEN = (
    *("net", "input", "map", "save_map", "as_json", "variant", "size", "batch", "seed", "device", "threads"),
    *("python", "env", "worker_limit_s"),
)
CHANNELS_LAST = "nhwc"  # the layout of a framework's images; of others it is channels first


def main(request: VerifyRequest) -> int:
    refuse_others(TAKEN, "--net compares models as they are, in fp32")
    if len(request.net) != 2:
        raise UsageError(
            f"--net: expected two, as in --net torch=A.py:NAME --net tensorflow=B.py:NAME, found {len(request.net)}"
        )
    if len(request.variant) != 1:
        raise UsageError(f"--variant: expected one, whose image size both get, found {', '.join(request.variant)}")
    links = read_map(request.map) if request.map else []
    first, second = with_input(request, *(side_of(text, request) for text in request.net))
    if first.label == second.label:  # the same net twice, or files of one name in two folders
        first, second = (
            dataclasses.replace(side, label=f"{place} {side.label}")
            for place, side in (("first", first), ("second", second))
        )
    console.tell(f"comparing {' and '.join(map(told, (first, second)))}")
    with Models((first, second), worker_settings(request)) as models:
        pairs = pair(*models.parameters, links, models.labels)
        if request.save_map:
            with open_target(request.save_map, "w", encoding="utf-8") as file:
                file.write(map_text(pairs, links, models.labels))
            console.tell(f"wrote {request.save_map}")
        compared = models.compare(pairs)
    if request.as_json:
        console.print_json(port_table.as_json(compared))
    else:
        port_table.print_comparison(compared)
    return 0 if compared.equal else 1


def side_of(text: str, request: VerifyRequest) -> Side:
    """The model of ``FRAMEWORK=FILE.py:NAME``, or without FRAMEWORK= that which the file imports. Raises UsageError."""
    named, equals, source = text.partition("=")
    equals = equals if named.isidentifier() else ""
    if equals and named not in PEERS:
        raise UsageError(f"--net: expected FRAMEWORK=FILE.py:NAME with {', '.join(PEERS)}, found {quoted(text)}")
    (net,) = read_nets([source if equals else text])
    guest = net.guest([named] if equals else [])
    label = f"{guest.framework} {guest.source}:{guest.call}"
    if equals and guest.framework != named:
        raise UsageError(f"--net {text}: its file imports {guest.framework}: expected {guest.framework}={source}")
    if not guest.model:
        raise UsageError(f"--net {text}: expected a model, or a function that returns one, found one of a Net")
    (framework,) = choose_frameworks(dataclasses.replace(request, framework=guest.framework))
    (case,) = plain_cases(request, [framework], request.variant, batch=request.batch or 2)
    return Side(label, case, guest)


def with_input(request: VerifyRequest, first: Side, second: Side) -> tuple[Side, Side]:
    """The two with the input of --input, of which the second has its image in its own order of axes.

    Raises UsageError.
    """
    refuse_input(request, [first.guest, second.guest])
    if request.input is None:
        return first, second
    shape = request.input.split("x")
    ours, theirs = (side.case.layout == CHANNELS_LAST for side in (first, second))
    if len(shape) == 3 and ours != theirs:  # (c, h, w) and (h, w, c)
        shape = shape[-1:] + shape[:-1] if ours else shape[1:] + shape[:1]
    return with_shape(first, request.input), with_shape(second, "x".join(shape))


def with_shape(side: Side, shape: str) -> Side:
    return dataclasses.replace(side, case=dataclasses.replace(side.case, input=shape))


def told(side: Side) -> str:
    """Its name, with the shape of its inputs if that was given."""
    return f"{side.label} (inputs {side.case.batch}x{side.case.input})" if side.case.input else side.label
