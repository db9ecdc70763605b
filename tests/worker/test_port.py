"""`verify --net A --net B`: planted differences are found where they are, and mistakes are one line."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from command import Inline
from nets import configured
from paths import ROOT

from bench.commands.cli import main
from bench.controller.settings import WorkerSettings
from bench.controller.worker_process import WorkerDied
from bench.worker import guest, messages, port
from bench.worker.main import Worker, fault_kind

pytestmark = pytest.mark.process

SIZE = ("--variant", "half_width", "--size", "67")
TORCH = """
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=4, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.deep = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 5, 2, stride=2)
        self.head = nn.Linear(5 * 8 * 8, 6)
    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)), inplace=True)  # 17 by 17
        x = F.max_pool2d(F.relu(self.deep(x)), 4)
        x = self.up(x)
        return self.head(torch.flatten(x, 1))
"""
KERAS = """
import keras
keras.utils.set_random_seed(0)
from keras import layers
def build():
    return keras.Sequential([
        keras.Input((67, 67, 3)),
        layers.ZeroPadding2D(3),
        layers.Conv2D(4, 7, strides=4, use_bias=False, name="stem"),
        layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="norm"),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", name="deep"),
        layers.MaxPooling2D(4),
        layers.Conv2DTranspose(5, 2, strides=2, name="up"),
        layers.Flatten(),
        layers.Dense(6, name="head"),
    ])
"""
JAX = """
import jax.numpy as jnp
def apply(params, images):
    hidden = jnp.maximum(images.mean((1, 2)) @ params["one"]["w"] + params["one"]["b"], 0)
    return hidden @ params["two"]["w"] + params["two"]["b"]
def build():
    one, two = {"w": jnp.ones((3, 5)), "b": jnp.zeros(5)}, {"w": jnp.ones((5, 2)), "b": jnp.zeros(2)}
    return apply, {"one": one, "two": two}
"""
FLAX = """
from flax import linen as nn
class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(4, (7, 7), strides=4, padding=3, use_bias=False, name="stem")(x)
        x = nn.relu(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, name="norm")(x))
        x = nn.relu(nn.Conv(8, (3, 3), padding=1, feature_group_count=4, name="deep")(x))
        x = nn.max_pool(x, (4, 4), (4, 4))
        x = nn.ConvTranspose(5, (2, 2), (2, 2), padding="VALID", transpose_kernel=True, name="up")(x)
        return nn.Dense(6, name="head")(x.reshape(len(x), -1))
"""
NNX = """
from flax import nnx
class Cropped(nnx.Conv):
    def __call__(self, x):
        return super().__call__(x)[:, 1:-1, 1:-1]
