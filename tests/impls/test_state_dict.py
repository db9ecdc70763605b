"""torchvision's state dict as weights of owt: its order of fc6, its file formats, and what is refused."""

import importlib.util
import sys
import zipfile

import numpy as np
import pytest
from nets import configured
from paths import ROOT
from small_weights import refusal

import impls
from impls import state_dict
from impls.layers import Conv, Dropout, Fc, Flatten, Pool
from impls.net import Build, logits_of
from impls.variants import VARIANTS, Variant
from impls.weights import load, shapes

CONVS = [Conv(f"conv{i}", i + 1, 3, pad=(1, 1)) for i in range(1, 6)]
FCS = [Flatten("flatten"), Dropout("drop6", 0.5), Fc("fc6", 7), Fc("fc7", 8), Fc("fc8", 9)]
#: owt's modules with few filters; pool5 is 3 by 3 by 6.
SMALL = Variant("owt", 7, source="", note="", layers=(*CONVS, Pool("pool5", 3, stride=2), *FCS))


def small():
    """Fresh arrays of SMALL in torch's layout, each value its own."""
    rng = np.random.default_rng(0)
    return {
        f"{state_dict.MODULES[layer]}.{state_dict.NAMES[name]}": rng.random(state_dict._theirs(shape), np.float32)
        for layer, arrays in shapes(SMALL).items()
        for name, shape in arrays.items()
    }


def saved(path, **changes):
    """A .safetensors of SMALL with these arrays, `__` for a dot, in place of its own; None leaves one out."""
    from safetensors.numpy import save_file

    arrays = small() | {name.replace("__", "."): array for name, array in changes.items()}
    save_file({name: array for name, array in arrays.items() if array is not None}, path)
    return path


