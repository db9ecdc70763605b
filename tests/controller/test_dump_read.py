"""A dump that is not right is refused, and the message names the array that is wrong."""

import io
import itertools
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from arrays import assert_same_bits, flat
from dumps import NET, TRAINABLE, WEIGHTS, good

from bench import UsageError
from bench.controller import dump


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
        dump.values(dump.Archive(path), NET)
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
        found = dump.values(dump.Archive(tmp_path / "theirs.npz"), NET)
        assert_same_bits(
            {"logits": found.logits, "loss": found.loss}, {name: arrays[name] for name in ("logits", "loss")}
        )

    def test_a_compressed_dump_is_read(self, tmp_path):
        (tmp_path / "theirs.npz").write_bytes(npz(good(), np.savez_compressed))
        assert_same_bits(dump.Archive(tmp_path / "theirs.npz"), good())

    def test_a_batch_of_one_is_a_batch(self, tmp_path):
        np.savez(tmp_path / "theirs.npz", **good(batch=1))
        assert dump.values(dump.Archive(tmp_path / "theirs.npz"), NET).logits.shape == (1, 3)

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

    def test_a_file_of_one_array_is_refused(self, refusal, tmp_path):
        assert refusal(member(np.zeros(3))) == "expected a .npz file, found one array"
        np.save(tmp_path / "net.npy", np.zeros(3))
        assert why_not(tmp_path / "net.npy") == "expected a .npz file, found one array"

    @pytest.mark.parametrize(
        "data",
        [b"", b"\n", b"junk" * 99, b"PK", b"\x93NUMPY", b"\x93NUMPY\x01\x00", pickle.dumps({"input": 1})],
        ids=itertools.count(),
    )
    def test_a_file_that_is_no_zip_is_refused_without_advice_to_unpickle(self, refusal, data):
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
        begins = {info.header_offset: info.filename.removesuffix(".npy") for info in members}
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
                dump.values(dump.Archive(path), NET)
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

    def test_a_file_that_inflates_to_much_more_is_refused_by_its_headers(self, tmp_path, monkeypatch):
        """A bomb of zeros, on the scale of a thousandth."""
        monkeypatch.setattr(dump, "SMALL", dump.SMALL >> 10)
        path, arrays = tmp_path / "theirs.npz", good(batch=1)
        arrays |= {"input": np.zeros((20_000, 5, 5, 3), np.float32), "logits": np.zeros((20_000, 3), np.float32)}
        np.savez_compressed(path, **arrays)
        tracemalloc.start()
        why = why_not(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20
        assert why == "expected arrays of numbers, found 0.0 MiB that inflate to 6 MiB; write them without compression"

    def test_the_same_file_without_compression_is_read(self, tmp_path, monkeypatch):
        monkeypatch.setattr(dump, "SMALL", 0)
        np.savez(tmp_path / "theirs.npz", **good())
        assert dump.values(dump.Archive(tmp_path / "theirs.npz"), NET).logits.shape == (2, 3)

    @pytest.mark.parametrize(
        "shape", [(2, 5, 5, 3), (2**40, 5, 5, 3), (-2, 5, 5, -3), (2, 2**62, 5, 3)], ids=lambda shape: str(shape)
    )
    def test_a_header_that_says_more_than_there_is_is_named(self, refusal, shape):
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
        data = zipped({"input.npy": head.getvalue() + bytes(60)}, zipfile.ZIP_DEFLATED)
        assert refusal(data).startswith("input: expected an array of numbers, cannot read one: expected ")

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_method_of_compression_that_inflates_without_a_limit_is_named(self, refusal, method):
        data = zipped({"input.npy": member(np.zeros(9))}, method)
        assert refusal(data).startswith("input: expected an array of numbers, cannot read one: compression ")

    def test_an_array_that_is_there_twice_is_named(self, refusal):
        data = zipped({"input.npy": member(np.zeros(9)), "inpux.npy": member(np.zeros(9))})
        assert refusal(data.replace(b"inpux", b"input")) == "input: expected an array of numbers, found two"

    def test_a_method_of_compression_that_python_has_not_is_named(self, refusal):
        data = bytearray(npz(good()))
        with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
            listed = data.index(b"logits.npy", archive.start_dir) - 46
        data[listed + 10] = 98
        assert refusal(bytes(data)).startswith("logits: expected an array of numbers, ")
