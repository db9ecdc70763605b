"""A dump is written whole or not at all."""

import os
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from arrays import assert_same_bits, flat
from dumps import KEYS, NET, TRAINABLE, WEIGHTS, good
from paths import ROOT

from bench import UsageError
from bench.controller import dump
from impls.weights import map_shared, write_shared


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


class TestWrite:
    def test_the_keys_are_those_that_the_module_names(self, tmp_path, write):
        write(tmp_path / "net.npz")
        with np.load(tmp_path / "net.npz") as archive:
            assert set(archive.files) == KEYS
            assert len(archive.files) == len(KEYS)

    def test_a_dump_is_read_back_bit_for_bit(self, tmp_path, write):
        write(tmp_path / "net.npz")
        assert_same_bits(dump.Archive(tmp_path / "net.npz"), good())

    def test_values_sort_what_is_read_back_bit_for_bit(self, tmp_path, write):
        write(tmp_path / "net.npz")
        found = dump.values(dump.Archive(tmp_path / "net.npz"), NET)
        expected = good()
        assert_same_bits(flat(found.weights), flat(WEIGHTS))
        gradients = {name: expected[f"gradients/{name}"] for name in TRAINABLE}
        assert_same_bits(flat(found.gradients), gradients)
        rest = {"input": found.input, "logits": found.logits, "loss": found.loss}
        assert_same_bits(rest, {name: expected[name] for name in rest})

    def test_results_have_the_names_of_a_parity_sets_files(self, tmp_path, write, kept):
        write(tmp_path / "net.npz")
        results = dict(dump.values(dump.Archive(tmp_path / "net.npz"), NET).results())
        assert_same_bits(results, {path.stem: np.load(path) for path in kept.iterdir()})

    def test_nothing_is_compressed(self, tmp_path, write):
        write(tmp_path / "net.npz")
        with zipfile.ZipFile(tmp_path / "net.npz") as archive:
            assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}

    def test_arrays_that_are_mapped_from_files_are_written_too(self, tmp_path, kept):
        write_shared(WEIGHTS, tmp_path / "weights")
        large = np.arange(1 << 19, dtype=np.float32)  # 2 MiB, mapped when read
        np.save(kept / "gradient.fc6.kernel.npy", large)
        dump.write(tmp_path / "net.npz", good()["input"], map_shared(tmp_path / "weights"), kept)
        found = dump.Archive(tmp_path / "net.npz")
        assert_same_bits(found, good() | {"gradients/fc6/kernel": large})

    def test_an_old_dump_is_replaced_and_no_other_file_is_left(self, tmp_path, write):
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "net.npz").write_text("old")
        write(folder / "net.npz")
        assert os.listdir(folder) == ["net.npz"]
        assert dump.Archive(folder / "net.npz").keys() == KEYS

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
    def test_missing_folder_is_reported(self, tmp_path, write):
        assert_cannot_write(tmp_path / "gone" / "net.npz", "No such file or directory", write)
        assert not (tmp_path / "gone").exists()

    def test_file_in_place_of_a_folder_is_reported_and_kept(self, tmp_path, write):
        (tmp_path / "file").write_text("mine")
        assert_cannot_write(tmp_path / "file" / "net.npz", "Not a directory", write)
        assert (tmp_path / "file").read_text() == "mine"

    def test_too_long_name_is_reported(self, tmp_path, write):
        assert_cannot_write(tmp_path / ("n" * 300), "File name too long", write)

    def test_folder_in_place_of_a_file_is_reported_and_kept(self, tmp_path, write):
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
            pytest.skip("this machine does not allow users to mount a file system")
        alone = [*own, f'{mount}; exec "$@"', "sh", sys.executable, "-c", ALONE, str(folder), str(values)]
        out = subprocess.run(alone, capture_output=True, text=True, check=True, cwd=ROOT)
        assert out.stdout.splitlines() == [
            f"cannot write {folder / 'net.npz'}: {reason}; choose another file with --dump",
            "[]",
        ]
        assert out.stderr == ""

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_read_only_folder_is_reported(self, tmp_path, write):
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
