"""The example nets, each proven in a child process as in a Worker."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT

import impls
from bench.controller import parity
from bench.worker.net_file import read_nets
from bench.worker.replies import Check, CheckKind
from impls import reference
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

#: Builds the guest named in argv, writes the results of its passes, and prints what it reports.
CHILD = """
import json, sys
from pathlib import Path
import numpy as np
import impls
from bench.worker import guest, net_file, probe
from impls.net import Build, Settings, gradients_of, logits_of
from impls.variants import VARIANTS
from impls.weights import map_shared

path, framework, folder, out, wanted = *map(Path, sys.argv[1:2]), *sys.argv[2:3], *map(Path, sys.argv[3:5]), sys.argv[5]
asked = json.loads(wanted)
probe.block_other_frameworks(framework)
impls.load(framework).configure(Settings("cpu", 2, "fp32"))
(file,) = net_file.read_nets([f"{path}:build"])
refused = []
for variant, size, how in asked["refused"]:
    try:
        guest.build(file.guest(), VARIANTS[variant].resized(size), map_shared(folder / "weights"), Build(**how))
    except guest.NotANet as error:
        refused.append(str(error))
variant, size, how = asked["built"]
net = guest.build(file.guest(), VARIANTS[variant].resized(size), map_shared(folder / "weights"), Build(**how))
images = np.load(folder / "images.npy")[:1]
net.load([images, 2 * images])
alternated = []
for _ in range(3):
    handles = net.forward()
    net.wait(handles)
    copied = net.fetch(handles)
    alternated.append(net.logits(handles))
    assert copied == alternated[-1].flat[0], copied
np.save(out / "alternated.npy", alternated)
np.save(out / "logits.npy", logits_of(net, images)[0])
loss, gradients = gradients_of(net, images)
np.save(out / "loss.npy", loss)
for layer, arrays in gradients.items():
    for name, array in arrays.items():
        np.save(out / f"gradient.{layer}.{name}.npy", array)
handles = net.forward_backward()
copied, (_, values) = net.fetch(handles), net.gradients(handles)
assert copied == next(iter(values["conv1"].values())).flat[0], copied
reply = {"device": net.device(), "layout": net.layout(), "filled": net.filled}
reply["others"] = probe.other_frameworks(framework)
print(json.dumps({"refused": refused, **reply}))
"""
#: Sizes; None is the variant's own: below 223 px owt's pool5 is not 6x6. The tutorial's SAME pads alike at 64 px too.
PARITY = {"owt": None, "tutorial": 64}
EXAMPLES = {"torchvision_alexnet": "owt", "keras_alexnet": "tutorial", "article": "tutorial"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of the parity set of a variant, made once for all its examples."""
    sets = {}

    def prepared(variant):
        if variant not in sets:
            folder = tmp_path_factory.mktemp(variant)
            sets[variant] = parity.prepare(VARIANTS[variant].resized(PARITY[variant]), folder, batch=1, whole=True)
            assert sets[variant].tie_free
        return sets[variant].folder

    return prepared


def how(framework, **changes):
    record = impls.FRAMEWORKS[framework]
    fields = {"batch": 1, "device": "cpu", "precision": "fp32", "mode": record.modes[0], "layout": record.layouts[0]}
    return fields | changes


def run_child(example, folder, out, refused=(), **changes):
    """The reply of a child that built an example with these changes to its Build; its arrays are written to ``out``."""
    (net,) = read_nets([f"{ROOT / 'examples' / example}.py:build"])
    guest = net.guest()
    pytest.importorskip(impls.FRAMEWORKS[guest.framework].package)
    assert guest.takes_weights
    variant = EXAMPLES[example]
    out.mkdir(exist_ok=True)
    asked = {
        "built": [variant, PARITY[variant], how(guest.framework, **changes)],
        "refused": [[name, size, how(guest.framework, **wrong)] for name, size, wrong in refused],
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, guest.path, guest.framework, folder, out, json.dumps(asked)],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_proven(folder, out, precision="fp32"):
    """Every expected array, and no other, is there and within its limit."""
    expected = {path.name: np.load(path)[0] for path in (folder / "reference").glob("*.npy")}
    arrays = {path.name: np.load(path) for path in out.glob("*.npy") if path.name != "alternated.npy"}
    assert arrays.keys() == expected.keys()
    checks = []
    for name, array in expected.items():
        assert arrays[name].shape == array.shape, name
        kind = CheckKind(name.split(".")[0])
        checks.append(Check(kind, name, **reference.difference(arrays[name], array)))
    wrong = [check for check in parity.judge(checks, parity.LIMITS[precision]) if not check.ok]
    assert not wrong


