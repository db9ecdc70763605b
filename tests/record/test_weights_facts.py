"""What files of weights say of their nets: ours, other programs', and damaged ones."""

import json
import pickle

import msgspec
import numpy as np
import pytest

from bench import UsageError
from bench.cases.parse import MOST_SIZE
from bench.record.weights_facts import WeightsFacts, read_facts
from impls.inits import INITS
from impls.preprocessing import PREPROCESSINGS
from impls.state_dict import MODULES
from impls.variants import variant_named
from impls.weights import save

NET = variant_named("half_width", 67, 3)
CAFFE = PREPROCESSINGS["caffe"].at(67)
FACTS = {
    "variant": "half_width",
    "size": "67",
    "classes": json.dumps(["a", "b", "c"]),
    "preprocessing": msgspec.json.encode(CAFFE).decode(),
    "pictures": "0123",
}


@pytest.fixture
def file_of(tmp_path, safetensors):
    """A small .safetensors file with these metadata; what is in it does not matter here."""

    def file_of(metadata, arrays=None, name="net.safetensors"):
        save(arrays or {"fc9": {"bias": np.zeros(3, np.float32)}}, tmp_path / name, metadata=metadata)
        return tmp_path / name

    return file_of


@pytest.fixture
def safetensors():
    pytest.importorskip("safetensors")


class TestKinds:
    def test_a_checkpoint_of_train_says_everything(self, file_of):
        assert read_facts(file_of(FACTS)) == WeightsFacts("half_width", 67, ("a", "b", "c"), CAFFE, "0123")

    def test_weights_saved_by_verify_say_variant_and_size(self, file_of):
        facts = {"variant": "owt", "size": "224"}
        assert read_facts(file_of(facts)) == WeightsFacts("owt", 224)

    @pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
    def test_a_file_without_ours_says_nothing(self, file_of, metadata):
        assert read_facts(file_of(metadata)) == WeightsFacts()

    def test_torchvisions_names_are_owt_in_torchvisions_pixels(self, file_of):
        arrays = {f"module.{name}": {"weight": np.zeros(1, np.float32)} for name in MODULES.values()}
        arrays |= {
            f"module.{name}": arrays[f"module.{name}"] | {"bias": np.zeros(1, np.float32)} for name in MODULES.values()
        }
        found = read_facts(file_of({"format": "pt"}, arrays))
        assert found == WeightsFacts("owt", preprocessing=PREPROCESSINGS["torchvision"], foreign=True)

    @pytest.mark.parametrize("name", ["alexnet.pth", "alexnet.pt"])
    def test_a_file_of_torch_too(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"not opened here")
        assert read_facts(tmp_path / name).variant == "owt"
        assert read_facts(tmp_path / name).foreign

    def test_an_npy_is_caffes_net_in_caffes_pixels(self, tmp_path):
        np.save(tmp_path / "bvlc.npy", np.array({"conv1": [np.zeros(1)]}, object), allow_pickle=True)
        found = read_facts(tmp_path / "bvlc.npy")
        assert found == WeightsFacts("bvlc", preprocessing=PREPROCESSINGS["caffe"], foreign=True)

    def test_every_framework_and_init_writes_what_is_read(self, file_of):
        path = file_of(FACTS | {"framework": "torch", "init": "he", "epoch": "3"}, INITS["he"](NET, 0))
        assert read_facts(path).size == 67

    def test_a_pickle_is_never_loaded_here(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return pytest.fail, ("the file was unpickled",)

        (tmp_path / "bomb.npy").write_bytes(pickle.dumps(Bomb()))
        (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
        assert read_facts(tmp_path / "bomb.npy").foreign
        assert read_facts(tmp_path / "bomb.pth").foreign


class TestAsked:
    OURS = WeightsFacts("half_width", 67, ("a", "b", "c"), CAFFE)

    def test_nothing_asked_is_as_the_file_says(self):
        assert self.OURS.with_asked(None, None, None) == self.OURS
        assert self.OURS.with_asked("half_width", 67, "caffe") == self.OURS

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (("owt", None, None), "--weights: they are of variant half_width, found --variant owt; leave it out"),
            ((None, 99, None), "--weights: they are of size 67, found --size 99; leave it out"),
            (
                (None, None, "2012"),
                "--weights: they are of preprocessing caffe, found --preprocessing 2012; leave it out",
            ),
        ],
    )
    def test_what_contradicts_the_file_is_refused(self, asked, message):
        with pytest.raises(UsageError) as error:
            self.OURS.with_asked(*asked)
        assert str(error.value) == message

    def test_of_another_programs_file_the_usual_can_be_changed(self):
        found = WeightsFacts("bvlc", preprocessing=PREPROCESSINGS["caffe"], foreign=True)
        usual = found.with_asked(None, None, None)
        assert (usual.variant, usual.size, usual.preprocessing) == ("bvlc", 227, PREPROCESSINGS["caffe"])
        asked = found.with_asked("caffenet", 224, "torchvision")
        assert (asked.variant, asked.size, asked.preprocessing) == ("caffenet", 224, PREPROCESSINGS["torchvision"])
        assert found.with_asked("caffenet", 131, None).preprocessing == PREPROCESSINGS["caffe"].at(131)

    def test_what_the_file_does_not_say_is_as_asked(self):
        found = WeightsFacts().with_asked("owt", 67, "caffe")
        assert (found.variant, found.size, found.preprocessing) == ("owt", 67, CAFFE)
        assert WeightsFacts().with_asked("owt", None, None).size == 224
        assert WeightsFacts().with_asked(None, None, None) == WeightsFacts()

    def test_a_size_too_small_for_the_net_is_said(self):
        with pytest.raises(UsageError, match="size 30 is too small: expected for owt at least"):
            WeightsFacts(size=30).with_asked("owt", None, None)


