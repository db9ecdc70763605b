"""What each part of the project imports, from sys.modules of a child."""

import re

import pytest
from imports import FRAMEWORKS, TABLES, loaded
from paths import ROOT

from impls import PEERS

#: Frameworks that a framework itself imports if installed; a Worker hides them.
BROUGHT = {"tensorflow": {"jax"}}


def test_the_command_line_imports_no_framework_and_no_tables():
    assert not loaded("import bench.commands.cli") & (FRAMEWORKS | TABLES)


def test_no_part_of_the_harness_imports_a_framework():
    every = "import bench, importlib, pkgutil; modules = pkgutil.walk_packages(bench.__path__, 'bench.')"
    names = loaded(
        f"{every}; [importlib.import_module(module.name) for module in modules if module.name != 'bench.__main__']"
    )
    assert "matplotlib" in names
    assert not names & FRAMEWORKS


def test_a_worker_imports_numpy_and_nothing_else_from_outside():
    from_outside = {"click", "rich", "msgspec", "psutil", "filelock", "scipy", "pandas", "matplotlib", "PIL"}
    names = loaded("import bench.worker.main")
    assert "numpy" in names
    assert not names & (from_outside | FRAMEWORKS)


@pytest.mark.parametrize("module", ["worker.guest", "stats.roofline"])
def test_modules_without_tables_import_no_library_for_them(module):
    assert not loaded(f"import bench.{module}") & (FRAMEWORKS | TABLES | {"click", "rich", "msgspec", "psutil"})


def test_the_crops_of_stored_pictures_need_numpy_alone():
    assert "PIL" not in loaded("import bench.worker.pixels")


def test_variants_import_no_framework_and_no_tables():
    assert not loaded("from impls.variants import VARIANTS; [v.params for v in VARIANTS.values()]") & (
        FRAMEWORKS | TABLES
    )


@pytest.mark.process
@pytest.mark.parametrize("name", PEERS)
def test_an_adapter_imports_its_own_framework_only(name):
    pytest.importorskip(PEERS[name].package)
    names = loaded(f"import impls; impls.load({name!r})")
    assert PEERS[name].package in names
    assert not names & (FRAMEWORKS - {PEERS[name].package, *PEERS[name].also} - BROUGHT.get(name, set()))


def test_available_imports_no_framework():
    assert not loaded("import impls; assert impls.available() and impls.version('torch')") & FRAMEWORKS


def test_test_files_import_no_other_and_are_in_a_folder_named_as_their_package():
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    assert [path.name for path in files if re.search(r"^(from|import) test_", path.read_text(), re.MULTILINE)] == []
    folders = {path.parent.relative_to(ROOT / "tests").as_posix() for path in files}
    packages = {path.parent.relative_to(ROOT / "bench").as_posix() for path in (ROOT / "bench").rglob("__init__.py")}
    assert folders - packages == {"fuzz", "impls", "scale", "speed"}
