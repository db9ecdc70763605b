"""A user's own net: how its file is read, and what a Worker makes of what it returns."""

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from imports import FRAMEWORKS, TABLES, loaded
from paths import ROOT

from bench import UsageError
from bench.cases.passes import PASSES, methods_called
from bench.worker.guest import Filled, Guest, NotANet, build, params_of
from bench.worker.net_file import read_nets
from impls.net import Build
from impls.variants import VARIANTS

HOW = Build(2, "cuda", "fp32", "eager", "channels_last")
BUILD = "def build(variant, weights, how):\n    return None\n"
ODD = r"x = '\d'"
METHODS = "load forward forward_backward wait logits gradients".split()
NET = "\n".join(
    [
        "class Net:",
        "    def __init__(self, *given):",
        "        self.given = given",
        *(f"    def {name}(self, *given):\n        return {name!r}" for name in METHODS),
    ]
)
PLAIN = f"{NET}\ndef build(variant, how):\n    return Net(variant, how)\n"


@pytest.fixture(autouse=True)
def no_keras_of_other_tests(monkeypatch):
    """As in a new Worker; a test of TensorFlow in this process has imported Keras."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.setenv("KERAS_BACKEND", "")
    monkeypatch.delenv("KERAS_BACKEND")


def read(text, frameworks=()):
    """The guest of one FILE.py:FUNCTION."""
    (net,) = read_nets([text])
    return net.guest(frameworks)


@pytest.fixture
def file(tmp_path):
    """Write a file of that text; its path."""

    def file(text: str | bytes, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return file


@pytest.fixture
def guest(file):
    """What is read of a file of that text."""
    return lambda text, frameworks=(): read(f"{file(text)}:build", frameworks)


def made(path, framework="null", **changes):
    """What a Worker gets of a guest, from weights that are a word."""
    guest = dataclasses.replace(read(f"{path}:build"), framework=framework)
    return build(guest, VARIANTS["owt"], "ours", HOW, **changes)


class TestReading:
    def test_a_guest_is_read_whole(self, file):
        path = file(f"import torch\n{BUILD}")
        guest = read(f"{path}:build")
        assert guest == Guest(str(path), "build", "torch", hashlib.sha256(path.read_bytes()).hexdigest(), True)

    def test_path_of_a_guest_is_absolute(self, file, monkeypatch):
        path = file(BUILD)
        monkeypatch.chdir(path.parent)
        assert read("mine.py:build").path == str(path)
        monkeypatch.setenv("HOME", str(path.parent))
        assert read("~/mine.py:build").path == str(path)

    def test_a_colon_in_a_folder_is_none_before_the_function(self, file, tmp_path):
        (tmp_path / "a:b").mkdir()
        assert read(f"{file(BUILD, 'a:b/mine.py')}:build").function == "build"

    @pytest.mark.parametrize(
        ("name", "function", "label"),
        [
            ("mine.py", "build", "mine"),
            ("mine.py", "fast", "mine.fast"),
            ("my net-2 (new).py", "build", "my_net_2_new_"),
            ("v1.5.py", "build", "v1.5"),
        ],
    )
    def test_label_of_a_guest_is_file_and_function_unless_that_is_build(self, file, name, function, label):
        path = file(BUILD.replace("build", function), name)
        assert read(f"{path}:{function}").label == label

    def test_reading_a_guest_never_runs_its_file(self, guest):
        assert guest(f"raise SystemExit\n{BUILD}").framework == "null"

    def test_invalid_escape_in_a_guests_file_gives_no_warning(self, guest, recwarn):
        guest(BUILD + ODD)
        assert not recwarn.list

    @pytest.mark.parametrize(
        ("parameters", "takes_weights"),
        [
            ("variant, weights, how", True),
            ("variant, how", False),
            ("variant, weights, how, /", True),
            ("variant, weights=None, how=None", True),
            ("variant, how, scale=2, *, fast=False", False),
            ("variant, weights, how, *more, **named", True),
            ("variant: 'Variant', weights: dict, how: object", True),
        ],
    )
    def test_guest_takes_weights_if_a_parameter_has_that_name(self, guest, parameters, takes_weights):
        assert guest(f"def build({parameters}): ...").takes_weights is takes_weights


class TestItsFramework:
    @pytest.mark.parametrize(
        ("imports", "framework"),
        [
            ("", "null"),
            ("import numpy, onnxruntime", "null"),
            ("import torch", "torch"),
            ("import torch.nn.functional as F", "torch"),
            ("from torch import nn", "torch"),
            ("from torchvision.models import alexnet", "torch"),
            ("import tensorflow as tf", "tensorflow"),
            ("import keras", "tensorflow"),
            ("import keras_hub", "tensorflow"),
            ("import os, keras\nos.environ['KERAS_BACKEND'] = 'jax'", "jax"),
            ("import os, keras\nos.environ.setdefault('KERAS_BACKEND', 'torch')", "torch"),
            ("import os\nos.putenv('KERAS_BACKEND', 'torch')\nfrom keras import layers", "torch"),
            ("import os, keras\nos.environ.update(KERAS_BACKEND='jax')", "jax"),
            ("import os, keras\nos.environ |= {'KERAS_BACKEND': 'jax'}", "jax"),
            ("import os, keras\nKEY = 'KERAS_BACKEND'\nUSED = 'jax'\nos.environ[KEY] = USED", "jax"),
            ("import keras\nkeras.config.set_backend('jax')", "jax"),
            ("from keras.config import set_backend\nset_backend(backend='torch')", "torch"),
            ("import os, keras, jax\nos.environ['KERAS_BACKEND'] = 'jax'", "jax"),
            ("import os, keras\nos.environ.get('KERAS_BACKEND', 'jax')", "tensorflow"),
            ("import os\nos.environ['KERAS_BACKEND'] = 'jax'", "null"),
            ("from tensorflow import keras\nimport keras", "tensorflow"),
            ("from jax import lax", "jax"),
            ("import impls.torch_alexnet", "torch"),
            ("from impls import net, torch_alexnet as ours", "torch"),
            ("from impls.tf_alexnet import lrn", "tensorflow"),
            ("import impls.null_alexnet, impls.net", "null"),
            ("import torch\nfrom impls import null_alexnet", "torch"),
            ("from . import torch\nfrom .jax import x", "null"),
            ("import torchlike, jaxon", "null"),
            ("def late():\n    if True:\n        import jax", "jax"),
        ],
    )
    def test_framework_of_a_guest_is_the_one_its_file_imports(self, guest, imports, framework):
        assert guest(f"{imports}\n{BUILD}").framework == framework

    @pytest.mark.parametrize("asked", [["jax"], ["jax", "tensorflow"]])
    def test_framework_of_a_guest_with_several_imports_is_the_requested_one(self, guest, asked):
        assert guest(f"import jax, torch\n{BUILD}", asked).framework == "jax"

    @pytest.mark.parametrize("asked", [[], ["tensorflow"], ["jax", "torch"]])
    def test_several_are_a_mistake_where_none_of_them_or_more_were_asked_for(self, guest, asked):
        with pytest.raises(UsageError) as error:
            guest(f"import jax, torch\n{BUILD}", asked)
        message = "--net: mine.py imports torch and jax: name the one it runs in with --framework"
        assert str(error.value) == message

    def test_framework_of_a_guest_needs_not_be_requested(self, guest):
        assert guest(f"import jax\n{BUILD}", ["torch"]).framework == "jax"

    @pytest.mark.parametrize(("asked", "framework"), [(["jax"], "jax"), (["torch", "jax"], "tensorflow")])
    def test_keras_without_a_backend_runs_on_the_only_framework_that_is_named(self, guest, asked, framework):
        assert guest(f"import keras\n{BUILD}", asked).framework == framework

    @pytest.mark.parametrize("by", ["shell", "keras.json"])
    def test_a_backend_that_no_worker_would_read_is_refused_unless_one_is_named(self, guest, by, tmp_path, monkeypatch):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        if by == "shell":
            monkeypatch.setenv("KERAS_BACKEND", "jax")
        else:
            (tmp_path / "keras.json").write_text('{"backend": "jax"}')
        with pytest.raises(
            UsageError, match=r"says 'jax', which Workers do not read: set KERAS_BACKEND in the file, or"
        ):
            guest(f"import keras\n{BUILD}")
        assert guest(f"import keras\n{BUILD}", ["jax"]).framework == "jax"
        assert guest(f"import keras, torch\nkeras.config.set_backend('torch')\n{BUILD}").framework == "torch"

    @pytest.mark.parametrize(
        ("text", "asked", "message"),
        [
            ("'numpy'", [], "mine.py sets Keras's backend to numpy: expected torch, tensorflow, jax"),
            ("'jax'\nimport torch", [], "mine.py imports torch and jax: name the one it runs in with --framework"),
            ("'jax'\nimport torch", ["torch"], "mine.py sets Keras's backend to jax: expected that in --framework too"),
        ],
    )
    def test_a_backend_other_than_the_workers_framework_is_refused(self, guest, text, asked, message):
        with pytest.raises(UsageError) as error:
            guest(f"import os, keras\nos.environ['KERAS_BACKEND'] = {text}\n{BUILD}", asked)
        assert str(error.value) == f"--net: {message}"


class TestMistakes:
    @pytest.mark.parametrize("text", ["", "mine.py", "mine.py:", "a b:build", "a..b:build", "mine.py:a b", "mine.py:1"])
    def test_net_option_requires_a_file_and_a_function(self, text):
        with pytest.raises(UsageError) as error:
            read(text)
        assert str(error.value) == f"--net: expected FILE.py:NAME or package.module:NAME, found {text!r}"

    def test_missing_guest_file_is_refused(self):
        with pytest.raises(UsageError) as error:
            read("no/where.py:build")
        assert str(error.value) == "--net: cannot read 'no/where.py': No such file or directory; check its path"

    def test_folder_as_guest_file_is_refused(self, tmp_path):
        (tmp_path / "net.py").mkdir()
        with pytest.raises(UsageError, match=r"^--net: cannot read '.*net.py': Is a directory; check its path$"):
            read(f"{tmp_path / 'net.py'}:build")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("x = 1\nx = = 2\n", "mine.py, line 2: expected Python, found invalid syntax"),
            (b"x = 1\0", "mine.py: expected Python, found source code string cannot contain null bytes"),
            ("x = " + "(" * 5000, "mine.py, line 1: expected Python, found too many nested parentheses"),
            ("", "mine.py has no 'build': it has no function and no class"),
            (
                "def main(): ...\nclass Build: ...\ndef biuld(variant, how): ...",
                "mine.py has no 'build': it has main, Build, biuld",
            ),
            *(
                (
                    f"from functools import partial\n{text}",
                    "mine.py imports no framework, which build needs to be a model: name it with --framework",
                )
                for text in ("class build: ...", "build = partial(other, 1)", "build = made()", "build = build")
            ),
            (
                "from functools import partial\ndef make(variant, how): ...\nbuild = partial(make, variant=1)",
                "mine.py:build: expected parameters (variant, weights, how) or (variant, how), or none "
                "for a model, found (*, how)",
            ),
            ("def f():\n    def build(variant, how): ...", "mine.py has no 'build': it has f"),
            *(
                (
                    f"def build({given}): ...",
                    f"mine.py:build: expected parameters (variant, weights, how) or (variant, how), or none "
                    f"for a model, found ({given})",
                )
                for given in (
                    "net, how",
                    "variant",
                    "variant, weights",
                    "how, variant",
                    "variant, how, weights=None",
                    "variant, weights, how, more",
                    "variant, how, *, more",
                )
            ),
        ],
    )
    def test_a_file_that_cannot_be_built_says_why(self, guest, text, message):
        with pytest.raises(UsageError) as error:
            guest(text)
        assert str(error.value) == f"--net: {message}"


class TestBuilding:
    def test_guest_that_takes_weights_is_given_ours(self, file):
        text = f"{NET}\ndef build(variant, weights, how):\n    return Net(variant, weights, how)"
        assert made(file(text)).given == (VARIANTS["owt"], "ours", HOW)

    def test_guest_without_weights_is_given_none(self, file):
        text = PLAIN.replace("logits", "x").replace("gradients", "y")
        assert made(file(text)).given == (VARIANTS["owt"], HOW)

    def test_a_pass_is_the_guests_own_method_with_nothing_around_it(self, file):
        net = made(file(PLAIN))
        for name in METHODS:
            assert getattr(net, name).__self__ is net.net
            assert getattr(net, name)() == name

    def test_a_pass_that_the_guest_replaces_while_loading_is_the_one_that_runs(self, file):
        """One that captures its graph when it has images, say."""
        text = f"{NET}\n    def load(self, batches):\n        self.forward = lambda: 'captured'\n"
        net = made(file(f"{text}def build(variant, how):\n    return Net()"))
        net.load([])
        assert net.forward() == "captured"

    def test_methods_that_a_guest_lacks_have_defaults(self, file):
        net = made(file(PLAIN))
        assert net.filled == ("fetch", "state", "layers", "device", "layout", "traces", "peak_memory")
        assert net.fetch("handles") == "wait"
        assert (net.state(), net.layers(), net.traces(), net.peak_memory()) == ({}, [], {}, None)
        assert (net.device(), net.layout()) == ("cuda:0", "channels_last")

    def test_methods_that_a_guest_has_are_used(self, file):
        text = f"{NET}\n    def device(self):\n        return 'tpu'\n    layers = []\n"
        net = made(file(f"{text}def build(variant, how):\n    return Net()"))
        assert net.device() == "tpu"
        assert net.layers() == []  # a Keras model has a list of that name
        assert "device" not in net.filled

    def test_modules_beside_its_file_are_found(self, file, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        file(NET, "sibling_of_a_guest.py")
        path = file("from sibling_of_a_guest import Net\ndef build(variant, how):\n    return Net()")
        assert type(made(path).net).__module__ == "sibling_of_a_guest"

    def test_guest_file_is_imported_once_per_process_and_not_as_main(self, file):
        text = f"{NET}\nbuilt = []\ndef build(variant, how):\n    built.append(__name__)\n    return Net(*built)\n"
        path = file(f"{text}if __name__ == '__main__':\n    raise SystemExit")
        made(path)
        assert made(path).given == ("guest_mine", "guest_mine")

    def test_dataclass_in_a_guest_file_finds_its_module(self, file):
        text = f"from __future__ import annotations\nfrom dataclasses import dataclass\n{NET}\n"
        path = file(f"{text}@dataclass\nclass Mine(Net):\n    x: int = 1\ndef build(variant, how):\n    return Mine()")
        assert made(path).x == 1

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("1 / 0", "ZeroDivisionError: division by zero (line 2)"),
            ("raise SystemExit(2)", "SystemExit: 2 (line 2)"),
            ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package' (line 2)"),
        ],
    )
    def test_a_file_that_cannot_be_imported_says_so_in_a_line_and_leaves_nothing(self, file, line, told):
        path = file(f"import sys\n{line}\n{BUILD}", "failing.py")
        with pytest.raises(NotANet) as error:
            made(path)
        assert str(error.value) == f"failing.py: its import ended by {told}"
        assert "guest_failing" not in sys.modules

    def test_an_import_out_of_memory_is_no_mistake_of_the_file(self, file):
        with pytest.raises(MemoryError):
            made(file(f"raise MemoryError\n{BUILD}"))

    def test_argparse_in_a_file_sees_no_arguments_of_the_worker(self, file, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["-c", "impls", "bench", "torch", "7"])
        line = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--width', default=3)\n"
        path = file(f"{line}width = parser.parse_args().width\n{NET}\ndef build(variant, how):\n    return Net(width)")
        assert made(path).given == (3,)

    @pytest.mark.parametrize("package", ["", "WIDTH = 3\n"])
    def test_relative_imports_reach_the_folders_of_the_file_and_above(self, file, tmp_path, package):
        (tmp_path / "pack.age" / "inner").mkdir(parents=True)
        for folder in ("pack.age", "pack.age/inner") if package else ():
            file(package, f"{folder}/__init__.py")
        file("from .two import TWO\nONE = 1\n", "pack.age/inner/one.py")
        file("TWO = 2\n", "pack.age/inner/two.py")
        file("UP = 0\n", "pack.age/up.py")
        more = "from . import WIDTH\n" if package else "WIDTH = 3\n"
        text = f"from ..up import UP\nfrom .one import ONE, TWO\n{more}{NET}\n"
        path = file(f"{text}def build(variant, how):\n    return Net(UP, ONE, TWO, WIDTH)", "pack.age/inner/mine.py")
        assert made(path).given == (0, 1, 2, 3)

    @pytest.mark.parametrize(
        "text",
        [
            "build = lambda variant, how: Net(variant, how)",
            "import functools\ndef make(variant, how, width): return Net(variant, how)\n"
            "build = functools.partial(make, width=2)",
            "from functools import partial\ndef make(width, variant, how): return Net(variant, how)\n"
            "build = partial(make, 2)",
            "from functools import partial\nbuild = partial(Net)",
            "build = Net",
            "class build(Net):\n    def __init__(self, variant, how): self.given = (variant, how)",
        ],
    )
    def test_function_may_be_a_lambda_a_class_a_partial_or_another_name(self, file, text):
        net = NET.replace("def __init__(self, *given)", "def __init__(self, variant, how)")
        net = net.replace("self.given = given", "self.given = (variant, how)")
        assert made(file(f"{net}\n{text}\n")).given == (VARIANTS["owt"], HOW)

    def test_a_file_that_was_edited_since_is_refused(self, file):
        path = file(PLAIN)
        guest = read(f"{path}:build")
        path.write_text(path.read_text() + "\n")
        with pytest.raises(RuntimeError, match=r"^mine.py has changed since the Run began: expected sha256 \w+, found"):
            build(guest, VARIANTS["owt"], {}, HOW)

    @pytest.mark.parametrize(
        ("parameters", "returned", "message"),
        [
            (
                "variant, weights, how",
                "None",
                "mine.py:build returned None: expected a Net (impls/net.py); it needs a return",
            ),
            (
                "variant, weights, how",
                "Sequential()",
                "mine.py:build returned a Sequential, which lacks load, forward_backward, wait, logits, gradients: "
                "expected a Net (impls/net.py)",
            ),
            (
                "variant, how",
                "Sequential()",
                "mine.py:build returned a Sequential, which lacks load, forward_backward, wait: "
                "expected a Net (impls/net.py)",
            ),
            (
                "variant, how",
                "1",
                "mine.py:build returned an int, which lacks load, forward, forward_backward, wait: "
                "expected a Net (impls/net.py)",
            ),
        ],
    )
    def test_object_that_is_no_net_is_refused_with_what_it_lacks(self, file, parameters, returned, message):
        text = "class Sequential:\n    wait = 1\n    def forward(self): ...\n"
        with pytest.raises(NotANet) as error:
            made(
                file(f"{text}def build({parameters}):\n    return {returned}"),
                needed=methods_called(PASSES, proven="weights" in parameters),
            )
        assert str(error.value) == message

    def test_a_net_needs_the_methods_of_the_passes_asked_for_alone(self, file):
        text = f"{NET}\n    forward_backward = None\ndef build(variant, how):\n    return Net()"
        made(file(text), needed=methods_called(["forward"], proven=False))
        with pytest.raises(NotANet, match="which lacks forward_backward: expected"):
            made(file(text), needed=methods_called(["forward_backward"], proven=False))

    def test_an_attribute_that_nobody_has_is_missing_as_ever(self):
        net = Filled(SimpleNamespace(wait=print), HOW)
        with pytest.raises(AttributeError, match="speed"):
            _ = net.speed


class TestKeras:
    """A Worker holds the backend that Keras has against the framework that it runs."""

    @pytest.fixture(autouse=True)
    def keras(self, monkeypatch):
        monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
        backend = SimpleNamespace(backend=lambda: "jax")
        monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=backend))

    def test_a_worker_sets_the_backend_of_its_framework_before_it_imports_the_file(self, file):
        assert made(
            file(
                f"{NET}\nimport os\ndef build(variant, how):\n    return Net(BACKEND)\n"
                "BACKEND = os.environ['KERAS_BACKEND']"
            ),
            "jax",
        ).given == ("jax",)

    @pytest.mark.parametrize(
        ("framework", "line", "found"),
        [
            ("torch", "", "jax"),
            ("jax", "import os\nos.environ['KERAS_BACKEND'] = 'tor' + 'ch'", "torch"),
            ("jax", "import os\nos.environ['KERAS_BACKEND'] = 'tor' + 'ch'\nimport no_such_package", "torch"),
        ],
    )  # fmt: skip
    def test_keras_on_another_framework_is_refused_in_a_line(self, file, framework, line, found):
        with pytest.raises(NotANet) as error:
            made(file(f"{line}\n{PLAIN}"), framework)
        expected = f"Keras's backend is '{found}' in a Worker of {framework}: name it with --framework {found}"
        assert str(error.value) == f"mine.py: {expected}"

    def test_keras_on_another_framework_is_refused_before_function_fails_for_it(self, file):
        with pytest.raises(NotANet, match="Keras's backend is 'jax' in a Worker of torch"):
            made(file("def build(variant, how):\n    raise AssertionError"), "torch")

    def test_a_file_without_keras_may_set_what_it_likes(self, file, monkeypatch):
        monkeypatch.delitem(sys.modules, "keras")
        made(file(f"import os\nos.environ['KERAS_BACKEND'] = 'none'\n{PLAIN}"), "jax")


class TestParams:
    """What a framework counts; the objects here have torch's, Keras's and JAX's attributes."""

    def params(self, **attributes):
        return params_of(Filled(SimpleNamespace(wait=print, **attributes), HOW))

    def test_nothing_that_can_be_counted_is_none_not_0(self):
        assert self.params(batches=[np.ones(3)], scale=2.0) is None

    def test_values_that_are_trained_are_counted_once(self):
        kernel, frozen = (SimpleNamespace(numel=lambda: 6, requires_grad=trained) for trained in (True, False))
        module = SimpleNamespace(parameters=lambda: [kernel, frozen])
        assert self.params(model=module, also=[module, {"head": module}]) == 6

    def test_variables_of_a_keras_model_are_counted(self):
        model = SimpleNamespace(trainable_variables=[SimpleNamespace(shape=(2, 3)), SimpleNamespace(shape=(3,))])
        assert self.params(model=model) == 9

    def test_leaves_of_a_tree_named_params_are_counted_where_jax_is(self, monkeypatch):
        leaves = SimpleNamespace(tree_leaves=lambda tree: list(tree.values()))
        monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(tree_util=leaves))
        tree = {"kernel": np.ones((2, 3)), "bias": np.ones(3)}
        assert self.params(params=tree, batches=tree) == 9

    def test_a_nets_own_layers_come_first(self):
        assert self.params(layers=lambda: [{"params": 5}, {"params": 2}], model=None) == 7

    def test_parameters_that_have_no_shape_yet_are_unknown(self):
        def numel():
            raise ValueError("uninitialized")

        lazy = SimpleNamespace(numel=numel, requires_grad=True)
        assert self.params(model=SimpleNamespace(parameters=lambda: [lazy])) is None


def test_guest_module_imports_no_framework_and_no_numpy():
    assert not loaded("import bench.worker.guest") & (FRAMEWORKS | TABLES)


def test_guest_module_needs_the_standard_library_alone():
    code = "import sys; sys.path[:0] = ['.']; import bench.worker.guest"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=ROOT, check=True)
