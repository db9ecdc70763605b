"""A user's file with a net: how it is read without running it, the framework it needs, and mistakes in it."""

import hashlib

import pytest
from guests import BUILD, read

from bench import UsageError
from bench.worker.guest import Guest

ODD = r"x = '\d'"

pytestmark = pytest.mark.usefixtures("no_keras_of_other_tests")


@pytest.fixture
def guest(file):
    """What is read of a file of that text."""
    return lambda text, frameworks=(): read(f"{file(text)}:build", frameworks)


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
                "for a model, found (*, how); a model's are given as build(...)",
            ),
            ("def f():\n    def build(variant, how): ...", "mine.py has no 'build': it has f"),
            *(
                (
                    f"def build({given}): ...",
                    f"mine.py:build: expected parameters (variant, weights, how) or (variant, how), or none "
                    f"for a model, found ({given}); a model's are given as build(...)",
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
