"""The Cases under pytest-benchmark: its tables and its storage, our samples and our clock.

Run by `make ci-bench`. pytest-benchmark's round is our iteration; one interleaved Run is replayed, nothing timed here.
"""

import json

import pytest
from click.testing import CliRunner
from msgspec import structs

from bench.commands.cli import main


class Replay:
    """A timer that returns recorded samples: the plugin reads it twice a round, at the start and at the end."""

    def __init__(self):
        self.load([])

    def load(self, samples_ns):
        self._samples, self._open = iter(samples_ns), False

    def __call__(self):
        self._open = not self._open
        return 0.0 if self._open else next(self._samples) * 1e-9

    def __repr__(self):
        return "alexnet-bench-samples"  # stored as options.timer; the default would hold an address


def case_ids():
    result = CliRunner().invoke(main, ["run", "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["cases"]


replay = Replay()


@pytest.mark.benchmark(timer=replay)
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case_id", case_ids())
def test_case(benchmark, case_id, run):
    (case,) = [case for case in run.cases if case.id == case_id]
    if reason := run.invalid_reason(case):
        pytest.fail(f"{case_id}: {reason}")
    samples = [sample for one in run.samples(case) for sample in one]
    replay.load(samples)
    row = run.row(case)
    benchmark.group = case.pass_
    benchmark.extra_info.update(
        fingerprint=structs.asdict(run.head.fingerprint),
        **{name: row[name] for name in ("run_id", "case_id", "work_hash", "conditions_hash", "protocol_hash", "flags")},
    )
    benchmark.pedantic(lambda: None, rounds=len(samples), warmup_rounds=0, iterations=1)
    assert list(benchmark.stats.stats.data) == [sample * 1e-9 for sample in samples]
