"""Hostile pickles in place of Caffe's weights: nothing that a pickle could do is done."""

import copyreg
import os
import pickle
import pickletools
import struct
import subprocess
import sys

import numpy as np
import pytest
from caffe_pickles import (
    BIAS,
    FORMS,
    KERNEL,
    NAMES,
    PROTOCOLS,
    assert_bit_for_bit,
    body,
    name_of,
    saved,
    string2,
    tree,
)

from impls import caffe


class Runs:
    """Pickles into a call."""

    def __init__(self, call, *arguments):
        self.pickled = call, arguments

    def __reduce__(self):
        return self.pickled


class Touches:
    """Writes a file when it is made, and another way when its state is set."""

    def __init__(self, path=None):
        if path:
            open(path, "w").close()

    def __setstate__(self, state):
        open(state["path"], "w").close()


def with_state(path):
    touches = Touches()
    touches.path = path
    return touches


#: What it asks for (Python 2 has other modules, and protocols 0 to 2 say so), and what would write the marker.
EXPLOITS = {
    "os.system": (f"{os.name}.system", lambda marker: Runs(os.system, f"touch {marker}")),
    "subprocess": ("check_call", lambda marker: Runs(subprocess.check_call, ["touch", marker])),
    "eval": ("eval", lambda marker: Runs(eval, f"open({marker!r}, 'w').close()")),
    "exec": ("exec", lambda marker: Runs(exec, f"open({marker!r}, 'w').close()")),
    "numpy's own": ("numpy.savetxt", lambda marker: Runs(np.savetxt, marker, [1])),
    "a class": (f"{__name__}.Touches", lambda marker: Runs(Touches, marker)),
    "its state": (f"{__name__}.Touches", with_state),
}
PLACES = {
    "beside good arrays": lambda evil: tree() | {"fc7": evil},
    "before good arrays": lambda evil: {"conv0": evil} | tree(),
    "for a bias": lambda evil: tree() | {"conv1": [KERNEL, evil]},
    "in a dict": lambda evil: tree() | {"conv1": {"weights": evil, "biases": BIAS}},
    "instead of a dict": lambda evil: evil,
}


class TestHostile:
    @pytest.mark.parametrize("exploit", EXPLOITS)
    def test_hostile_pickle_would_run_in_a_plain_unpickler(self, tmp_path, exploit):
        marker = tmp_path / "ran"
        pickle.loads(pickle.dumps(EXPLOITS[exploit][1](str(marker))))
        assert marker.exists()

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("exploit", EXPLOITS)
    def test_a_pickle_that_would_run_something_is_refused_by_name_and_nothing_runs(
        self, tmp_path, refusal, exploit, place
    ):
        marker = tmp_path / "ran"
        named, evil = EXPLOITS[exploit]
        value = PLACES[place](evil(str(marker)))
        boxed = np.empty((), dtype=object)
        boxed[()] = value
        for protocol in ("npy", *PROTOCOLS):
            why = refusal(saved(boxed) if protocol == "npy" else pickle.dumps(value, protocol))
            asked = "copy_reg._reconstructor" if exploit == "its state" and protocol in (0, 1) else named
            assert why.startswith("refused: its pickle asks for ")
            assert why.endswith(f"{asked}; expected numpy arrays and nothing else")
            assert not marker.exists()

    def test_hostile_pickle_imports_no_module(self, tmp_path, monkeypatch, refusal):
        (tmp_path / "runs_on_import.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        assert "asks for runs_on_import.weights;" in refusal(b"cruns_on_import\nweights\n.")
        assert "asks for runs_on_import.weights;" in refusal(b"(iruns_on_import\nweights\n.")
        assert "runs_on_import" not in sys.modules

    @pytest.mark.parametrize(
        ("module", "name"),
        [
            ("numpy", "load"),
            ("numpy", "ndarray.tofile"),
            ("numpy", "ndarray.__init__.__globals__"),
            ("numpy", "memmap"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "_reconstruct.__globals__"),
            ("numpy.numpy._core.multiarray", "_reconstruct"),
            ("_codecs", "lookup"),
            ("impls.caffe", "_reconstruct"),
            ("", ""),
        ],
    )
    def test_another_name_of_a_known_module_is_refused(self, refusal, module, name):
        asked = (
            b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, name)) + b"\x93."
        )
        assert f"asks for {module.replace('_core', 'core')}.{name};" in refusal(asked).replace("_core", "core")

    @pytest.mark.parametrize("name", ["\n\x1b[2J" * 9, "load\nnet.npy: all is well", "\u202e", "x" * 9999])
    def test_a_name_cannot_move_the_cursor_or_add_a_line(self, refusal, name):
        word = name.encode()
        size = struct.pack("<I", len(word))
        assert "asks for numpy." in refusal(b"\x80\x04\x8c\x05numpyX" + size + word + b"\x93.")
        assert refusal(pickle.dumps(tree() | {name: [KERNEL, BIAS]}))
        assert refusal(pickle.dumps(tree() | {name: 1}))

    @pytest.mark.parametrize("key", caffe.KNOWN, ids=lambda key: key[1])
    @pytest.mark.parametrize(
        "state", [{"there": 1}, (None, {"there": 1}), ({}, {"__defaults__": (1,)}), (None, {"number": 1})], ids=str
    )
    def test_state_set_on_a_stand_in_is_not_there_for_the_next_file(self, refusal, weights_of, key, state):
        def seen():
            return [(dict(vars(found)), getattr(found, "__defaults__", None)) for found in caffe.KNOWN.values()]

        before = seen()
        assert refusal(b"\x80\x02" + name_of(key) + body(state) + b"b.")
        assert seen() == before
        assert_bit_for_bit(weights_of(FORMS["protocol 5"]))

    @pytest.mark.parametrize("key", caffe.KNOWN, ids=lambda key: key[1])
    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            (1,),
            (None, None),
            ("f4", 0, 1),
            ([], {}, ()),
            ("a", "b", "c", "d"),
            (b"", b"", b"", b"", b""),
            ((),) * 9,
        ],
        ids=str,
    )
    def test_a_stand_in_called_with_anything_is_refused_alone_as_a_layer_and_as_an_array(self, refusal, key, arguments):
        call = name_of(key) + body(arguments) + b"R"
        for value in (call, call + body(arguments) + b"b"):
            assert refusal(b"\x80\x02" + value + b".")
            assert refusal(b"\x80\x02}X\x05\x00\x00\x00conv1" + value + b"s.")
            assert refusal(b"\x80\x02}X\x05\x00\x00\x00conv1]" + value + b"a" + value + b"as.")

    @pytest.mark.parametrize("call", [b")\x81", b"}\x92", b"N\x81", b")R", b"(tR"])
    def test_a_stand_in_made_in_another_way_is_refused(self, refusal, call):
        for key in caffe.KNOWN:
            assert refusal(b"\x80\x04" + name_of(key) + call + b".")
            assert refusal(b"\x80\x04}X\x05\x00\x00\x00conv1]" + name_of(key) + call + b"aNas.")

    @pytest.mark.parametrize("step", [b"Pwhatever\n", b"K\x01Q", b"\x97", b"N\x98"])
    def test_things_kept_outside_of_the_file_are_refused(self, refusal, step):
        assert refusal(b"\x80\x05" + step + b".").startswith("expected a pickled dict of arrays, found ")
        assert refusal(b"\x80\x05}X\x05\x00\x00\x00conv1" + step + b"s.")

    @pytest.mark.parametrize("step", [b"\x82\x01", b"\x83\x01\x02", b"\x84\x01\x02\x03\x04"])
    def test_an_extension_code_is_refused(self, refusal, step):
        assert "unregistered extension code" in refusal(b"\x80\x02" + step + b".")

    def test_a_registered_extension_is_refused_by_name(self, tmp_path, refusal):
        marker = str(tmp_path / "ran").encode()
        copyreg.add_extension(__name__, "Touches", 0x77)
        try:
            why = refusal(b"\x80\x02\x82\x77" + string2(marker) + b"\x85R.")
        finally:
            copyreg.remove_extension(__name__, "Touches", 0x77)
        assert f"asks for {__name__}.Touches;" in why
        assert not os.path.exists(marker)


