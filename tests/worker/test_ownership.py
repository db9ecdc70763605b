"""Shared objects that two installed distributions claim, by their RECORD files."""

from bench.worker.ownership import OwnedTwice, owned_twice


def distribution(folder, name: str, *files: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))


def test_a_shared_object_of_two_distributions_is_named_with_both(tmp_path):
    distribution(tmp_path, "nvidia-cudnn-cu13", "nvidia/cudnn/lib/libcudnn.so.9", "nvidia/__init__.py")
    distribution(tmp_path, "nvidia-cudnn-cu12", "nvidia/cudnn/lib/libcudnn.so.9", "nvidia/__init__.py")
    distribution(tmp_path, "torch", "torch/lib/libcudnn.so.9", "torch/lib/../lib/libc10.so")
    assert owned_twice([str(tmp_path)]) == [OwnedTwice("libcudnn.so.9", ["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"])]


def test_one_file_by_two_spellings_is_one_file(tmp_path):
    distribution(tmp_path, "one", "a/lib/libx.so")
    distribution(tmp_path, "two", '"a/b/../lib/libx.so"')
    assert [one.owners for one in owned_twice([str(tmp_path)])] == [["one", "two"]]


def test_the_same_name_in_two_folders_is_two_files(tmp_path):
    distribution(tmp_path / "x", "one", "libx.so.1")
    distribution(tmp_path / "y", "two", "libx.so.1")
    assert owned_twice([str(tmp_path / "x"), str(tmp_path / "y")]) == []


def test_a_distribution_without_a_record_owns_nothing(tmp_path):
    distribution(tmp_path, "one", "libx.so")
    distribution(tmp_path, "two", "libx.so")
    (tmp_path / "two-1.0.dist-info" / "RECORD").unlink()
    assert owned_twice([str(tmp_path)]) == []