class Net(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.body = nnx.List([
            nnx.Conv(3, 4, (7, 7), strides=4, padding=3, use_bias=False, rngs=rngs),
            nnx.BatchNorm(4, momentum=0.9, epsilon=1e-5, rngs=rngs),
            Cropped(4, 8, (3, 3), padding=2, feature_group_count=4, rngs=rngs),
        ])
        self.up = nnx.ConvTranspose(8, 5, (2, 2), strides=(2, 2), padding="VALID", transpose_kernel=True, rngs=rngs)
        self.head = nnx.Linear(320, 6, rngs=rngs)
    def __call__(self, x):
        stem, norm, deep = self.body
        x = nnx.relu(norm(stem(x)))
        x = nnx.max_pool(nnx.relu(deep(x)), (4, 4), (4, 4))
        return self.head(self.up(x).reshape(len(x), -1))
"""
NNX_LAYERS = ["body/0", "body/1", "body/2", "up", "head"]
MEANS = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 5), nn.Linear(5, 2)
    def forward(self, x):
        return self.two(self.one(x.mean((2, 3))).relu())
"""
ORDER = "head.weight = head/kernel order=5x8x8:1,2,0"


class InProcess:
    """The answers of a Worker, in this process."""

    def __init__(self, settings, name, case, logs):
        self.worker = Worker(case.framework)

    def wait_until_configured(self):
        pass

    def ask(self, request):
        try:
            return self.worker.answer(request)
        except Exception as error:
            raise WorkerDied("first", fault_kind(error), str(error), "") from error

    def kill(self):
        self.worker.release()


def without_size(options):
    """--size and --input are two ways to say one thing."""
    return SIZE[:2] if "--input" in options else SIZE


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """The result of the command for two texts (framework, text, name), with a map's text and more options."""
    monkeypatch.setattr(WorkerSettings, "launch", lambda *args: InProcess(*args))
    idle = SimpleNamespace(collect=lambda: 0, freeze=lambda: None, unfreeze=lambda: None)  # 0.3 s each here
    monkeypatch.setattr("bench.worker.main.gc", idle)
    monkeypatch.setattr(guest, "_keras_fault", lambda framework: "")  # Keras and torch are both in this process
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")

    def compare(first, second, mapped="", *more):
        nets = []
        for number, (framework, text) in enumerate((first, second)):
            configured(framework)
            path = tmp_path / f"model{number}_{abs(hash(text))}.py"
            path.write_text(text)
            nets += ["--net", f"{framework}={path}:{'Net' if 'class Net' in text else 'build'}"]
        if mapped:
            (tmp_path / "names.map").write_text(mapped)
            more = ("--map", str(tmp_path / "names.map"), *more)
        return CliRunner().invoke(main, ["verify", *nets, *without_size(more), *more])

    return compare


def verdict(result, code):
    assert result.exit_code == code, result.output
    return result.stdout.splitlines()[-1]


class TestAgree:
    def test_a_port_with_its_map_has_equal_outputs_layers_and_gradients(self, compare):
        result = compare(("torch", TORCH), ("tensorflow", KERAS), ORDER, "--json")
        assert result.exit_code == 0, result.output
        got = json.loads(result.stdout)
        assert got["verdict"] == "equal: outputs, gradients and state agree"
        assert [layer["first"] for layer in got["layers"]] == ["stem", "norm", "deep", "up", "head"]
        assert all(layer["output"]["error"] < 1e-6 for layer in got["layers"])
        assert got["layers"][-1]["input"]["error"] < 1e-6
        assert len(got["gradients"]) == 9  # all but the two moving statistics
        assert [change["what"] for change in got["state"]] == ["norm.running_mean", "norm.running_var"]
        assert all(change["error"] < 1e-5 for change in got["state"])  # torch's variance of the batch is unbiased
        assert got["varied"] == 4  # of BatchNorm

    def test_the_other_way_round_too(self, compare):
        mapped = "head/kernel = head.weight order=8x8x5:2,0,1"
        assert verdict(compare(("tensorflow", KERAS), ("torch", TORCH), mapped), 0).startswith("equal: ")

    def test_two_of_one_framework_agree_with_themselves(self, compare):
        assert verdict(compare(("torch", TORCH), ("torch", TORCH + "\n")), 0).startswith("equal: ")

    def test_jax_has_no_layers_but_outputs_and_gradients(self, compare):
        pytest.importorskip("jax")
        result = compare(("torch", MEANS), ("jax", JAX))
        assert verdict(result, 0) == "equal: outputs and gradients agree"
        assert "  one.weight = one/w\n" in result.stdout
        assert "not compared: layers: none with parameters in jax model1" in result.stdout
        other = JAX.replace("jnp.maximum(", "(lambda x, _: x)(")
        assert verdict(compare(("torch", MEANS), ("jax", other)), 1).startswith(
            "DIFFERS in its outputs: output 1 is off"
        )

    @pytest.mark.parametrize(
        ("text", "layers"), [(FLAX, "stem norm deep up head".split()), (NNX, NNX_LAYERS)], ids=["linen", "nnx"]
    )
    def test_modules_of_flax_are_layers(self, compare, text, layers):
        """Their parameters are paired in the order of their calls, not in that of the alphabet."""
        pytest.importorskip("flax")
        result = compare(("torch", TORCH), ("jax", text), ORDER, "--json")
        assert result.exit_code == 0, result.output
        got = json.loads(result.stdout)
        assert got["verdict"] == "equal: outputs, gradients and state agree"
        assert [layer["second"] for layer in got["layers"]] == layers
        assert all(layer[stage]["error"] < 1e-6 for layer in got["layers"] for stage in ("input", "output"))
        assert got["layers"][-1]["order"]["axes"] == [1, 2, 0]
        assert [pair.split(" = ")[0] for pair in got["pairs"]][:5] == [
            *("stem.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var")
        ]

    @pytest.mark.parametrize(
        ("text", "old", "new", "says"),
        [
            (FLAX, "epsilon=1e-5", "epsilon=1e-3", "DIFFERS at norm = norm: its input agrees, its output is off by "),
            (FLAX, "nn.relu(nn.B", "nn.gelu(nn.B", "DIFFERS between norm = norm and deep = deep: input is off by "),
            (NNX, "epsilon=1e-5", "epsilon=1e-3", "DIFFERS at norm = body/1: its input agrees, its output is off by "),
            (
                NNX,
                "nnx.relu(norm",
                "nnx.gelu(norm",
                "DIFFERS between norm = body/1 and deep = body/2: input is off by ",
            ),
        ],
    )
    def test_a_difference_from_flax_is_named_where_it_is(self, compare, text, old, new, says):
        pytest.importorskip("flax")
        assert old in text
        assert verdict(compare(("torch", TORCH), ("jax", text.replace(old, new)), ORDER), 1).startswith(says)

    def test_flattened_in_another_order_is_told_of_flax_too(self, compare):
        pytest.importorskip("flax")
        words = verdict(compare(("torch", TORCH), ("jax", FLAX)), 1)
        assert words.startswith("DIFFERS at head = head: its inputs are the same values in another order")
        assert words.endswith(ORDER)

    def test_dropout_in_both_leaves_the_gradients_out_and_says_so(self, compare):
        first = TORCH.replace("torch.flatten(x, 1)", "F.dropout(torch.flatten(x, 1), 0.5, self.training)")
        port = KERAS.replace("layers.Flatten(),", "layers.Flatten(), layers.Dropout(0.5),")
        words = verdict(compare(("torch", first), ("tensorflow", port), ORDER), 0)
        assert words.startswith("equal: outputs agree; not compared: gradients and state: torch model0")
        assert words.endswith("is random in training mode, as with dropout")

    def test_dicts_are_matched_by_key_between_jax_and_torch(self, compare):
        """JAX has keys by the alphabet, torch as they were put in."""
        pytest.importorskip("jax")
        inputs = "import numpy as np\ndef inputs(batch):\n    one = np.ones((batch, 3), np.float32)\n"
        inputs += "    return {'z': one, 'a': 2 * one}\n"
        first = MEANS.replace("forward(self, x)", "forward(self, z, a)").replace(
            "self.two(self.one(x.mean((2, 3))).relu())",
            "{'y': self.two(self.one(z).relu()), 'b': self.two(self.one(a))}",
        )
        port = (
            JAX.replace("apply(params, images)", "apply(params, z, a)")
            .replace("images.mean((1, 2))", "z")
            .replace(
                'return hidden @ params["two"]["w"] + params["two"]["b"]',
                'one, two = params["one"], params["two"]\n'
                '    return {"y": hidden @ two["w"] + two["b"], "b": (a @ one["w"] + one["b"]) @ two["w"] + two["b"]}',
            )
        )
        result = compare(("torch", first + inputs), ("jax", port + inputs), "", "--json")
        assert result.exit_code == 0, result.output
        assert [output["what"] for output in json.loads(result.stdout)["outputs"]] == ["output y", "output b"]

    def test_a_subclassed_keras_model_whose_call_is_a_tf_function_has_layers_too(self, compare):
        port = """
import keras
import tensorflow as tf
keras.utils.set_random_seed(0)
class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.one, self.two = keras.layers.Dense(5, activation="relu"), keras.layers.Dense(2)
    @tf.function
    def call(self, images):
        return self.two(self.one(keras.ops.mean(images, (1, 2))))
"""
        result = compare(("torch", MEANS), ("tensorflow", port), "", "--json")
        got = json.loads(result.stdout)  # whose gradients TensorFlow does not have through such a call
        assert [layer["output"]["error"] < 1e-6 for layer in got["layers"]] == [True, True]
        assert got["outputs"][0]["ok"]

    def test_a_shortcut_that_is_made_first_in_one_is_paired_all_the_same(self, compare):
        """Keras has the layers of a functional model by depth, so those of two branches in turns. The gradient of the
        bias before BatchNorm is 0, and rounding."""
        block = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
        self.last = nn.BatchNorm2d(4)
        self.short = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        return self.head((self.last(self.deep(x)) + self.short(x[:, :, 1:66, 1:66])).relu().mean((2, 3)))
"""
        port = """
import keras
from keras import layers
def build():
    images = keras.Input((67, 67, 3))
    short = layers.Conv2D(4, 1, use_bias=False, name="short")(images[:, 1:66, 1:66])
    short = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="short_norm")(short)
    deep = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layers.Conv2D(4, 3, use_bias=False)(images))
    deep = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(layers.Conv2D(4, 1)(deep))
    both = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([short, deep])))
    return keras.Model(images, layers.Dense(2)(both))
