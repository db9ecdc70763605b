"""Users' models: how NAME is read, and the Net around a model of each framework."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from nets import configured
from paths import ROOT

from bench import UsageError
from bench.output import reproduce
from bench.worker.guest import NotANet, build, params_of
from bench.worker.main import Worker
from bench.worker.messages import CallFirst
from bench.worker.net_file import read_nets
from impls.net import Build
from impls.outputs import check_outputs, tensors_in
from impls.variants import VARIANTS

TORCH = """
import torch
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 2, 11, stride=8), nn.Flatten(), nn.LazyLinear(2)).train()
"""
TENSORFLOW = """
import keras
def build():
    layers = keras.layers
    return keras.Sequential([layers.Conv2D(2, 11, strides=8), layers.GlobalAveragePooling2D(), layers.Dense(2)])
"""
JAX = """
import jax.numpy as jnp
def apply(params, images):
    return {"logits": images.mean((1, 2)) @ params["w"], "unused": 1}
def build():
    return apply, {"w": jnp.ones((3, 2))}
"""
HOW = {"torch": ("eager", "channels_last"), "tensorflow": ("graph", "nhwc"), "jax": ("jit", "nhwc")}
PARAMS = {"torch": 11 * 11 * 3 * 2 + 2 + (8 * 8 * 2 + 1) * 2, "tensorflow": 11 * 11 * 3 * 2 + 2 + 6, "jax": 6}


@pytest.fixture
def read(tmp_path):
    """The guest of a file of that text."""

    def read(text, name="build", frameworks=()):
        path = tmp_path / "mine.py"
        path.write_text(text)
        (net,) = read_nets([f"{path}:{name}"])
        return net.guest(frameworks)

    return read


@pytest.fixture
def made(read, monkeypatch):
    """The Net that a Worker of its framework makes of it, with two images loaded."""

    def made(text, name="build", precision="fp32", input_shape=()):
        guest = read(text, name)
        monkeypatch.setenv("KERAS_BACKEND", guest.framework)
        if guest.framework != "tensorflow":  # which has imported Keras here
            monkeypatch.delitem(sys.modules, "keras", raising=False)
        configured(guest.framework)
        mode, layout = HOW[guest.framework]
        how = Build(2, "cpu", precision, mode, layout)
        return build(guest, VARIANTS["half_width"].resized(67), {}, how, input_shape=input_shape)

    return made


def values(handles):
    return [np.asarray(getattr(each, "detach", lambda each=each: each)()) for each in handles]


def floats(handle):
    """A tensor of any framework and precision in float32."""
    array = handle.detach().float() if hasattr(handle, "detach") else handle
    return np.asarray(array).astype(np.float32)


class TestReading:
    @pytest.mark.parametrize(
        "text",
        [
            "def build(): ...",
            "def build(width=2, *, deep=False): ...",
            "class build(torch.nn.Module): ...",
            "build = torch.nn.Linear(1, 1)",
            "from torch.nn import Identity as build",
            "@torch.no_grad()\ndef build(x): ...",
        ],
    )
    def test_what_needs_no_argument_is_a_model(self, read, text):
        guest = read(f"import torch\n{text}")
        assert (guest.model, guest.takes_weights, guest.framework) == (True, False, "torch")

    def test_a_function_of_variant_and_how_is_a_net_as_before(self, read):
        assert not read("import torch\ndef build(variant, how): ...").model

    def test_a_model_of_no_framework_needs_one_named(self, read):
        with pytest.raises(UsageError) as error:
            read("def build(): ...")
        says = "imports no framework, which build needs to be a model: name it with --framework"
        assert str(error.value) == f"--net: mine.py {says}"
        assert read("def build(): ...", frameworks=["jax"]).framework == "jax"

    def test_a_module_of_a_package_is_found_without_running_it(self, tmp_path, monkeypatch):
        for name, text in (("__init__.py", "1 / 0"), ("inner/__init__.py", ""), ("inner/nets.py", "import torch")):
            path = tmp_path / "someones_nets" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        (net,) = read_nets(["someones_nets.inner.nets:small"])
        guest = net.guest()
        assert (guest.source, guest.label) == ("someones_nets.inner.nets", "someones_nets.inner.nets.small")
        assert (guest.framework, guest.path, guest.model) == ("torch", str(path), True)
        assert "someones_nets" not in sys.modules
        with pytest.raises(UsageError, match=r"^--net: package 'someones_nets' has no module 'someones_nets.a.b' in"):
            read_nets(["someones_nets.a.b:small"])

    def test_a_command_that_reproduces_a_run_has_no_folder_before_a_package(self):
        guests = [SimpleNamespace(label=file, file=file, function="f") for file in ("mine.py", "timm.models")]
        nets = [SimpleNamespace(guest=guest.label) for guest in guests]
        words = reproduce._nets(SimpleNamespace(head=SimpleNamespace(guests=guests)), nets)
        assert words == ["--net", f"{reproduce.PATH}/mine.py:f", "--net", "timm.models:f"]

    def test_a_package_is_found_in_the_environment_of_its_workers_interpreter_first(self, tmp_path):
        python = tmp_path / "env" / "bin" / "python"
        package = tmp_path / "env" / "lib" / "python3.12" / "site-packages" / "theirs"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("import torch\ndef small():\n    return torch.nn.Linear(1, 1)\n")
        with pytest.raises(UsageError, match="package 'theirs' is not installed"):
            read_nets(["theirs:small"], [str(python)])  # no virtual environment: its folders are not known
        (tmp_path / "env" / "pyvenv.cfg").touch()
        (net,) = read_nets(["theirs:small"], [str(python)])
        assert net.path == str(package / "__init__.py")

    def test_a_package_that_is_not_installed_is_one_line(self):
        with pytest.raises(UsageError) as error:
            read_nets(["no_such_nets.models:small"])
        says = "package 'no_such_nets' is not installed: install it with pip, or name a FILE.py"
        assert str(error.value) == f"--net: {says}"


class TestPasses:
    @pytest.mark.parametrize("text", [TORCH, TENSORFLOW, JAX], ids=list(HOW))
    def test_loss_is_half_the_sum_of_squares_and_every_parameter_has_a_gradient(self, made, text, read):
        net = made(text)
        (outputs,) = values(net.forward())
        net.forward()  # the other batch, so that the next pass has the first again
        handles = net.forward_backward()
        net.wait(handles)
        loss, *gradients = values(handles)
        assert outputs.shape == (2, 2)
        assert loss == pytest.approx(0.5 * np.sum(outputs.astype(float) ** 2), rel=1e-4)
        assert sum(gradient.size for gradient in gradients) == params_of(net) == PARAMS[read(text).framework]
        assert any(gradient.any() for gradient in gradients)
        assert net.fetch(handles) == pytest.approx(gradients[0].flat[0])
        assert "cpu" in net.device().lower()

    def test_a_package_in_the_folder_of_the_command_is_imported_by_the_worker(self, tmp_path, monkeypatch):
        folder = tmp_path / "local_nets"
        folder.mkdir()
        (folder / "__init__.py").write_text("from .one import build\n")
        (folder / "one.py").write_text(TORCH)
        path = [entry for entry in sys.path if entry]  # as of the installed command, without its folder
        monkeypatch.setattr(sys, "path", list(path))
        monkeypatch.chdir(tmp_path)
        nets = [net.guest(["torch"]) for net in read_nets(["local_nets:build", "local_nets.one:build"])]
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        for guest in nets:
            monkeypatch.setattr(sys, "path", list(path))
            monkeypatch.delitem(sys.modules, "local_nets", raising=False)
            made = build(guest, VARIANTS["half_width"].resized(67), {}, Build(2, "cpu", "fp32", "eager", "nchw"))
            assert values(made.forward())[0].shape == (2, 2)

    def test_inference_has_no_dropout_and_training_has(self, made):
        net = made(
            "import torch\nnet = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), "
            "torch.nn.Linear(67 * 67 * 3, 4))",
            "net",
        )
        first = values(net.forward())[0]
        net.forward()
        assert np.array_equal(first, values(net.forward())[0])
        losses = [float(net.forward_backward()[0]) for _ in range(3)]
        assert losses[0] != losses[2]  # the same batch

    def test_inputs_and_loss_beside_the_model_are_used(self, made):
        text = """
