"""A dump is written whole or not at all, and one that is not right is refused with the array that is wrong."""

import io
import itertools
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from paths import ROOT

from bench import UsageError
from bench.controller import dump
from impls.layers import BatchNorm, Conv, Fc, Flatten
from impls.variants import Variant
from impls.weights import initial, map_shared, write_shared

ROWS = (Conv("conv1", 4, 3), BatchNorm("bn1", eps=1e-3, momentum=0.1), Flatten("flatten"), Fc("fc6", 3))
NET = Variant("tiny", input_size=5, source="", note="", layers=ROWS)
WEIGHTS = initial(NET)
TRAINABLE = ("conv1/kernel", "conv1/bias", "bn1/gamma", "bn1/beta", "fc6/kernel", "fc6/bias")
MOVING = ("bn1/moving_mean", "bn1/moving_variance")
KEYS = {"input", "logits", "loss"}
KEYS |= {f"weights/{name}" for name in (*TRAINABLE, *MOVING)} | {f"gradients/{name}" for name in TRAINABLE}


def flat(weights):
    return {f"{layer}/{name}": array for layer, arrays in weights.items() for name, array in arrays.items()}


def good(batch=2, results=np.float32):
    """What a dump of NET holds, with bits that arithmetic would lose."""
    rng = np.random.default_rng(3)
    arrays = {f"weights/{name}": array.copy() for name, array in flat(WEIGHTS).items()}
    arrays |= {f"gradients/{name}": rng.normal(size=flat(WEIGHTS)[name].shape).astype(results) for name in TRAINABLE}
    arrays["gradients/conv1/kernel"][0, 0, 0, :2] = -0.0, 1e-45
    arrays["input"] = rng.normal(size=(batch, 5, 5, 3)).astype(np.float32)
    arrays["logits"] = rng.normal(size=(batch, 3)).astype(results)
    arrays["loss"] = np.array(1.5, results)
    return arrays


@pytest.fixture
def kept(tmp_path):
    """The folder in which a Worker keeps what it found, under its own names."""
    folder = tmp_path / "values"
    folder.mkdir()
    for name, array in good().items():
        if not name.startswith(("input", "weights/")):
            np.save(folder / (name.replace("gradients/", "gradient/").replace("/", ".") + ".npy"), array)
    return folder


@pytest.fixture
def write(kept):
    def write(path):
        dump.write(path, good()["input"], WEIGHTS, kept)

    return write


@pytest.fixture
def refusal(tmp_path):
    """Why a file of these arrays, or of these bytes, is not taken; always one printable line with its name."""

    def refusal(data):
        path = tmp_path / "theirs.npz"
        if isinstance(data, dict):
            np.savez(path, **data)
        else:
            path.write_bytes(data)
        return why_not(path)

    return refusal


def why_not(path):
    with pytest.raises(UsageError) as error:
        dump.values(dump.read(path), NET, path.name)
    text = str(error.value)
    assert text.startswith(f"{path.name}: ")
    assert text.isprintable()
    assert len(text) < 400
    return text.removeprefix(f"{path.name}: ")


