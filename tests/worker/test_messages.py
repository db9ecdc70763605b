"""Messages between controller and Worker: each goes there and back; one that is not as declared is one clear line."""

import json
import typing

import pytest

from bench.worker import messages, replies, wire
from bench.worker.guest import Guest
from bench.worker.main import Worker
from bench.worker.ownership import OwnedTwice
from bench.worker.replies import CheckKind, Failure, FaultKind, GpuSearch, Output
from bench.worker.wire import Malformed
from impls.loader import Feed
from impls.net import Build, Settings, Sgd
from impls.port import Parameter
from impls.preprocessing import PREPROCESSINGS

HOW = Build(2, "cpu", "fp32", "part", "nhwc", dropout=True, seed=7, lrn="fast")
GUEST = Guest("/a/net.py", "build", "torch", "0123", True, part="stem.conv")
LIBRARIES = [replies.Library("libgomp.so.1", False)]
CONDITIONS = replies.Conditions(
    *(2, True, None, False, {"flush_denormal": True, "level": 3, "name": "x", "none": None, "share": 0.5}),
    *("cpu", "nhwc", {"forward": 1}, ["fetch"], LIBRARIES, ["jax"]),
)
CHECKS = [
    replies.Check(CheckKind.GRADIENT, "gradient fc8/bias", 1e-7, 2e-8),
    replies.Check(CheckKind.LOSS, "x", None),
]
SETTINGS = replies.FrameworkConditions(2, None, True, None, {})
READING = replies.Reading(4, 1, CHECKS, "its fetch returned None", 10**6, 10**5, SETTINGS, "00ff00ff")
DIGESTS = {Output.GRADIENTS: "0123abcd"}
#: Every request with a reply to it, each field other than its default.
PLAIN = PREPROCESSINGS["plain"]
FEED = Feed("/pictures.json", PLAIN, 8, 2)
EXCHANGES = [
    (messages.Configure(Settings("cuda:1", None, "tf32", "default")), replies.Ready({"a": "1", "b": 9}, ["cpu"], "3")),
    (messages.BuildNet("owt", 67, "/weights", HOW, GUEST, ["load"], ["label"]), replies.Identity("0123", 61, 700)),
    (messages.ListLacking(), ["restart", "train_step"]),
    (messages.ProbePrecision(HOW), {"conv": replies.PrecisionProbe(3e-7, "fp32")}),
    (messages.MeasureCeiling(HOW, 2, True), replies.CeilingRates(1.5, None, 2.0)),
    (messages.MeasureNumpyRate(), 12.5),
    (messages.ReadConditions(), CONDITIONS),
    (
        messages.DescribeEnvironment(),
        replies.Environment(
            *(LIBRARIES, ["jax"]),
            SETTINGS,
            [OwnedTwice("libx.so", ["one", "two"])],
        ),
    ),
    (messages.DescribeLayers(), [replies.LayerReport("conv1", 55, 55, 64, 23296, 0)]),
    (messages.CountParams(), 2_328_296),
    (messages.CallFirst("forward"), 10**9),
    (messages.Verify([Output.LOGITS], True, "theirs", "/kept"), replies.Verified(CHECKS, None, DIGESTS)),
    (messages.CheckSync("forward", 10**6, 3), replies.SyncLag(20, 100, 2_000_000)),
    (
        messages.MeasureDeviceTime("forward", 10**6),
        replies.DeviceTime([900, 901], [30, 31], replies.TimerCheck(20_001, 20_000, 20_010), True),
    ),
    (
        messages.Measure("forward_backward", 5, 9, [1, 4], 1, Output.GRADIENTS, messages.Reload(7, 10**6)),
        replies.Measured([1, 3], [2, 2], 0.5, None, 2**40, [READING], 900, 800, 7000, 0.25),
    ),
    (messages.MeasureOverhead(3, "forward"), [50, 60, 70]),
    (messages.ProveLoader(FEED, "/here/images.npy"), replies.LoaderEpoch([2, 0, 1], [4, 4, 3])),
    (
        messages.MeasureLoader(FEED, 4, fed=True),
        replies.MeasuredLoader([1, 2], [3, 4], 1, 5, 0.5, 1.5, 7, None, 2**20, True),
    ),
    (messages.ReadParameters("/here"), [Parameter("fc.weight", "fc", [3, 2], [2, 3], True)]),
    (messages.WriteParameters("/here", ["fc.weight"]), 1),
    (messages.TraceModel("/here"), replies.TracedModel([""], ["a", "b"], [replies.TracedCall("fc", True, 2, [[1]])])),
    (
        messages.ListParts(),
        replies.ModelParts([replies.ModelPart("stem.conv", "Conv2d", 2, [7, 7, 64], 1792)], ["gate: no tensor"], 3),
    ),
    (messages.Differentiate("/here"), replies.Differentiated(["fc.weight"], [1e-6], "")),
    (messages.StartTraining("/pictures", PLAIN, Sgd(0.1, 0.8, 0.2), 3, "/velocity", [[0.5, 1.0, 2.0]] * 3), None),
    (messages.Train([4, 0, 7], 2), [1.5, None]),
    (messages.ComputeLogits("/pictures", [3, 1], PLAIN, "/here/logits.npy"), None),
    (messages.SaveTrained("/weights", "/velocity"), None),
]
IDS = [request.do for request, _ in EXCHANGES]