import torch
from torch import nn
class build(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)
    def forward(self, ids, scale):
        return self.table(ids) * scale, ids
def inputs(batch):
    return {"ids": torch.arange(batch), "scale": torch.full((batch, 1), 2.0)}
def loss(outputs):
    return outputs[0].sum()
"""
        net = made(text)
        assert values(net.forward())[0].shape == (2, 3)
        _, gradient = values(net.forward_backward())
        assert gradient.tolist() == [[2.0] * 3] * 2 + [[0.0] * 3] * 3

    def test_a_tf_function_has_the_gradients_of_the_variables_it_reads(self, made):
        text = "import tensorflow as tf\nw = tf.Variable(tf.ones((3, 2)))\n@tf.function\ndef build(images):\n"
        net = made(f"{text}    return tf.reduce_mean(images, (1, 2)) @ w")
        assert [each.shape for each in values(net.forward_backward())] == [(), (3, 2)]

    @pytest.mark.parametrize(
        ("text", "shape"), [(TORCH, (3, 40, 30)), (TENSORFLOW, (40, 30, 3)), (JAX, (40, 30, 3))], ids=list(HOW)
    )
    def test_an_input_of_another_shape_is_in_the_frameworks_own_order(self, made, text, shape):
        net = made(text, input_shape=shape)
        batches = [np.asarray(each[0][0]) for each in net.batches]
        assert [each.shape for each in batches] == [(2, *shape)] * 2
        assert all(abs(each.mean()) < 0.1 < 0.9 < each.std() < 1.1 for each in batches)
        net.load([])  # as for a reading of images that the Net has not seen
        again = [np.asarray(each[0][0]) for each in net.batches]
        assert len({each.flat[0] for each in (*batches, *again)}) == 4

    def test_a_random_image_is_in_the_layout_asked_for(self, made):
        (image,), _ = made(TORCH, input_shape=(3, 40, 30)).batches[0]
        assert image.is_contiguous(memory_format=importlib.import_module("torch").channels_last)

    @pytest.mark.parametrize("text", [TORCH, TENSORFLOW, JAX], ids=list(HOW))
    def test_bf16_keeps_parameters_and_gradients_in_float32(self, made, text):
        net = made(text, precision="bf16")
        (output,) = net.forward()
        net.forward()
        loss, *gradients = net.forward_backward()
        assert "bfloat16" in str(output.dtype)
        assert all("float32" in str(each.dtype) for each in gradients)
        assert float(loss) == pytest.approx(0.5 * np.sum(np.square(floats(output))), rel=1e-2)

    def test_the_policy_of_keras_is_set_while_the_model_is_made_only(self, made):
        made(TENSORFLOW, precision="bf16")
        assert importlib.import_module("keras").config.dtype_policy().name == "float32"

    def test_a_keras_model_that_was_made_in_float32_is_not_timed_as_bf16(self, made):
        with pytest.raises(
            NotANet, match="it does not compute in bf16, for which Keras's policy mixed_bfloat16 is set"
        ):
            made(f"{TENSORFLOW}\nready = build()", "ready", precision="bf16")

    def test_a_name_is_called_with_the_arguments_given(self, made):
        net = made(
            "from torch import nn\ndef build(out, /, *, bias): return nn.LazyLinear(out, bias)", "build(5, bias=False)"
        )
        assert values(net.forward())[0].shape == (2, 3, 67, 5)
        assert params_of(net) == 67 * 5


LINEN = """
import flax.linen as nn
class build(nn.Module):
    width: int = 4
    @nn.compact
    def __call__(self, x, {training}):
        x = nn.Conv(self.width, (5, 5), strides=8)(x)
        x = nn.BatchNorm(use_running_average={average})(x)
        x = nn.Dropout(0.5)(nn.relu(x).mean((1, 2)), deterministic={average})
        return nn.Dense(2)(x)
