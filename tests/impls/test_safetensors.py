"""Weights in .safetensors files: saved and loaded bit for bit, damaged files refused."""

import itertools
import json

import numpy as np
import pytest
from arrays import assert_same_bits, flat
from small_weights import SMALL, assert_bit_for_bit, refusal, small

from impls.weights import (
    WeightsError,
    initial,
    load,
    load_all,
    load_velocity,
    map_shared,
    metadata,
    save,
    write_shared,
)


def tensors(entries, data=b"") -> bytes:
    """A .safetensors file with that header, which may be a text that is no JSON."""
    header = entries.encode() if isinstance(entries, str) else json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def entry(dtype="F32", shape=(4,), offsets=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.usefixtures("safetensors")
class TestSafetensors:
    def test_saved_weights_are_loaded_bit_for_bit(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_a_file_of_safetensors_own_with_dotted_keys_is_loaded_bit_for_bit(self, tmp_path):
        from safetensors.numpy import save_file

        save_file(flat(small(), "."), tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_a_checkpoint_keeps_velocity_and_metadata_apart_from_the_weights(self, tmp_path):
        path, half = tmp_path / "net.safetensors", {"fc": {"kernel": small()["fc"]["kernel"] / 2}}
        save(small(), path, half, {"epoch": "3", "classes": '["a"]'})
        assert_bit_for_bit(load(path, SMALL), small())
        assert_same_bits(flat(load_velocity(path), "."), flat(half, "."))
        assert metadata(path) == {"epoch": "3", "classes": '["a"]'}

    def test_an_output_layer_of_another_width_is_loaded_if_asked_for(self, tmp_path):
        wide = SMALL.with_classes(SMALL.classes + 2)
        weights, path = initial(wide), tmp_path / "wide.safetensors"
        save(weights, path)
        found, _ = load_all(path, [SMALL], any_classes=True)
        assert_same_bits(flat(found, "."), flat(weights, "."))
        with pytest.raises(WeightsError, match="expected float32 of shape"):
            load_all(path, [SMALL])

    @pytest.mark.parametrize("data", [b"", b"\xff" * 40, tensors("[1]"), tensors({"__metadata__": [1]})])
    def test_a_damaged_file_says_nothing_of_itself(self, tmp_path, data):
        (tmp_path / "net.safetensors").write_bytes(data)
        assert metadata(tmp_path / "net.safetensors") == {}

    def test_safetensors_own_reader_finds_the_dotted_keys_and_the_bits_that_were_saved(self, tmp_path):
        from safetensors.numpy import load_file

        save(small(), tmp_path / "net.safetensors")
        found = load_file(tmp_path / "net.safetensors")
        assert found.keys() == flat(small(), ".").keys()
        assert {"bn.gamma", "bn.beta", "bn.moving_mean", "bn.moving_variance"} < found.keys()
        assert_same_bits(found, flat(small(), "."))

    @pytest.mark.parametrize("laid", [np.asfortranarray, lambda array: array.astype(">f4")], ids=["Fortran", "big"])
    def test_arrays_in_another_order_are_saved_as_the_same_arrays(self, tmp_path, laid):
        weights = {layer: {name: laid(array) for name, array in of.items()} for layer, of in small().items()}
        save(weights, tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_mapped_weights_can_be_saved(self, tmp_path):
        write_shared(small(), tmp_path / "weights")
        save(map_shared(tmp_path / "weights"), tmp_path / "net.safetensors")
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())

    def test_a_file_that_cannot_be_written_is_an_error_of_the_system(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            save(small(), tmp_path / "gone" / "net.safetensors")

    def test_a_file_cut_off_anywhere_names_the_array_that_it_ends_within(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        data = (tmp_path / "net.safetensors").read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:begin])
        spans = sorted((*it["data_offsets"], key.replace(".", "/")) for key, it in header.items())
        assert [end for _, end, _ in spans[:-1]] == [start for start, _, _ in spans[1:]]
        for start, end, name in spans:
            for length in {begin + start, begin + start + 1, begin + end - 1}:
                (tmp_path / "net.safetensors").write_bytes(data[:length])
                why = (
                    f"the file is cut off within {name}: expected {begin + end:,} bytes up to its end, found {length:,}"
                )
                assert refusal(tmp_path / "net.safetensors") == why
        for length in range(data.rindex(b"}", 0, begin)):  # spaces follow
            (tmp_path / "net.safetensors").write_bytes(data[:length])
            assert refusal(tmp_path / "net.safetensors").startswith("not a safetensors file: ")

    def test_first_incomplete_array_is_named_in_any_order(self, tmp_path):
        data = tensors(
            {"a.last": entry(offsets=(32, 48)), "b.mid": entry(offsets=(16, 32)), "c.first": entry()}, bytes(48)
        )
        for missing, name in ((1, "a/last"), (17, "b/mid"), (48, "c/first")):
            (tmp_path / "net.safetensors").write_bytes(data[:-missing])
            assert refusal(tmp_path / "net.safetensors").startswith(f"the file is cut off within {name}: ")

    @pytest.mark.parametrize(("dtype", "bits"), [("BF16", 16), ("F8_E4M3", 8), ("F8_E5M2", 8)])
    def test_a_type_that_numpy_has_not_is_refused_with_its_array(self, tmp_path, dtype, bits):
        data = tensors({"conv.bias": entry(dtype, (4,), (0, bits // 2))}, bytes(bits // 2))
        (tmp_path / "net.safetensors").write_bytes(data)
        assert refusal(tmp_path / "net.safetensors") == f"conv/bias: expected float32, found {dtype}"

    def test_a_key_without_a_layer_is_refused(self, tmp_path):
        (tmp_path / "net.safetensors").write_bytes(tensors({"bias": entry()}, bytes(16)))
        assert refusal(tmp_path / "net.safetensors").startswith("/bias: not an array of small; ")

    def test_metadata_is_no_array(self, tmp_path):
        from safetensors.numpy import save_file

        arrays = flat(small(), ".")
        save_file(arrays, tmp_path / "net.safetensors", metadata={"format": "np"})
        assert_bit_for_bit(load(tmp_path / "net.safetensors", SMALL), small())
        data = (tmp_path / "net.safetensors").read_bytes()
        (tmp_path / "net.safetensors").write_bytes(data[:-1])
        assert "cut off within" in refusal(tmp_path / "net.safetensors")

    @pytest.mark.parametrize(
        "data",
        [
            b"\0" * 8,
            b"\xff" * 99,
            tensors(""),
            tensors("nothing"),
            tensors("{}", b"more"),
            tensors("[]"),
            tensors("3"),
            tensors("null"),
            tensors('{"conv.bias": null}'),
            tensors('{"conv.bias": 3}'),
            tensors('{"conv.bias": {}}'),
            tensors('{"conv.bias": {"data_offsets": []}}'),
            tensors("[" * 100_000),
            tensors('{"a":' * 100_000),
            tensors({"conv.bias": entry(offsets=(0, "16"))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=("0", None))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(0, 1e999))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(0, 2**70))}, bytes(16)),
            tensors({"conv.bias": entry(offsets=(16, 0))}, bytes(16)),
            tensors({"conv.bias": entry(shape=(4, -1))}, bytes(16)),
            tensors({"conv.bias": entry(shape=(2**40, 2**40))}, bytes(16)),
            tensors({"conv.bias": entry(dtype="F31")}, bytes(16)),
            tensors({"conv.bias": entry(dtype=None)}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry(offsets=(0, None))}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry()}, bytes(16)),
            tensors({"conv.bias": entry(), "conv.kernel": entry(offsets=(8, 24))}, bytes(24)),
            tensors({"conv.bias": entry()}, bytes(17)),
            tensors({"conv\n\x1b[2J": entry(), "\n": entry(dtype="\n")}, bytes(16)),
            tensors({"__metadata__": {"a": 3}}),
        ],
        ids=itertools.count(),
    )
    def test_a_header_that_makes_no_sense_is_refused(self, tmp_path, data):
        (tmp_path / "net.safetensors").write_bytes(data)
        assert refusal(tmp_path / "net.safetensors")

    def test_a_file_with_any_wrong_byte_in_its_header_is_loaded_or_refused(self, tmp_path):
        save(small(), tmp_path / "net.safetensors")
        data = (tmp_path / "net.safetensors").read_bytes()
        for at in range(8 + int.from_bytes(data[:8], "little")):
            for byte in b'"0\xff':
                (tmp_path / "net.safetensors").write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
                try:
                    load(tmp_path / "net.safetensors", SMALL)
                except WeightsError as refused:
                    text = str(refused)
                    if not text.isprintable():
                        pytest.fail(text)