DAMAGED = {
    "variant of nobody": {"variant": "best\n\x1b[31mnet"},
    "size": {"size": "x"},
    "size of digits": {"size": "9" * 5000},
    "size 0": {"size": "0"},
    "negative size": {"size": "-67"},
    "size above all": {"size": str(MOST_SIZE + 1)},
    "size with a fraction": {"size": "67.5"},
    "size of another preprocessing": {"size": "99"},
    "numbers for classes": {"classes": "[1,2]"},
    "brackets": {"classes": "[" * 5000},
    "an object for classes": {"classes": '{"a": 1}'},
    "half a surrogate": {"classes": '["\ud800"]'},
    "preprocessing": {"preprocessing": "caffe"},
    "preprocessing without a field": {"preprocessing": '{"name": "caffe", "size": 67}'},
    "preprocessing with brackets": {"preprocessing": '{"x": ' + "[" * 100_000},
    "preprocessing of zeros": {"preprocessing": FACTS["preprocessing"].replace("1.0", "0.0")},
    "preprocessing with nan": {"preprocessing": FACTS["preprocessing"].replace("104.0", "NaN")},
    "preprocessing with infinity": {"preprocessing": FACTS["preprocessing"].replace("104.0", "1e999")},
    "preprocessing of other colors": {"preprocessing": FACTS["preprocessing"].replace("BGR", "CMYK")},
    "preprocessing of a huge side": {"preprocessing": FACTS["preprocessing"].replace('"side":72', '"side":99999999')},
}


class TestDamaged:
    @pytest.mark.parametrize("damage", DAMAGED)
    def test_metadata_that_cannot_be_are_one_line(self, file_of, monkeypatch, damage):
        if "surrogate" in damage:  # the library refuses to write it
            monkeypatch.setattr("impls.weights.metadata", lambda path: FACTS | DAMAGED[damage])
        path = file_of(None if "surrogate" in damage else FACTS | DAMAGED[damage])
        with pytest.raises(UsageError) as error:
            read_facts(path)
        text = str(error.value)
        assert text.startswith("--weights: its ")
        assert "\n" not in text
        assert len(text) < 500
        assert next(iter(DAMAGED[damage])) in text

    @staticmethod
    def mutated(whole: bytes, seed: int) -> bytes:
        """With a few bytes changed, cut or added."""
        rng, data = np.random.Generator(np.random.PCG64(seed)), bytearray(whole)
        for _ in range(rng.integers(1, 4)):
            at, change = int(rng.integers(0, len(data) + 1)), rng.integers(3)
            data[at : at + int(change > 0)] = rng.bytes(int(change < 2))
        return bytes(data)

    @staticmethod
    def refusal(path) -> str:
        try:
            read_facts(path).with_asked("half_width", None, None)
        except UsageError as error:
            return str(error)
        return ""

    def test_any_bytes_say_something_or_are_one_line(self, file_of):
        path = file_of(FACTS)
        whole = path.read_bytes()
        for seed in range(300):
            path.write_bytes(self.mutated(whole[:-12], seed) + whole[-12:])  # arrays are at the end
            assert "\n" not in self.refusal(path)

    @pytest.mark.parametrize("name", ["variant", "size", "classes", "preprocessing"])
    def test_any_values_too(self, file_of, name):
        refusals = []
        for seed in range(60):
            value = self.mutated(FACTS[name].encode(), seed).decode("latin1")
            refusals.append(self.refusal(file_of(FACTS | {name: value})))
        assert not any("\n" in text for text in refusals)
        assert sum(text.startswith("--weights: its ") for text in refusals) > 20

    @pytest.mark.parametrize(
        "data", [b"", b"\x00" * 7, b"\xff" * 8, b"\x02" + b"\0" * 7 + b"[]", b"\x04" + b"\0" * 7 + b"null"]
    )
    def test_a_header_that_is_none_says_nothing_and_load_says_why(self, tmp_path, data):
        (tmp_path / "net.safetensors").write_bytes(data)
        assert read_facts(tmp_path / "net.safetensors") == WeightsFacts()

    @pytest.mark.parametrize("name", ["gone.safetensors", "gone.npy", "gone.pth"])
    def test_a_missing_file_is_one_line(self, tmp_path, name):
        with pytest.raises(UsageError) as error:
            read_facts(tmp_path / name)
        assert str(error.value) == f"--weights: {name}: cannot read: No such file or directory"

    def test_a_folder_is_one_line(self, tmp_path):
        (tmp_path / "net.npy").mkdir()
        with pytest.raises(UsageError, match=r"^--weights: net\.npy: cannot read: Is a directory$"):
            read_facts(tmp_path / "net.npy")