"""
        result = compare(("torch", block), ("tensorflow", port))
        assert verdict(result, 0) == "equal: outputs, gradients and state agree"
        assert "  short.1.weight = short_norm/gamma\n" in result.stdout

    def test_the_same_inputs_function_in_both_files_gives_the_inputs(self, compare):
        text = "import numpy as np\ndef inputs(batch):\n    return np.ones((batch, {}, 9), np.float32)\n"
        one = "from torch import nn\nbuild = nn.Linear(9, 4)\n" + text.format(2)
        other = one.replace("nn.Linear(9, 4)", "nn.Sequential(nn.Linear(9, 4))")
        assert verdict(compare(("torch", one), ("torch", other)), 0).startswith("equal: ")
        result = compare(("torch", one), ("torch", other.replace("(batch, 2", "(batch, 3")))
        assert result.exit_code == 2
        assert "(shapes (2, 2, 9) and (2, 3, 9)): expected the same values from `inputs(batch)`" in result.stderr

    @pytest.mark.parametrize(
        ("first", "shape", "told"),
        [
            (("torch", TORCH), "3x35x51", ("2x3x35x51", "2x35x51x3")),
            (("tensorflow", KERAS), "35x51x3", ("2x35x51x3", "2x3x35x51")),
        ],
    )
    def test_an_image_of_a_given_shape_is_the_same_in_the_order_of_each_framework(self, compare, first, shape, told):
        """9 by 13 after the stem, 2 by 3 after the pool, 4 by 6 in front of the head."""
        text = TORCH.replace("5 * 8 * 8", "5 * 4 * 6")
        port = KERAS.replace("(67, 67, 3)", "(35, 51, 3)")
        order = "head.weight = head/kernel order=5x4x6:1,2,0"
        models = [("torch", text), ("tensorflow", port)]
        if first[0] != "torch":
            models, order = models[::-1], "head/kernel = head.weight order=4x6x5:2,0,1"
        result = compare(*models, order, "--input", shape)
        assert verdict(result, 0) == "equal: outputs, gradients and state agree"
        found = [word.partition(")")[0] for word in result.stderr.split("(inputs ")[1:]]
        assert tuple(found) == told

    @pytest.mark.parametrize("shape", ["9", "2x9"])
    def test_a_vector_of_a_given_shape_is_the_same_in_both(self, compare, shape):
        first = "from torch import nn\nbuild = nn.Linear(9, 4)\n"
        port = "import keras\ndef build(): return keras.layers.Dense(4)\n"
        assert verdict(compare(("torch", first), ("tensorflow", port), "", "--input", shape), 0).startswith("equal: ")

    def test_random_inputs_are_to_be_seeded(self, compare):
        text = "import numpy as np\nfrom torch import nn\nbuild = nn.Linear(9, 4)\n"
        text += "def inputs(batch):\n    return np.random.default_rng().random((batch, 9), np.float32)\n"
        result = compare(("torch", text), ("torch", text))
        assert result.exit_code == 2
        line = result.stderr.splitlines()[-1]
        assert "input 1 differs between torch model0" in line
        assert "(values, off by " in line
        assert line.endswith("seed its random numbers")


class TestPart:
    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ("epsilon=1e-5", "epsilon=1e-3", "DIFFERS at norm = norm: its input agrees, its output is off by "),
            ("layers.ReLU()", "layers.LeakyReLU()", "DIFFERS between norm = norm and deep = deep: input is off by "),
            ('activation="relu", ', "", "DIFFERS between deep = deep and up = up: input is off by "),
            ("ZeroPadding2D(3)", "ZeroPadding2D(((2, 4), (2, 4)))", "DIFFERS at stem = stem: it or its padding: its "),
            ('Dense(6, ', 'Dense(6, activation="softmax", ', "DIFFERS after head = head, the last layer compared: "),
            ('"norm"', '"norm", trainable=False',
             "DIFFERS in training mode: outputs agree, but norm.weight: trainable in torch model0"),
            ("momentum=0.9", "momentum=0.99",
             "DIFFERS in training mode: outputs agree, but the pass's change of norm.running_mean is off by "),
            ("layers.Flatten(),", "layers.Flatten(), layers.Dropout(0.5),",
             "DIFFERS in training mode: outputs agree, but tensorflow model1"),
            ('name="head"),', 'name="head"), layers.Reshape((2, 3)),',
             "DIFFERS after head = head, the last layer compared: output 1: shapes (2, 6) and (2, 2, 3)"),
        ],
    )  # fmt: skip
    def test_a_planted_difference_is_named_where_it_is(self, compare, old, new, says):
        assert old in KERAS
        result = compare(("torch", TORCH), ("tensorflow", KERAS.replace(old, new)), ORDER)
        assert verdict(result, 1).startswith(says)

    def test_flattened_channels_first_and_last_are_told_with_the_line_for_the_map(self, compare):
        words = verdict(compare(("torch", TORCH), ("tensorflow", KERAS)), 1)
        assert words.startswith(
            "DIFFERS at head = head: its inputs are the same values in another order, flattened from "
        )
        assert "(5, 8, 8) in torch model0" in words
        assert words.endswith(f"if your port loads it so, say so in --map: {ORDER}")

    @pytest.mark.parametrize("line", ["self.two.requires_grad_(False)", "self.two.bias.requires_grad_(False)"])
    def test_a_layer_that_only_one_trains_is_named(self, compare, line):
        port = MEANS.replace("    def forward", f"        {line}\n    def forward")
        words = verdict(compare(("torch", MEANS), ("torch", port)), 1)
        assert words.startswith("DIFFERS in training mode: outputs agree, but two.")
        assert ": trainable in torch model0" in words
        assert verdict(compare(("torch", port), ("torch", port + "\n")), 0).startswith("equal: ")

    def test_arguments_are_part_of_a_label(self, compare, tmp_path):
        configured("torch")
        (tmp_path / "mean.py").write_text(
            "from torch import nn\ndef norm(m=0.1):\n    return nn.BatchNorm2d(3, momentum=m)\n"
        )
        nets = ("--net", f"{tmp_path}/mean.py:norm()", "--net", f"{tmp_path}/mean.py:norm(m=0.9)")
        result = CliRunner().invoke(main, ["verify", *nets, *SIZE])
        assert "comparing torch mean.py:norm() and torch mean.py:norm(m=0.9)" in result.stderr
        assert "the pass's change of running_mean is off by 8.9e-01" in verdict(result, 1)

    def test_values_that_are_not_finite_are_no_agreement(self, compare):
        port = TORCH.replace("return self.head(", "return float('nan') * self.head(")
        words = "DIFFERS after head = head, the last layer compared: output 1: not finite"
        assert verdict(compare(("torch", TORCH), ("torch", port)), 1).startswith(words)


class TestMistakes:
    def test_shapes_that_do_not_fit_are_one_line(self, compare):
        result = compare(("torch", TORCH), ("tensorflow", KERAS.replace("Dense(6", "Dense(7")))
        assert result.exit_code == 2
        (_, line) = result.stderr.splitlines()
        assert "head.weight (6, 320) as (320, 6) of torch model0" in line
        assert "the first without a pair there is head/kernel (320, 7)" in line

    def test_a_map_is_saved_and_read_back(self, compare, tmp_path):
        target = tmp_path / "saved.map"
        first = compare(("torch", MEANS), ("torch", MEANS + "\n"), "", "--save-map", str(target))
        assert first.exit_code == 0, first.output
        assert "one.weight = one.weight\n" in target.read_text()
        result = compare(("torch", MEANS), ("torch", MEANS + "\n"), target.read_text())
        assert "4 pairs of parameters, all from the map" in result.stdout

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("build = 3", "is no model: expected a torch.nn.Module"),
            ("build = nn.Linear(67, 2).double()", "called with a batch of 2 images"),
            ("build = nn.Linear(67, 2).half()", "called with a batch of 2 images"),
            ("def build(variant, how): ...", "expected a model, or a function that returns one, found one of a Net"),
        ],
    )
    def test_what_is_no_model_is_one_line(self, compare, text, says):
        result = compare(("torch", f"from torch import nn\n{text}"), ("torch", MEANS))
        assert result.exit_code == 2
        assert says in result.stderr.splitlines()[-1]
        assert "Traceback" not in result.output

    def test_an_input_for_a_model_that_has_its_own_is_one_line(self, compare):
        text = MEANS + "def inputs(batch): return torch.ones(batch, 3, 5, 5)\n"
        result = compare(("torch", MEANS), ("torch", text), "", "--input", "3x5x5")
        assert result.exit_code == 2
        assert result.stderr.endswith("has its own inputs(batch); leave one of them out\n")
        assert result.stderr.startswith("alexnet-bench: --input: model1")

    def test_a_parameter_of_another_type_is_named(self, compare):
        text = MEANS.replace("def forward", "    self.low = nn.Parameter(self.two.bias.half())\n    def forward")
        result = compare(("torch", text), ("torch", MEANS))
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].endswith(":Net: low is float16: expected float32")

    @pytest.mark.parametrize(
        ("args", "says"),
        [
            (
                "--net torch=a.py:A",
                "--net: expected two, as in --net torch=A.py:NAME --net tensorflow=B.py:NAME, found 1",
            ),
            ("--net caffe=a.py:A --net b", "--net: expected FRAMEWORK=FILE.py:NAME with torch, tensorflow, jax"),
            ("--net torch=small_cnn.py:No --net b", "--net: small_cnn.py has no 'No': it has SmallCnn"),
            (
                "--net jax=small_cnn.py:SmallCnn --net b",
                "--net jax=small_cnn.py:SmallCnn: its file imports torch: expected torch=small_cnn.py:SmallCnn",
            ),
            (
                "--net a --net b --precision bf16",
                "--net compares models as they are, in fp32; leave out --precision",
            ),
            ("--map a.map", "--map and --save-map: expected two --net"),
            ("--input 3x64x64", "--input: our nets take the images of --variant; expected a model, --net FILE.py:NAME"),
            (
                "--net a --net b --input 3*64",
                "--input: expected sizes joined by x, without the batch, such as 3x224x224, found '3*64'",
            ),
            (
                "--net small_cnn.py:SmallCnn --net small_cnn.py:SmallCnn --input 3x9x9 --size 67",
                "--input and --size: give only one of the two",
            ),
            ("--net a --net b --map /no/map", "--map: cannot read /no/map: No such file or directory"),
            ("--net a --net b --save-map /no/map", "--save-map: cannot write /no/map: No such file or directory"),
        ],
    )
    def test_options_that_do_not_fit_are_one_line(self, monkeypatch, args, says):
        monkeypatch.chdir(ROOT / "examples")
        result = CliRunner().invoke(main, ["verify", *args.split()])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"alexnet-bench: {says}")


@pytest.mark.parametrize(("losses", "random"), [([1.0, 2.0, 1.0], False), ([1.0, 2.0, 3.0], True)])
def test_a_loss_that_rounding_moves_is_not_random(tmp_path, losses, random):
    given = iter(losses)
    model = SimpleNamespace(
        parameters=lambda net: [],
        write=lambda net, values: None,
        differentiate=lambda net, rounding: (next(given), {"w": np.ones(3, np.float32)}),
    )
    reply = port.differentiate(model, None, messages.Differentiate(str(tmp_path)))
    assert reply.left_out == (port.RANDOM if random else "")


def test_the_documented_example_agrees_in_two_workers(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("tensorflow")
    examples = ROOT / "examples"
    nets = (f"torch={examples}/small_cnn.py:SmallCnn", f"tensorflow={examples}/keras_small_cnn.py:build")
    words = ("verify", "--net", nets[0], "--net", nets[1], "--map", str(examples / "small_cnn.map"))
    got = Inline(tmp_path)(*words)
    assert got.code == 0, got.out + got.err
    assert got.out.splitlines()[-1] == "equal: outputs, gradients and state agree"