"""
NNX = """
from flax import nnx
class build(nnx.Module):
    def __init__(self, width=4, *, rngs: nnx.Rngs):
        self.conv = nnx.Conv(3, width, (5, 5), strides=8, rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(width, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 2, rngs=rngs)
    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.conv(x))).mean((1, 2))))
"""
FLAX = {
    "linen, train": LINEN.format(training="train: bool", average="not train"),
    "linen, deterministic": LINEN.format(training="deterministic=True", average="deterministic"),
    "nnx": NNX,
}


class TestFlax:
    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("flax")

    @pytest.mark.parametrize(
        ("kind", "precision"),
        [("linen, train", "bf16"), ("linen, deterministic", "fp32"), ("nnx", "fp32"), ("nnx", "bf16")],
    )
    def test_a_module_is_timed_with_its_state(self, made, kind, precision):
        net = made(FLAX[kind], precision=precision)
        first = floats(net.forward()[0])
        net.forward()
        assert np.array_equal(first, floats(net.forward()[0]))
        net.forward()
        assert ("bfloat16" in str(net.forward()[0].dtype)) == (precision == "bf16")
        losses = [float(net.forward_backward()[0]) for _ in range(6)]
        assert len(set(losses)) > 2  # dropout, of two batches
        assert not np.array_equal(first, floats(net.forward()[0]))  # by the moving statistics
        assert params_of(net) == 5 * 5 * 3 * 4 + 4 + 8 + 4 * 2 + 2
        assert len(net.forward_backward()) == 1 + 6
        assert net.traces() == {"forward": 1, "forward_backward": 1}

    def test_a_module_is_made_with_arguments(self, made):
        assert params_of(made(NNX, "build(width=2)")) == 5 * 5 * 3 * 2 + 2 + 4 + 2 * 2 + 2

    def test_it_runs_in_jax(self, read):
        assert read("from flax import nnx\nbuild = nnx.Linear").framework == "jax"


class TestPackages:
    def test_the_digest_is_that_of_the_whole_package(self, tmp_path, monkeypatch):
        folder = tmp_path / "several_nets"
        (folder / "inner").mkdir(parents=True)  # without an __init__.py
        for name, text in (("__init__", ""), ("inner/one", "import torch\ndef build(): ..."), ("other", "")):
            (folder / f"{name}.py").write_text(text)
        monkeypatch.chdir(tmp_path)

        def digest():
            importlib.invalidate_caches()
            (net,) = read_nets(["several_nets.inner.one:build"])
            return net.sha256

        before = digest()
        assert digest() == before
        (folder / "other.py").write_text("x = 1")
        after = digest()
        (folder / "other.py").rename(folder / "another.py")
        assert len({before, after, digest()}) == 3


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("build = 3", "is no model: expected a torch.nn.Module, or a function that returns one, found an int"),
            ("def build(): ...", "is no model: expected a torch.nn.Module, or a function that returns one, found None"),
            ("def build(): return 1 / 0", "mine.py: build ended by ZeroDivisionError: division by zero (line 3)"),
            (
                "class build(nn.Module):\n    def forward(self, x): return 'text'",
                "it returned no floating-point tensor: expected one, or a tuple, dict or dataclass with some",
            ),
            (
                "class build(nn.Module):\n    def forward(self, x): return torch.rand(2)",
                "two calls on the same inputs gave different outputs: expected the same in inference mode",
            ),
            (
                "build = nn.Linear(7, 1)",
                "mine.py:build called with a batch of 2 images of 67 pixels (see --input) ended by RuntimeError: mat1",
            ),
            (
                "def loss(): ...\nloss = 3\nbuild = nn.ReLU()",
                "mine.py: loss is an int: expected a function, or another",
            ),
            ("def build(): return nn.Linear", "or a function that returns one, found the class Linear"),
            (
                "def build(size): ...",
                "mine.py: build(n=1) ended by TypeError: build() got an unexpected keyword argument",
            ),
        ],
    )
    def test_a_mistake_is_one_line(self, made, text, says):
        with pytest.raises(NotANet) as error:
            made(f"import torch\nfrom torch import nn\n{text}", "build(n=1)" if "(n=1)" in says else "build")
        assert says in str(error.value)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("text", "shape", "says"),
        [
            (TORCH, (40, 30, 3), "of shape 40x30x3 (images of torch have channels first, as 3x40x30) ended by Runtime"),
            (JAX, (3, 40, 30), "of shape 3x40x30 (images of jax have channels last, as 40x30x3) ended by TypeError"),
            (JAX, (40, 30, 4), "of shape 40x30x4 ended by TypeError"),
        ],
    )
    def test_an_image_in_the_order_of_another_framework_is_said(self, made, text, shape, says):
        with pytest.raises(NotANet) as error:
            made(text, input_shape=shape)
        assert f"called with a batch of 2 random inputs {says}" in str(error.value)

    def test_what_a_keras_model_does_not_accept_is_said_in_the_line_that_says_it(self, made):
        small = "keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Conv2D(1, 3)])"
        with pytest.raises(NotANet) as error:
            made(f"import keras\ndef build(): return {small}")
        assert "called with a batch of 2 images of 67 pixels (see --input) ended by ValueError: Input 0" in str(
            error.value
        )
        assert "\x1b" not in str(error.value)

    def test_a_model_that_fails_in_training_only_is_one_line(self, made, read):
        body = "    def forward(self, x): return 1 / 0 if self.training else x"
        text = f"import torch\nclass build(torch.nn.Linear):\n{body}"
        worker = Worker("torch")
        worker.net, worker.guest = made(text, "build(3, 3)"), read(text, "build(3, 3)")
        assert worker.first_call(CallFirst("forward")) > 0
        with pytest.raises(NotANet) as error:
            worker.first_call(CallFirst("forward_backward"))
        says = "in forward_backward ended by ZeroDivisionError: division by zero"
        assert str(error.value) == f"mine.py:build(3, 3) {says}"

    def test_a_missing_argument_is_one_line(self, made):
        with pytest.raises(NotANet, match=r"missing 1 required positional argument: 'b'; give them as NAME\(\.\.\.\)$"):
            made("import torch\ndef build(a, b): ...", "build(1)")

    def test_a_name_that_a_package_lacks_is_one_line_with_the_nearest(self, tmp_path, monkeypatch):
        (tmp_path / "nearly.py").write_text("import torch\ndef resnet(): ...\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KERAS_BACKEND", "torch")
        (net,) = read_nets(["nearly:resnett()"])
        how = Build(2, "cpu", "fp32", "eager", "nchw")
        with pytest.raises(NotANet) as error:
            build(net.guest(), VARIANTS["half_width"].resized(67), {}, how)
        assert str(error.value).startswith("nearly has no 'resnett': ")
        assert str(error.value).endswith("; did you mean resnet?")

    def test_a_command_line_of_its_own_is_one_line(self, made):
        text = "import torch, argparse\nmine = argparse.ArgumentParser()\nmine.add_argument('x')\nmine.parse_args()\n"
        with pytest.raises(
            NotANet, match=r"its import ended by SystemExit: 2 \(line 4\); expected code that needs no arg"
        ):
            made(f"{text}def build(): ...")

    def test_a_model_without_parameters_has_a_forward_pass(self, made):
        net = made("from torch import nn\nbuild = nn.ReLU()")
        assert values(net.forward())[0].shape == (2, 3, 67, 67)
        assert params_of(net) is None


class TestOutputs:
    def test_tensors_are_found_in_tuples_and_dicts(self):
        assert tensors_in((1.0, {"a": [2.0, "x"]}, None, 3), float) == [1.0, 2.0]

    def test_outputs_that_differ_are_refused(self):
        ones = np.ones(3)
        check_outputs([ones], [ones + 1e-6])
        with pytest.raises(ValueError, match="gave different outputs"):
            check_outputs([ones], [ones + 1])


#: Two MLPs of flax_mixer.py: over the 16 patches of 67 pixels, and over channels.
MIXER_BLOCK = (16 * 256 + 256 + 256 * 16 + 16) + (512 * 2048 + 2048 + 2048 * 512 + 512)
#: Params of each: of ResNet-18 and MobileNetV2 as published with their 1000 classes; of the mixer counted by hand.
EXAMPLES = {
    "resnet.py:ResNet18": 11_689_512,
    "keras_mobilenet.py:build": 3_504_872,
    "flax_mixer.py:MlpMixer": 768 * 512 + 512 + 8 * (MIXER_BLOCK + 4 * 512) + 2 * 512 + 513 * 1000,
    "jax_convmixer.py:build": 49 * 3 * 256 + 8 * (81 * 256 + 256 * 256) + 256 * 1000,
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_that_is_no_alexnet_is_timed_as_it_is(example, monkeypatch):
    (net,) = read_nets([f"{ROOT}/examples/{example}"])
    guest = net.guest()
    pytest.importorskip("flax" if "flax" in example else guest.framework)
    monkeypatch.setenv("KERAS_BACKEND", guest.framework)
    if guest.framework != "tensorflow":
        monkeypatch.delitem(sys.modules, "keras", raising=False)
    how = Build(2, "cpu", "fp32", *HOW[guest.framework])
    made = build(guest, VARIANTS["half_width"].resized(67), {}, how)
    assert [each.shape for each in values(made.forward())] == [(2, 1000)]
    assert params_of(made) == EXAMPLES[example]
