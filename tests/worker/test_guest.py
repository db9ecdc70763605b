"""A user's own net in a Worker: what is made of what its file returns."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from guests import BUILD, METHODS, NET, PLAIN, read
from imports import FRAMEWORKS, TABLES, loaded
from paths import ROOT

from bench.cases.passes import DEFAULT_PASSES, methods_called
from bench.worker.guest import Filled, NotANet, build, params_of
from impls.net import Build
from impls.variants import VARIANTS

HOW = Build(2, "cuda", "fp32", "eager", "channels_last")

pytestmark = pytest.mark.usefixtures("no_keras_of_other_tests")


def made(path, framework="null", **changes):
    """What a Worker gets of a guest, from weights that are a word."""
    guest = dataclasses.replace(read(f"{path}:build"), framework=framework)
    return build(guest, VARIANTS["owt"], "ours", HOW, **changes)


class TestBuilding:
    def test_guest_that_takes_weights_is_given_ours(self, file):
        text = f"{NET}\ndef build(variant, weights, how):\n    return Net(variant, weights, how)"
        assert made(file(text)).given == (VARIANTS["owt"], "ours", HOW)

    def test_guest_without_weights_is_given_none(self, file):
        text = PLAIN.replace("logits", "x").replace("gradients", "y")
        assert made(file(text)).given == (VARIANTS["owt"], HOW)

    def test_gradients_are_those_that_it_returns_though_it_inherits_views(self):
        ours = SimpleNamespace(wait=None, gradients=lambda handles: ("its", handles), gradient_views=None)
        assert Filled(ours, HOW).gradient_views(3) == ("its", 3)

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
            (
                "raise SystemExit(2)",
                "SystemExit: 2 (line 2); expected code that needs no arguments of a command line",
            ),
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
                needed=methods_called(DEFAULT_PASSES, proven="weights" in parameters),
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
    def keras(self, no_keras_of_other_tests, monkeypatch):
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
