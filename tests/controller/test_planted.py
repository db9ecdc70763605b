"""Faults planted in the source of an adapter are found by the gate: whole Runs of a copy, in real processes.

test_mutation.py bends what a row computes. Here the passes that are timed do other work than they say.
"""

import json
import shutil
import subprocess
import sys

import pytest
from paths import ROOT

pytestmark = pytest.mark.process

FEW = ("--size", "99", "--batch", "4", "--rounds", "1", "--iterations", "2", "--no-gate", "--burn-in", "2")
PLANTED = {
    "one image is left out": (
        "torch",
        "return self.infer(self.next_batch())",
        "x = self.next_batch(); return self.infer(x[:1]).expand(4, -1) if len(x) == 4 else self.infer(x)",
        "disagrees with the float64 reference",
    ),
    "forward is computed in bf16": (
        "torch",
        "return self.infer(self.next_batch())",
        "with torch.autocast('cpu', torch.bfloat16): return self.infer(self.next_batch())",
        "ran in bf16 precision",
    ),
    "most gradients are left out": (
        "torch",
        "*torch.autograd.grad(end, wrt, start)",
        "*torch.autograd.grad(end, wrt[-2:], start)",
        "failed in verify",
    ),
    "the first answer is given again": (
        "tf",
        "return self.infer(self.next_batch())",
        "self.kept = getattr(self, 'kept', None); self.kept = self.infer(self.next_batch()) if self.kept is None "
        "else self.kept; return self.kept",
        "disagrees with the float64 reference",
    ),
    "the backward pass is not returned, so not computed": (
        "jax",
        "return first, *(gradients[layer][name] for layer, arrays in self.parameters.items() for name in arrays), "
        "*images",
        "return (first,)",
        "failed in verify",
    ),
    "nobody waits for the device": (
        "jax",
        "jax.block_until_ready((handles, self.moving))",
        "None",
        "its wait returns before the device is done (sync_check): a copy right after it took ",
    ),
    "a layer is reported otherwise": (
        "jax",
        "return reports\n\n    def device",
        "return reports[:-1]\n\n    def device",
        "owt on jax: expected 21 layers, found 20",
    ),
    "fewer threads": (
        "torch",
        "torch.set_num_threads(settings.threads)",
        "torch.set_num_threads(1)",
        "asked for 2 threads, 1 are in force",
    ),
}
QUICK = ("one image is left out",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in PLANTED])
def test_a_pass_that_does_other_work_than_it_says_has_no_valid_row(name, tmp_path):
    adapter, was, becomes, reason = PLANTED[name]
    for folder in ("bench", "impls"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    source = tmp_path / "impls" / f"{adapter}_alexnet.py"
    assert source.read_text().count(was) == 1
    source.write_text(source.read_text().replace(was, becomes))
    framework = "tensorflow" if adapter == "tf" else adapter
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "run",
            "--framework",
            framework,
            "--variant",
            "owt",
            *FEW,
            "--threads",
            "2",
            "--json",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    rows = json.loads(done.stdout)["cases"]
    bad = [row for row in rows if not row["valid"]]
    assert bad
    assert all(reason in row["invalid_reason"] for row in bad), [row["invalid_reason"] for row in bad]