def assert_alternates(out):
    """Passes alternate between the two resident batches."""
    first, second, third = np.load(out / "alternated.npy")
    assert reference.relative_l2(first, third) < 1e-6
    assert reference.relative_l2(first, second) > 0.1


def test_torchvisions_alexnet_is_owt(prepared, tmp_path):
    wrong = [("tutorial", None, {}), ("owt", None, {"mode": "graph"})]
    reply = run_child("torchvision_alexnet", prepared("owt"), tmp_path / "out", wrong)
    assert_proven(prepared("owt"), tmp_path / "out")
    assert_alternates(tmp_path / "out")
    assert reply == {
        "refused": [
            "torchvision_alexnet: expected --variant owt, found tutorial",
            "torchvision_alexnet has no mode 'graph': choose eager, compile or cudagraphs",
        ],
        "device": "cpu",
        "layout": "nchw",
        "filled": ["state", "layers", "traces"],
        "others": [],
    }


@pytest.mark.slow
def test_the_keras_model_is_the_tutorial(prepared, tmp_path):
    wrong = [("owt", None, {}), ("tutorial", None, {"mode": "eager"}), ("tutorial", 67, {})]
    reply = run_child("keras_alexnet", prepared("tutorial"), tmp_path / "out", wrong)
    assert_proven(prepared("tutorial"), tmp_path / "out")
    assert_alternates(tmp_path / "out")
    assert reply["device"].endswith("CPU:0")
    assert (reply["layout"], reply["others"]) == ("nhwc", [])
    assert reply["refused"] == [
        "keras_alexnet: expected --variant tutorial, found owt",
        "keras_alexnet has no mode 'eager': choose graph or xla",
        "keras_alexnet: SAME pads differently at 67 px; leave --size at 224",
    ]


def test_the_articles_program_is_the_tutorial(prepared, tmp_path):
    """The values are those that timed passes left in the session, so nothing was pruned."""
    wrong = [
        ("owt", None, {}),
        ("tutorial", None, {"mode": "xla"}),
        ("tutorial", None, {"precision": "bf16"}),
        ("tutorial", 67, {}),
    ]
    reply = run_child("article", prepared("tutorial"), tmp_path / "out", wrong)
    assert_proven(prepared("tutorial"), tmp_path / "out")
    assert_alternates(tmp_path / "out")
    assert reply["device"].endswith("CPU:0")
    assert (reply["layout"], reply["others"]) == ("nhwc", [])
    assert reply["refused"] == [
        "article: expected --variant tutorial, found owt",
        "article has no mode 'xla': choose graph",
        "article: expected precision fp32 or tf32, found bf16",
        "article: SAME pads differently at 67 px; leave --size at 224",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "changes"),
    [
        ("torchvision_alexnet", {"mode": "compile"}),
        ("torchvision_alexnet", {"layout": "channels_last"}),
        ("torchvision_alexnet", {"precision": "bf16"}),
        ("keras_alexnet", {"mode": "xla"}),
        ("keras_alexnet", {"precision": "bf16"}),
    ],
)
def test_an_example_is_proven_in_its_other_modes_layouts_and_precisions(example, changes, prepared, tmp_path):
    folder = prepared(EXAMPLES[example])
    reply = run_child(example, folder, tmp_path / "out", **changes)
    assert_proven(folder, tmp_path / "out", changes.get("precision", "fp32"))
    assert_alternates(tmp_path / "out")
    assert reply["layout"] == changes.get("layout", reply["layout"])


@pytest.mark.slow
def test_dropout_is_on_in_training_only_and_only_if_requested(prepared, tmp_path):
    run_child("torchvision_alexnet", prepared("owt"), tmp_path / "out", dropout=True)
    logits, loss = (np.load(tmp_path / "out" / f"{name}.npy") for name in ("logits", "loss"))
    assert reference.relative_l2(logits, np.load(prepared("owt") / "reference" / "logits.npy")) < 1e-5
    assert abs(loss / np.load(prepared("owt") / "reference" / "loss.npy") - 1) > 0.1
