"""What a Worker really computes with: probes through the adapters' own builders."""

import json
import re
import subprocess
import sys
import types

import pytest
from conftest import PEERS, ROOT, configured, how

from bench import probe


@pytest.mark.parametrize(
    ("error", "precision"),
    [(3e-7, "fp32"), (2e-5, "unknown"), (2.9e-4, "tf32"), (2.4e-3, "bf16"), (4e-3, "bf16"), (0.5, "unknown")],
)
def test_an_error_shows_the_precision_that_makes_it(error, precision):
    assert probe.shown(error) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_matmul_and_a_convolution_show_the_precision_they_were_built_in(framework, precision):
    found = probe.precision(configured(framework).build, lambda batch: how(framework, batch, precision))
    assert {what: one["precision"] for what, one in found.items()} == {"matmul": precision, "conv": precision}


def test_the_matrix_rate_is_numpys_where_numpy_has_the_precision_and_the_frameworks_elsewhere(framework, monkeypatch):
    """A fixed time for the fastest iteration, 1 s, gives an exact rate."""
    ran = []

    def measured(run, wait, n):
        wait(run())
        ran.append(run)
        return None, [2_000_000_000] * (n - 1) + [1_000_000_000]

    monkeypatch.setattr(probe, "measure", measured)
    build = configured(framework).build
    assert probe.matrix_rate(build, lambda batch: how(framework, batch)) == pytest.approx(2 * 2048**3 / 1e9)
    low = probe.matrix_rate(build, lambda batch: how(framework, batch, "bf16"))
    assert low == pytest.approx(2 * 2048 * 2028 * 2048 / 1e9)
    assert [getattr(run, "__name__", "") for run in ran] == ["<lambda>", "forward"]


def inside(framework: str, code: str):
    """What a fresh process says after it loaded an adapter as a Worker does."""
    script = f"import json; from bench import probe; probe.keep_out({framework!r}); import impls; "
    script += f"adapter = impls.load({framework!r}); print(json.dumps({code}))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("framework", PEERS)
def test_no_other_framework_gets_into_a_worker_and_libraries_are_named_without_a_path(framework):
    strangers, libraries = inside(framework, f"[probe.strangers({framework!r}), probe.libraries()]")
    assert strangers == []
    assert libraries
    for library in libraries:
        assert re.fullmatch(r"lib[\w.+-]+\.so[\d.]*", library["name"])
        assert library["inside"] is True


def test_a_framework_that_got_in_is_named(monkeypatch):
    for name in PEERS:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert probe.strangers("jax") == ["torch"]
    assert probe.strangers("torch") == []