class TestBombs:
    @pytest.mark.parametrize("step", [b"(", b"]", b")\x85", b"N0", b"K\x00Q"], ids=repr)
    def test_a_pickle_of_more_steps_than_any_weights_have_is_refused(self, refusal, step):
        why = refusal(b"\x80\x02" + step * (caffe.MOST_OPCODES + 1) + b".")
        assert why == "expected a dict of arrays, found a pickle of more than 20,000 steps"

    def test_a_key_nested_as_deep_as_steps_allow_is_refused(self, refusal):
        deep = b"\x85" * (caffe.MOST_OPCODES - 10)
        assert refusal(b"\x80\x02})" + deep + b"Ns.") == "expected a name, found tuple"
        assert refusal(b"\x80\x02]" + b"]" * 9_000 + b"a" * 9_000 + b".") == "expected a dict of layers, found list"

    def test_a_place_in_memory_far_beyond_its_steps_is_refused(self, refusal):
        far = (1 << 24).to_bytes(4, "little")  # 256 MiB of places; 1 << 30 would be all of a machine's memory
        assert refusal(b"\x80\x02}r" + far + b".").endswith("found a pickle that keeps 16,777,216 things")
        assert refusal(b"}p16777216\n.").endswith("found a pickle that keeps 16,777,216 things")

    @pytest.mark.parametrize(
        "again",
        [
            b"q\x01h\x01\x86",  # each is a tuple of the last one twice: 2^20 to hash, and 2^99 would be as few bytes
            b"\x94h%\x86",
            b"2\x86",
            b"(1q\x01h\x01\x86",
            b"Nbq\x01h\x01\x86",
            b"(eq\x01h\x01\x86",
        ],
        ids=["put", "memoized", "duplicated", "mark", "build", "appends"],
    )
    def test_a_key_that_would_take_for_ever_to_hash_is_refused(self, refusal, again):
        steps = b"".join(again.replace(b"%", bytes([n])) for n in range(20))
        assert refusal(b"\x80\x04})" + b"\x85" + steps + b"Ns.").endswith("found a pickle that shares tuples")

    @pytest.mark.parametrize("text", [b"cnumpy\ndtype\n%b\x85R.", b"}K\x01%bs.", b"}X\x05\x00\x00\x00conv1}%bNss."])
    def test_bytes_that_are_not_text_are_not_decoded(self, refusal, text):
        nested = b"]" + b"".join(b"q%c]h%ca" % (n, n) for n in range(20)) + b""
        why = refusal(b"\x80\x02" + text.replace(b"%b", nested))
        assert "[[" not in why

    def test_the_steps_of_real_weights_are_far_fewer(self):
        most = max(len(list(pickletools.genops(FORMS[f"protocol {protocol}"]))) for protocol in PROTOCOLS)
        assert most * 8 / len(NAMES) < caffe.MOST_OPCODES / 10