def test_every_request_is_here_with_a_reply_and_the_worker_answers_it():
    assert list(messages.REQUESTS) == IDS
    answers = Worker("null").answers
    assert list(answers) == list(messages.REQUESTS.values())
    for request, answer in answers.items():
        hints = typing.get_type_hints(answer)
        assert hints == {"request": request, "return": request.reply}


@pytest.mark.parametrize(("request_", "reply"), EXCHANGES, ids=IDS)
def test_a_request_and_its_reply_go_there_and_back(request_, reply):
    line = messages.write_request(request_)
    assert line.count(b"\n") == 1
    assert messages.read_request(line) == request_
    back = messages.read_reply(request_, messages.write_reply(reply))
    assert back == reply
    assert type(back) is type(reply)


@pytest.mark.parametrize(("request_", "reply"), EXCHANGES, ids=IDS)
def test_a_failure_is_one_in_reply_to_any_request(request_, reply):
    failure = Failure(FaultKind.MEMORY, "MemoryError: no room", GpuSearch("13.0", 2))
    assert messages.read_reply(request_, messages.write_reply(failure)) == failure


def test_words_of_a_closed_vocabulary_come_back_as_its_members():
    request = messages.read_request(messages.write_request(messages.Verify([Output.GRADIENTS], True, "2")))
    assert [type(output) for output in request.outputs] == [Output]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"do": "mesure"}, "expected one of the requests configure, build, lacking, probe, .*, found 'mesure'"),
        ({"do": None}, "found None"),
        ({"do": ["measure"]}, r"found \['measure'\]"),
        ({"spin": 1}, "^measure: Measure has no field spin$"),
        ({"n": "5"}, "^measure.n: expected int, found '5'$"),
        ({"n": True}, "^measure.n: expected int, found True$"),
        ({"n": 5.0}, "^measure.n: expected int, found 5.0$"),
        ({"n": None}, "^measure.n: expected int, found None$"),
        ({"method": 1}, "^measure.method: expected str, found 1$"),
    ],
)
def test_a_request_that_is_not_as_declared_is_one_line(change, words):
    fields = {"do": "measure", "method": "forward", "n": 5} | change
    with pytest.raises(Malformed, match=words) as error:
        messages.read_request(json.dumps(fields))
    assert "\n" not in str(error.value)


def test_a_request_without_a_field_that_has_no_default_names_it():
    with pytest.raises(Malformed, match=r"^measure: Measure lacks n$"):
        messages.read_request('{"do": "measure", "method": "forward"}')


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "reply to layers: expected a line of JSON"),
        (b"\xff\n", "reply to layers: expected a line of JSON"),
        (b"[" * 100_000, "reply to layers: expected a line of JSON"),
        (b"[1]", r"reply to layers: expected a JSON object, found \[1\]"),
        (b"{}", "reply to layers: expected a reply or a failure, found nothing"),
        (b'{"layers": []}', "reply to layers: expected a reply or a failure, found layers"),
        (b'{"reply": {}}', "reply to layers: expected list, found {}"),
        (b'{"reply": [{"layer": "conv1"}]}', r"reply to layers\[0\]: LayerReport lacks height, width"),
        (b'{"reply": ["conv1"]}', r"reply to layers\[0\]: expected the fields of LayerReport, found 'conv1'"),
        (b'{"failure": {"kind": "tired", "why": ""}}', "reply to layers.kind: expected FaultKind, found 'tired'"),
    ],
)
def test_a_reply_that_is_not_as_declared_names_what_is_wrong_and_where(line, words):
    with pytest.raises(Malformed, match=words) as error:
        messages.read_reply(messages.DescribeLayers(), line)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("nan")], object(), b"bytes", {1: object()}])
def test_what_json_has_not_is_never_sent(value):
    with pytest.raises((TypeError, ValueError)):
        messages.write_reply(value)


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        (float, 1, 1.0),
        (float | None, None, None),
        (bool, False, False),
        (replies.Scalar, True, True),
        (list[int], (1, 2), [1, 2]),
        (list[Output], ["logits"], [Output.LOGITS]),
        (dict[str, list[float]], {"a": [1]}, {"a": [1.0]}),
        (replies.Library, LIBRARIES[0], LIBRARIES[0]),
    ],
)
def test_a_value_is_read_as_its_type(kind, value, found):
    read = wire.read(kind, value, "value")
    assert (read, type(read)) == (found, type(found))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(bool, 1), (float, True), (int, 1.0), (list[int], [1, "2"]), (list[int], [True]), (int | str, []), (Output, 1)],
)
def test_a_value_of_another_type_is_refused(kind, value):
    with pytest.raises(Malformed, match=r"^value"):
        wire.read(kind, value, "value")
