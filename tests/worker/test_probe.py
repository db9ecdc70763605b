"""What a Worker really computes with: probes through the adapters' own builders."""

import json
import re
import subprocess
import sys
import types

import pytest
from nets import PEERS, configured, how
from paths import ROOT

import impls
from bench.worker import probe
from bench.worker.replies import CeilingRates

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("error", "precision"),
    [(3e-7, "fp32"), (2e-5, "unknown"), (2.9e-4, "tf32"), (2.4e-3, "bf16"), (4e-3, "bf16"), (0.5, "unknown")],
)
def test_an_error_shows_the_precision_that_makes_it(error, precision):
    assert probe.precision_of(error) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_matmul_and_a_convolution_show_the_precision_they_were_built_in(framework, precision):
    found = probe.precision(configured(framework).build, lambda batch: how(framework, batch, precision))
    assert {what: one.precision for what, one in found.items()} == {"matmul": precision, "conv": precision}


@pytest.fixture
def ran(monkeypatch):
    """What was measured, by its name, each as if its median after the first calls were 1 s: that gives exact rates."""
    names = []

    def measured(run, wait, n):
        wait(run())
        names.append(getattr(run, "__name__", ""))
        first = {4: 1, 6: 1, 7: 2}[n]  # those that compile or tune
        half = (n - first) // 2
        return None, [50_000_000_000] * first + [500_000_000] * half + [1_000_000_000] + [3_000_000_000] * half

    monkeypatch.setattr(probe, "measure", measured)
    return names


MATMUL, NUMPY, COPY = 2 * 2048**3 / 1e9, 2 * 1536**3 / 1e9, 2 * 128 * 2**20 / 1e9


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_ceiling_is_the_frameworks_own_in_every_precision_and_a_copy(framework, precision, ran):
    found = probe.ceiling(configured(framework).build, lambda batch: how(framework, batch, precision), threads=2)
    assert found == CeilingRates(
        matmul_gflop_per_s=pytest.approx(MATMUL),
        conv_gflop_per_s=pytest.approx(2 * 8 * 28 * 28 * 256 * 9 * 256 / 1e9),
        copy_gb_per_s=pytest.approx(COPY),
    )
    assert ran == ["forward", "forward", "<lambda>"]


def test_the_ceiling_of_a_process_without_a_framework_is_numpys(ran):
    assert probe.numpy_ceiling(2) == CeilingRates(
        matmul_gflop_per_s=pytest.approx(NUMPY), conv_gflop_per_s=None, copy_gb_per_s=pytest.approx(COPY)
    )
    assert ran == ["<lambda>", "<lambda>"]


def inside(framework: str, code: str):
    """What a fresh process says after it loaded an adapter as a Worker does."""
    script = f"import json; from bench.worker import probe; probe.block_other_frameworks({framework!r}); import impls; "
    script += f"adapter = impls.load({framework!r}); print(json.dumps({code}, default=vars))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("framework", PEERS)
def test_no_other_framework_gets_into_a_worker_and_libraries_are_named_without_a_path(framework):
    strangers, libraries = inside(framework, f"[probe.other_frameworks({framework!r}), probe.libraries()]")
    assert strangers == []
    assert libraries
    for library in libraries:
        assert re.fullmatch(r"lib[\w.+-]+\.so[\d.]*", library["name"])
        assert library["inside"] is True


def test_libraries_that_decide_speed_are_shared_ones_and_every_frameworks_own():
    decide = "libtorch_cpu.so libtorch_cuda.so libtensorflow_cc.so.2 libtensorflow_framework.so.2 libjax_common.so "
    decide += "libcudnn_ops.so.9 libcublasLt.so.12 libgomp-a34b3233.so.1 libmkl_core.so.2 libopenblas64_p-r0.so"
    others = "libtorch_python.so libc.so.6 libstdc++.so.6 mytorch_cpu.so libtorch_cpu.so.old"
    assert [name for name in f"{decide} {others}".split() if probe.LIBRARY.search(name)] == decide.split()


def test_a_framework_that_got_in_is_named(monkeypatch):
    for framework in impls.PEERS.values():
        monkeypatch.setitem(sys.modules, framework.package, None)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert probe.other_frameworks("jax") == ["torch"]
    assert probe.other_frameworks("torch") == []


@pytest.mark.parametrize("text", [b"", b"Name:\tpython\n", b"\xff/lib\n", b"model name\t: x\n"])
def test_a_system_file_without_what_is_looked_for_makes_it_unknown(text, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(text)
    monkeypatch.setattr(probe, "Path", lambda path: tmp_path / "file")
    assert (probe.high_water(), probe.low_precision_hardware(), probe.libraries()) == (None, None, [])