@pytest.mark.process
def test_owt_with_a_state_dict_has_the_logits_of_torchvisions_module(tmp_path):
    """Of DataParallel, in a training program's checkpoint."""
    torch = pytest.importorskip("torch")
    configured("torch")
    spec = importlib.util.spec_from_file_location("theirs", ROOT / "examples/torchvision_alexnet.py")
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    torch.manual_seed(0)
    module = theirs.AlexNet().eval()
    state = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"epoch": 90, "state_dict": state, "optimizer": {"step": 1}}, tmp_path / "checkpoint.pth")
    net = VARIANTS["owt"]
    weights = load(tmp_path / "checkpoint.pth", net)
    ours = impls.load("torch").build(net, weights, Build(1, "cpu", "fp32", "eager", "nchw"))
    images = np.random.default_rng(1).standard_normal((1, 224, 224, 3), np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.linalg.norm(logits_of(ours, images) - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.usefixtures("safetensors")
class TestSafetensors:
    def test_fc6_reads_height_width_and_channels_where_torchvisions_reads_channels_first(self, tmp_path):
        found, theirs = load(saved(tmp_path / "a.safetensors"), SMALL), small()
        h, w, c, out = 1, 2, 4, 5
        assert found["fc6"]["kernel"][(h * 3 + w) * 6 + c, out] == theirs["classifier.1.weight"][out, c * 9 + h * 3 + w]
        assert np.array_equal(found["fc7"]["kernel"], theirs["classifier.4.weight"].T)
        assert found["conv2"]["kernel"][2, 1, 0, 1] == theirs["features.3.weight"][1, 0, 2, 1]
        assert np.array_equal(found["conv5"]["bias"], theirs["features.10.bias"])

    @pytest.mark.parametrize("wrapped", ["module.{}", "_orig_mod.module.{}", "DataParallel of features"])
    def test_prefixes_of_wrappers_are_left_out(self, tmp_path, wrapped):
        from safetensors.numpy import save_file

        if "{}" in wrapped:
            named = {wrapped.format(name): array for name, array in small().items()}
        else:
            named = {name.replace("features.", "features.module."): array for name, array in small().items()}
        save_file(named, tmp_path / "a.safetensors")
        plain = load(saved(tmp_path / "b.safetensors"), SMALL)
        found = load(tmp_path / "a.safetensors", SMALL)
        assert all(np.array_equal(found[layer][name], plain[layer][name]) for layer in plain for name in plain[layer])

    @pytest.mark.parametrize(
        ("name", "array", "says"),
        [  # of classifier.6: another number of classes
            ("classifier__6__bias", np.zeros(10, "f4"), "expected float32 of shape (9,), found float32 of shape (10,)"),
            ("features__3__bias", None, "expected float32 of shape (3,), found nothing"),
            ("features__3__bias", np.zeros(3, "f2"), "expected float32 of shape (3,), found float16 of shape (3,)"),
            ("features__1__weight", np.zeros(3, np.float32), "not an array of torchvision's AlexNet"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_named_as_in_the_file(self, tmp_path, name, array, says):
        path = saved(tmp_path / "a.safetensors", **{name: array})
        assert refusal(path, SMALL) == f"{name.replace('__', '.')}: {says}"

    def test_a_value_that_is_not_finite_is_named(self, tmp_path):
        path = saved(tmp_path / "a.safetensors", features__0__bias=np.full(2, np.nan, np.float32))
        assert refusal(path, SMALL).startswith("conv1/bias: expected float32 of shape (2,), found 2 of 2 values NaN")

    def test_one_array_under_two_names_is_refused(self, tmp_path):
        path = saved(tmp_path / "a.safetensors", module__features__0__bias=np.zeros(2, np.float32))
        assert refusal(path, SMALL) == "expected each array once, found 17 arrays of 16 names"

    def test_another_variant_is_refused(self, tmp_path):
        path = saved(tmp_path / "a.safetensors")
        assert refusal(path, VARIANTS["bvlc"]) == "torchvision's names fit --variant owt, found bvlc"


@pytest.mark.process
class TestPickles:
    """Files that torch reads in a process of its own."""

    def test_what_torch_wrote_is_read_without_it_in_this_process(self, tmp_path):
        torch = pytest.importorskip("torch")
        state = {name: torch.from_numpy(array) for name, array in small().items()}
        torch.save(state, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
        found = state_dict.read(tmp_path / "legacy.pt", sys.executable)
        assert all(np.array_equal(found[name], array) for name, array in small().items())

    def test_hostile_files_are_one_line_each(self, tmp_path, monkeypatch):
        """In this process, where torch is imported once."""
        torch = pytest.importorskip("torch")
        from impls import torch_state_dict

        class Hostile:
            def __reduce__(self):
                return open, (str(tmp_path / "ran"), "w")

        files = {
            "code": ({"a": Hostile()}, "refused: its pickle asks for io.open; expected tensors and nothing else"),
            "module": (torch.nn.Linear(1, 1), "refused: its pickle asks for torch.nn.modules.linear.Linear; expected"),
            "half": ({"a": torch.zeros(1, dtype=torch.bfloat16)}, "a: expected float32, found strided bfloat16"),
            "number": ({"a": 1}, "a: expected a tensor, found int"),
            "key": ({3: torch.zeros(1)}, "3: expected a tensor, found Tensor"),
            "list": ([torch.zeros(1)], "expected a state dict, found list"),
            "huge": ({"a": torch.zeros(1).expand(2**40)}, "a: expected each value once, found (1099511627776,) of"),
        }
        for name, (value, says) in files.items():
            torch.save(value, tmp_path / name)
            with pytest.raises(torch_state_dict.Refused) as error:
                torch_state_dict.tensors(str(tmp_path / name))
            assert str(error.value).startswith(says)
        assert not (tmp_path / "ran").exists()
        whole = (tmp_path / "half").read_bytes()
        (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "text").write_text("no pickle")
        with (
            zipfile.ZipFile(tmp_path / "half") as old,
            zipfile.ZipFile(tmp_path / "packed", "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for name in old.namelist():
                new.writestr(name, old.read(name))
        says = {"packed": "expected tensors as torch.save writes them, found half/data.pkl compressed"}
        for name in ("cut", "text", "packed"):
            with pytest.raises(torch_state_dict.Refused) as error:
                torch_state_dict.tensors(str(tmp_path / name))
            assert str(error.value).startswith(says.get(name, "cut off, damaged, or not of torch.save: "))

    def test_without_torch_the_way_is_named(self, tmp_path):
        path = tmp_path / "a.pth"
        path.write_bytes(b"")
        python = tmp_path / "python"
        python.write_text('#!/bin/sh\necho \'{"missing": "No module named torch"}\'\n')
        python.chmod(0o755)
        with pytest.raises(state_dict.Refused) as error:
            state_dict.read(path, str(python))
        says = "torch is needed to read it (No module named torch): pip install 'alexnet-bench[torch]', or write a "
        assert str(error.value).startswith(says + ".safetensors")

    def test_a_process_that_dies_is_one_line(self, tmp_path):
        python = tmp_path / "python"
        python.write_text("#!/bin/sh\necho one >&2; echo killed >&2; exit 3\n")
        python.chmod(0o755)
        with pytest.raises(state_dict.Refused, match=r"^torch ended with exit code 3 reading it: killed$"):
            state_dict.read(tmp_path / "a.pth", str(python))
