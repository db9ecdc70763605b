"""Variables of the caller that no Worker gets, named where they lead to what one lacks."""

import os
import site
import sys

import pytest

from bench.controller.unpassed import way_to_missing

LACKS = "Traceback ...\nModuleNotFoundError: No module named 'turnip'"
UNLOADED = [
    "python: error while loading shared libraries: libpython3.12.so.1.0: cannot open shared object file",
    "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory",
    "OSError: /lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x.so)",
    "ImportError: /x/_C.so: undefined symbol: _ZN3c10",
]


@pytest.fixture(autouse=True)
def caller(monkeypatch, tmp_path):
    """A caller without such variables and with an empty site."""
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONUSERBASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(site, "getuserbase", lambda: str(tmp_path / "base"))


def test_without_such_variables_nothing_is_named():
    assert {way_to_missing(tail, {}) for tail in (LACKS, *UNLOADED, "", "ImportError: No module named util")} == {""}


@pytest.mark.parametrize("tail", UNLOADED)
def test_a_library_that_is_not_loaded_names_the_path_of_libraries(tail, monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/x")
    assert way_to_missing(tail, {}) == "LD_LIBRARY_PATH is kept from Workers: pass --env LD_LIBRARY_PATH"
    assert way_to_missing(tail, {"LD_LIBRARY_PATH": "/x"}) == way_to_missing("Segmentation fault", {}) == ""


@pytest.mark.parametrize("found", ["turnip.py", "turnip/__init__.py"])
def test_a_module_on_the_callers_pythonpath_is_named_and_no_other(found, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/none", str(tmp_path)]))
    assert way_to_missing(LACKS, {}) == ""
    (tmp_path / found).parent.mkdir(exist_ok=True)
    (tmp_path / found).touch()
    sys.path_importer_cache.clear()
    assert way_to_missing(LACKS, {}) == "PYTHONPATH is kept from Workers: pass --env PYTHONPATH"
    assert way_to_missing(LACKS, {"PYTHONPATH": "/other"}) == ""


def test_a_relative_folder_is_passed_as_an_absolute_one(monkeypatch, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "turnip.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "lib")
    assert way_to_missing(LACKS, {}) == f"PYTHONPATH is kept from Workers: pass --env PYTHONPATH={tmp_path}/lib"


@pytest.mark.parametrize("base", ["", " --env PYTHONUSERBASE"])
def test_a_module_in_the_users_site_is_named(base, monkeypatch, tmp_path):
    folder = tmp_path / "base" / "lib" / "python3.12" / "site-packages" / "turnip"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    if base:
        monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path / "base"))
    expected = f"the user's site is kept from Workers: pass --env PYTHONNOUSERSITE={base}"
    assert way_to_missing(LACKS, {}) == expected
    assert way_to_missing(LACKS, {"PYTHONNOUSERSITE": ""}) == ""
