"""The GPU environments: their pins are whole, and resolve for each Python to the CUDA build of the framework."""

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import pytest
from paths import ROOT

import impls

NAMES = impls.gpu_builds("all")
#: Distributions that only a framework's CUDA build has, besides CUDA's libraries.
BUILDS = {"torch": {"torch", "triton"}, "tensorflow": {"tensorflow"}, "jax": {"jax-cuda13-plugin", "jax-cuda13-pjrt"}}
LIBRARIES = {"nvidia-cublas", "nvidia-cudnn", "nvidia-cufft", "nvidia-nccl"}
UNREACHED = 2  # exit code of uv without an index; 1 where the pins do not fit


def pins(file):
    """By normalized name: the version that a file pins."""
    lines = [line for line in (ROOT / file).read_text().splitlines() if not line.startswith("#")]
    found = dict(re.fullmatch(r"([\w.-]+)==([\w.!+]+)", line).groups() for line in lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in found.items()}


def pythons():
    """The Python versions that the project supports."""
    least, below = re.findall(
        r"3\.(\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    return [f"3.{minor}" for minor in range(int(least), int(below))]


def without_cuda(name):
    """nvidia-cublas-cu12 and nvidia-cublas are two versions of one library."""
    return re.sub(r"-cu\d+$", "", name)


def test_the_frameworks_of_the_default_run_have_one_and_the_others_where_they_are_asked_for():
    assert NAMES == ["torch", "tensorflow", "jax"]
    assert impls.gpu_builds() == ["torch", "tensorflow"]
    assert impls.gpu_builds("jax, torch") == ["torch", "jax"]
    assert impls.gpu_builds("null") == []


@pytest.mark.parametrize("name", NAMES)
class TestPins:
    def test_each_is_of_one_build_for_cuda(self, name):
        found = pins(f"constraints-gpu-{name}.txt")
        cuda = [without_cuda(pin) for pin in found if pin.startswith("nvidia-")]
        assert found.keys() >= BUILDS[name]
        assert set(cuda) >= LIBRARIES
        assert len(set(cuda)) == len(cuda), "two versions of a library own the same files"

    def test_a_library_that_the_cpu_environment_has_too_has_its_version(self, name):
        """Also of the framework, but for torch, whose build for CUDA is a later one."""
        ours, of_cpu = pins(f"constraints-gpu-{name}.txt"), pins("constraints.txt")
        assert {pin for pin in ours.keys() & of_cpu.keys() if ours[pin] != of_cpu[pin]} <= {"torch"}


@pytest.fixture(scope="module")
def resolve(tmp_path_factory):
    """A function from a framework and a Python to what an installer takes for it, by name. By uv, which reads the
    metadata alone, some 100 MB: pip downloads the 3 GB of wheels even for --dry-run."""
    if find_spec("uv") is None:
        pytest.skip("uv is not installed: pip install uv")
    folder = tmp_path_factory.mktemp("resolve")

    def ask(name, python):
        command = (
            f"-m uv pip compile --no-config --quiet --no-annotate --no-header --only-binary :all: --cache-dir {folder}"
        )
        platform = f"--python-platform x86_64-manylinux_2_28 --python-version {python}"
        done = subprocess.run(
            [sys.executable, *f"{command} {platform} -c constraints-gpu-{name}.txt -".split()],
            input="\n".join(impls.gpu_requirements(name)),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode == UNREACHED:
            pytest.skip(f"no package index is reached: {' '.join(done.stderr.split())[:200]}")
        assert done.returncode == 0, done.stderr
        (folder / "resolved.txt").write_text(done.stdout)
        return pins(folder / "resolved.txt")

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_is_what_is_pinned(resolve, name, python):
    assert resolve(name, python) == pins(f"constraints-gpu-{name}.txt")