def npz(arrays, save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def member(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def zipped(members, compression=zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        assert found[name].tobytes() == array.tobytes(), name


class TestWrite:
    def test_the_keys_are_those_that_the_module_names(self, tmp_path, write):
        write(tmp_path / "net.npz")
        with np.load(tmp_path / "net.npz") as archive:
            assert set(archive.files) == KEYS
            assert len(archive.files) == len(KEYS)

    def test_what_is_written_is_read_back_bit_for_bit(self, tmp_path, write):
        write(tmp_path / "net.npz")
        assert_same_bits(dump.read(tmp_path / "net.npz"), good())

    def test_values_sort_what_is_read_back_bit_for_bit(self, tmp_path, write):
        write(tmp_path / "net.npz")
        found = dump.values(dump.read(tmp_path / "net.npz"), NET, "net.npz")
        expected = good()
        assert_same_bits(flat(found.weights), flat(WEIGHTS))
        gradients = {name: expected[f"gradients/{name}"] for name in TRAINABLE}
        assert_same_bits(flat(found.gradients), gradients)
        rest = {"input": found.input, "logits": found.logits, "loss": found.loss}
        assert_same_bits(rest, {name: expected[name] for name in rest})

    def test_results_have_the_names_of_a_parity_sets_files(self, tmp_path, write, kept):
        write(tmp_path / "net.npz")
        results = dict(dump.values(dump.read(tmp_path / "net.npz"), NET, "net.npz").results())
        assert_same_bits(results, {path.stem: np.load(path) for path in kept.iterdir()})

    def test_nothing_is_compressed(self, tmp_path, write):
        write(tmp_path / "net.npz")
        with zipfile.ZipFile(tmp_path / "net.npz") as archive:
            assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}

    def test_arrays_that_are_mapped_from_files_are_written_too(self, tmp_path, kept):
        write_shared(WEIGHTS, tmp_path / "weights")
        large = np.arange(1 << 19, dtype=np.float32)  # 2 MiB, mapped when read
        np.save(kept / "gradient.fc6.kernel.npy", large)
        dump.write(tmp_path / "net.npz", good()["input"], map_shared(tmp_path / "weights"), kept)
        found = dump.read(tmp_path / "net.npz")
        assert_same_bits(found, good() | {"gradients/fc6/kernel": large})

    def test_an_old_dump_is_replaced_and_nothing_lies_beside_the_new_one(self, tmp_path, write):
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "net.npz").write_text("old")
        write(folder / "net.npz")
        assert os.listdir(folder) == ["net.npz"]
        assert dump.read(folder / "net.npz").keys() == KEYS

    def test_any_name_is_kept_as_it_is(self, tmp_path, write):
        folder = tmp_path / "out"
        folder.mkdir()
        write(folder / "net")
        assert os.listdir(folder) == ["net"]


def assert_cannot_write(path, reason, write):
    with pytest.raises(UsageError) as error:
        write(path)
    assert str(error.value) == f"cannot write {path}: {reason}; choose another file with --dump"


#: dump.write in a process of its own, whose disk is not this one's: the folder to fill, and what is said.
ALONE = """
import sys
from pathlib import Path
import numpy as np
from bench import UsageError
from bench.controller import dump
folder, values = map(Path, sys.argv[1:])
try:
    dump.write(folder / "net.npz", np.zeros((1 << 20,), np.float32), {}, values)
except UsageError as error:
    print(error)
print(sorted(path.name for path in folder.iterdir()))
"""


class TestCannotWrite:
    def test_a_folder_that_is_not_there_is_said(self, tmp_path, write):
        assert_cannot_write(tmp_path / "gone" / "net.npz", "No such file or directory", write)
        assert not (tmp_path / "gone").exists()

    def test_a_file_in_the_folders_place_is_said_and_left_alone(self, tmp_path, write):
        (tmp_path / "file").write_text("mine")
        assert_cannot_write(tmp_path / "file" / "net.npz", "Not a directory", write)
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_name_that_is_too_long_is_said(self, tmp_path, write):
        assert_cannot_write(tmp_path / ("n" * 300), "File name too long", write)

    def test_a_folder_in_the_files_place_is_said_and_left_alone(self, tmp_path, write):
        folder = tmp_path / "out"
        (folder / "net.npz" / "mine").mkdir(parents=True)
        assert_cannot_write(folder / "net.npz", "Is a directory", write)
        assert os.listdir(folder) == ["net.npz"]
        assert os.listdir(folder / "net.npz") == ["mine"]

    @pytest.mark.parametrize("most", [0, 100, 3000], ids=["nothing fits", "a header fits", "some arrays fit"])
    def test_a_disk_that_fills_up_leaves_nothing_behind_and_the_old_dump_whole(self, tmp_path, write, most):
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "net.npz").write_text("old")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))  # the kernel refuses: a full disk that needs no root
        try:
            assert_cannot_write(folder / "net.npz", "File too large", write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(folder) == ["net.npz"]
        assert (folder / "net.npz").read_text() == "old"

    @pytest.mark.skipif(sys.platform != "linux", reason="mounts")
    @pytest.mark.parametrize(
        ("options", "reason"), [("ro", "Read-only file system"), ("size=64k", "No space left on device")]
    )
    def test_a_file_system_that_takes_nothing_is_said_even_to_root(self, tmp_path, options, reason):
        folder, values = tmp_path / "mounted", tmp_path / "values"
        folder.mkdir()
        values.mkdir()
        own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
        mount = f"mount -t tmpfs -o {options} tmpfs {folder}"
        if not shutil.which("unshare") or subprocess.run([*own, mount], capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount a file system of one's own")
        alone = [*own, f'{mount}; exec "$@"', "sh", sys.executable, "-c", ALONE, str(folder), str(values)]
        out = subprocess.run(alone, capture_output=True, text=True, check=True, cwd=ROOT)
        assert out.stdout.splitlines() == [
            f"cannot write {folder / 'net.npz'}: {reason}; choose another file with --dump",
            "[]",
        ]
        assert out.stderr == ""

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written_to_is_said(self, tmp_path, write):
        folder = tmp_path / "out"
        folder.mkdir(mode=0o555)
        assert_cannot_write(folder / "net.npz", "Permission denied", write)
        assert os.listdir(folder) == []

    def test_an_interrupt_leaves_nothing_behind(self, tmp_path, write, monkeypatch):
        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        folder = tmp_path / "out"
        folder.mkdir()
        monkeypatch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(folder / "net.npz")
        assert os.listdir(folder) == []


def without(name):
    arrays = good()
    del arrays[name]
    return arrays


def changed(name, change):
    arrays = good()
    arrays[name] = change(arrays[name])
    return arrays


def bad(value):
    def change(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return change


RESULTS = {"logits": (2, 3), "loss": ()} | {f"gradients/{name}": flat(WEIGHTS)[name].shape for name in TRAINABLE}
OF_WEIGHTS = {name: array.shape for name, array in flat(WEIGHTS).items()}


class TestValues:
    def test_results_may_be_float64(self, tmp_path):
        arrays = good(results=np.float64)
        np.savez(tmp_path / "theirs.npz", **arrays)
        found = dump.values(dump.read(tmp_path / "theirs.npz"), NET, "theirs.npz")
        assert_same_bits(
            {"logits": found.logits, "loss": found.loss}, {name: arrays[name] for name in ("logits", "loss")}
        )

    def test_a_compressed_dump_is_read(self, tmp_path):
        (tmp_path / "theirs.npz").write_bytes(npz(good(), np.savez_compressed))
        assert_same_bits(dump.read(tmp_path / "theirs.npz"), good())

    def test_a_batch_of_one_is_a_batch(self):
        assert dump.values(good(batch=1), NET, "").logits.shape == (1, 3)

    @pytest.mark.parametrize("name", RESULTS)
    def test_a_missing_result_is_named(self, refusal, name):
        expected = f"{name}: expected float32 or float64 of shape {RESULTS[name]}, found nothing"
        assert refusal(without(name)) == expected

    @pytest.mark.parametrize("name", OF_WEIGHTS)
    def test_a_missing_weight_is_named(self, refusal, name):
        expected = f"weights: {name}: expected float32 of shape {OF_WEIGHTS[name]}, found nothing"
        assert refusal(without(f"weights/{name}")) == expected

    def test_a_missing_input_is_named(self, refusal):
        assert refusal(without("input")) == "input: expected float32 of shape (n, 5, 5, 3), found nothing"

    def test_a_file_of_nothing_is_refused(self, refusal):
        assert refusal({}) == "input: expected float32 of shape (n, 5, 5, 3), found nothing"

    @pytest.mark.parametrize(
        "name",
        [
            "labels",
            "Input",
            "input/",
            "weights",
            "weights/conv1",
            "weights/conv2/kernel",
            "weights/conv1/kernel/more",
            "weights.conv1.kernel",
            "gradients/bn1/moving_mean",
            "gradient/conv1/kernel",
            "statistics/bn1",
        ],
    )
    def test_an_unknown_array_is_named(self, refusal, name):
        assert refusal(good() | {name: np.zeros(3)}) == f"{name}: not an array of a dump of tiny; see `verify --dump`"

    @pytest.mark.parametrize(
        "name", ["line\nnet.npz: all is well", "\x1b[2J", "x" * 9999], ids=["line", "escape", "long"]
    )
    def test_an_unknown_name_cannot_fill_the_screen_or_move_the_cursor(self, refusal, name):
        assert refusal(good() | {name: np.zeros(3)})
        assert refusal(zipped({f"{name}.npy": b"junk"}))
        assert refusal(zipped({f"{name}.npy": b"junk"})[:-30])

    @pytest.mark.parametrize(
        ("shape", "found"),
        [
            ((2, 5, 4, 3), (2, 5, 4, 3)),
            ((2, 4, 5, 3), (2, 4, 5, 3)),
            ((2, 7, 7, 3), (2, 7, 7, 3)),
            ((2, 3, 5, 5), (2, 3, 5, 5)),
            ((2, 5, 5, 1), (2, 5, 5, 1)),
        ],
        ids=["narrow", "flat", "large", "channels first", "gray"],
    )
    def test_an_input_of_another_shape_is_refused(self, refusal, shape, found):
        expected = f"input: expected float32 of shape (2, 5, 5, 3), found shape {found}"
        assert refusal(good() | {"input": np.zeros(shape, np.float32)}) == expected

    @pytest.mark.parametrize("shape", [(0, 5, 5, 3), (5, 5, 3), (1, 2, 5, 5, 3), (), (0,)], ids=str)
    def test_an_input_that_is_empty_or_no_batch_is_refused(self, refusal, shape):
        expected = f"input: expected float32 of shape (n, 5, 5, 3), found shape {shape}"
        assert refusal(good() | {"input": np.zeros(shape, np.float32)}) == expected

    def test_a_result_of_another_batch_is_refused(self, refusal):
        expected = "logits: expected float32 or float64 of shape (3, 3), found shape (2, 3)"
        assert refusal(good() | {"input": np.zeros((3, 5, 5, 3), np.float32)}) == expected

    @pytest.mark.parametrize("name", RESULTS)
    def test_a_result_of_another_shape_type_or_value_is_refused(self, refusal, name):
        expected, shape = f"{name}: expected float32 or float64 of shape {RESULTS[name]}, ", RESULTS[name]
        assert refusal(changed(name, lambda array: array[None])) == f"{expected}found shape {(1, *shape)}"
        assert refusal(changed(name, np.float16)) == f"{expected}found float16"
        assert refusal(changed(name, np.int64)) == f"{expected}found int64"
        size = int(np.prod(shape))
        for value in (np.nan, np.inf, -np.inf):
            why = f"{expected}found 1 of {size} values NaN or infinite"
            assert refusal(changed(name, bad(value))) == why

    @pytest.mark.parametrize("name", OF_WEIGHTS)
    def test_a_weight_of_another_shape_type_or_value_is_refused(self, refusal, name):
        key, shape = f"weights/{name}", OF_WEIGHTS[name]
        expected = f"weights: {name}: expected float32 of shape {shape}, "
        assert refusal(changed(key, lambda array: array[None])) == f"{expected}found shape {(1, *shape)}"
        assert refusal(changed(key, np.float64)) == f"{expected}found float64"
        why = f"{expected}found 1 of {int(np.prod(shape))} values NaN or infinite"
        assert refusal(changed(key, bad(np.nan))) == why

    def test_a_negative_variance_is_refused(self, refusal):
        expected = "weights: bn1/moving_variance: expected nothing below 0, found -1"
        assert refusal(changed("weights/bn1/moving_variance", bad(-1))) == expected

    @pytest.mark.parametrize(
        ("change", "found"),
        [(np.float64, "float64"), (np.float16, "float16"), (np.uint8, "uint8"), (np.complex64, "complex64")],
    )
    def test_an_input_of_another_type_is_refused(self, refusal, change, found):
        assert refusal(changed("input", change)) == f"input: expected float32 of shape (2, 5, 5, 3), found {found}"

    def test_an_input_with_nan_is_refused(self, refusal):
        why = "input: expected float32 of shape (2, 5, 5, 3), found 1 of 150 values NaN or infinite"
        assert refusal(changed("input", bad(np.nan))) == why

    @pytest.mark.parametrize("array", [np.zeros((2, 3), "f4,i4"), np.zeros((2, 3), "U4"), np.zeros((2, 3), "M8[s]")])
    def test_a_result_that_is_no_number_is_refused(self, refusal, array):
        assert refusal(good() | {"logits": array}).startswith(
            "logits: expected float32 or float64 of shape (2, 3), found "
        )


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


class TestRead:
    def test_a_missing_file_a_folder_and_a_file_in_the_folders_place_are_said(self, tmp_path):
        (tmp_path / "file").touch()
        assert why_not(tmp_path / "gone.npz") == "cannot read: No such file or directory"
        assert why_not(tmp_path) == "cannot read: Is a directory"
        assert why_not(tmp_path / "file" / "net.npz") == "cannot read: Not a directory"

    def test_one_array_is_no_dump(self, refusal, tmp_path):
        assert refusal(member(np.zeros(3))) == "expected a .npz file, found one array"
        np.save(tmp_path / "net.npy", np.zeros(3))
        assert why_not(tmp_path / "net.npy") == "expected a .npz file, found one array"

    @pytest.mark.parametrize(
        "data",
        [b"", b"\n", b"junk" * 99, b"PK", b"\x93NUMPY", b"\x93NUMPY\x01\x00", pickle.dumps({"input": 1})],
        ids=itertools.count(),
    )
    def test_what_is_no_zip_is_refused_and_nobody_is_advised_to_unpickle_it(self, refusal, data):
        assert refusal(data) == "expected a .npz file, found something else"

    @pytest.mark.parametrize("name", ["input", "logits", "weights/fc6/bias"])
    def test_an_array_of_objects_is_named_and_not_unpickled(self, tmp_path, refusal, name):
        marker = tmp_path / "ran"
        array = np.array([Runs(str(marker)), None], dtype=object)
        why = refusal(good() | {name: array})
        assert why.startswith(f"{name}: expected an array of numbers, ")
        assert "Object arrays" in why
        assert not marker.exists()
        with np.load(tmp_path / "theirs.npz", allow_pickle=True) as archive:
            archive[name]
        assert marker.exists()  # it would have run

    @pytest.mark.parametrize(
        "inside",
        [
            b"",
            b"junk",
            b"\x93NUMPY",
            b"\x93NUMPY\x09\x00" + bytes(99),
            pickle.dumps({}),
            member(np.zeros(9))[:-1],
            member(np.zeros(9))[:40],
            member(np.zeros(9)).replace(b"(9,)", b"(9,9"),
            member(np.zeros(9)).replace(b"<f8", b"<q8"),
            member(np.zeros(9)).replace(b"(9,), }", b"(10**9,"),
            member(np.zeros(9)).replace(b"(9,), }      ", b"(99999999999,"),
        ],
        ids=itertools.count(),
    )
    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_a_member_that_is_no_array_is_named(self, refusal, inside, compression):
        members = {f"{name}.npy": member(array) for name, array in good().items()} | {"logits.npy": inside}
        assert refusal(zipped(members, compression)).startswith("logits: expected an array of numbers, ")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_a_file_cut_off_anywhere_names_the_array_that_it_ends_within(self, refusal, save):
        data = npz(good(), save)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members, directory = archive.infolist(), archive.start_dir
        begins = {one.header_offset: one.filename.removesuffix(".npy") for one in members}
        assert list(begins.values()) == list(good())
        for begin, end in zip(begins, (*list(begins)[1:], directory), strict=True):
            for cut in {begin + 30 + len(f"{begins[begin]}.npy"), (begin + end) // 2, end - 1, end}:
                assert refusal(data[:cut]).startswith(f"the file is cut off or damaged within {begins[begin]}: ")
        for cut in range(directory, len(data), 50):
            assert refusal(data[:cut]).startswith("the file is cut off or damaged within ")

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_a_file_with_wrong_bytes_is_taken_or_refused(self, tmp_path, save):
        path, data = tmp_path / "theirs.npz", npz(good(), save)
        rng = np.random.default_rng(0)
        for _ in range(500):
            wrong = np.frombuffer(data, np.uint8).copy()
            wrong[rng.integers(len(data), size=rng.integers(1, 4))] ^= np.uint8(rng.integers(1, 256))
            path.write_bytes(wrong.tobytes())
            try:
                dump.values(dump.read(path), NET, path.name)
            except UsageError as refused:
                text = str(refused)
                if not text.isprintable():
                    pytest.fail(text)

    @pytest.mark.parametrize("flag", [0x01, 0x20, 0x40])
    def test_an_encrypted_or_patched_member_is_named(self, refusal, flag):
        data = bytearray(npz(good()))
        with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
            at, directory = archive.getinfo("logits.npy").header_offset, archive.start_dir
        data[at + 6] |= flag
        listed = data.index(b"logits.npy", directory) - 46
        data[listed + 8] |= flag
        assert refusal(bytes(data)).startswith("logits: expected an array of numbers, ")

    def test_a_method_of_compression_that_python_has_not_is_named(self, refusal):
        data = bytearray(npz(good()))
        with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
            listed = data.index(b"logits.npy", archive.start_dir) - 46
        data[listed + 10] = 98
        assert refusal(bytes(data)).startswith("logits: expected an array of numbers, ")
