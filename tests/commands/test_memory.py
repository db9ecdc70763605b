"""`memory`: measured peaks next to what the layers need."""

import dataclasses
import json

import pytest
from click.testing import CliRunner
from runs import A, make

from bench.cases.protocol import Protocol
from bench.commands.cli import main
from bench.record.memory_use import uses_of
from bench.record.run import Run
from bench.stats.footprint import footprint

STEP, BACKWARD = (dataclasses.replace(A, pass_=name) for name in ("train_step", "forward_backward"))
NEED = footprint(A.net, A.batch, A.pass_, A.precision).total
#: On a CPU no allocator is asked; every other is planted here.
UNKNOWN = "The peak of the device's allocator is unknown, as on a CPU; a process took up to 1 MiB."


def memory(*words):
    return CliRunner().invoke(main, ["memory", *map(str, words)])


def with_peak(folder, cases, peak):
    """A Run whose turns have this peak of the allocator, bytes."""
    make(folder, cases)
    path = folder / "run.jsonl"
    path.write_text(path.read_text().replace('"allocator_peak":null', f'"allocator_peak":{peak}'))
    return folder


def test_the_ratio_is_that_of_the_peak_and_the_count(tmp_path):
    done = memory(with_peak(tmp_path / "a", [A], 3 * NEED))
    assert done.exit_code == 0, done.output
    assert "3.00" in done.stdout
    assert done.stdout.splitlines()[-1] == "The device held 3.00 to 3.00 times what is counted, in 1 rows."
    assert "JAX cannot reset its peak, so its figure is of the process so far" in " ".join(done.stdout.split())


@pytest.mark.parametrize(("case", "arrays"), [(A, 1), (BACKWARD, 1), (STEP, 2)])
def test_what_a_pass_reads_is_possible_also_where_the_worker_times_a_step_and_less_is_not(tmp_path, case, arrays):
    size = A.net.input_size
    reads = 4 * arrays * A.net.params + 4 * A.batch * size * size * 3
    for off, code in ((2**20, 0), (-(2**20), 1)):
        run = Run(with_peak(tmp_path / str(code), [case] if case is STEP else [case, STEP], reads + off))
        assert [use.impossible for use in uses_of(run) if use.case == case] == [bool(code)]


def test_less_than_parameters_and_images_is_impossible(tmp_path):
    done = memory(with_peak(tmp_path / "a", [A], 2**20))
    assert done.exit_code == 1
    least = footprint(A.net, A.batch, A.pass_, A.precision).least / 2**20
    assert f"{A.id}: the allocator reports 1 MiB, expected at least the {least:.4g} MiB of parameters" in done.stderr


def test_on_a_cpu_the_peak_is_unknown_and_said(tmp_path):
    make(tmp_path / "a", [A])
    done = memory(tmp_path / "a")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, UNKNOWN)


def test_a_worker_of_a_training_step_keeps_velocities_in_every_pass(tmp_path):
    alone, stepping = (
        next(uses_of(make(tmp_path / str(len(cases)), cases))) for cases in ([A], [A, STEP])
    )  # fmt: skip
    assert alone.counted.velocity == 0
    assert stepping.counted.velocity == 4 * A.net.params


def test_a_profile_whose_workers_hold_several_nets_has_no_rows(tmp_path):
    assert list(uses_of(make(tmp_path / "a", [A]))) != []
    assert list(uses_of(make(tmp_path / "b", [A], protocol=Protocol(shared_workers=True)))) == []


@pytest.mark.parametrize("changes", [{"guest": "mine"}, {"world": 2}, {"pass_": "load", "loader": 2}])
def test_other_rows_are_left_out_and_none_is_a_mistake(tmp_path, changes):
    other = dataclasses.replace(A, **changes)
    make(tmp_path / "a", [other])
    done = memory(tmp_path / "a")
    assert done.exit_code == 2
    assert done.stderr.startswith("alexnet-bench: expected valid rows of our nets on one device, of `run`; found none ")
    assert done.stderr.endswith(f"in {tmp_path / 'a'}\n")


def test_json_has_the_bytes_of_each_row(tmp_path):
    (row,) = json.loads(memory(with_peak(tmp_path / "a", [A], NEED), "--json").stdout)
    assert (row["case_id"], row["ratio"], row["impossible"], row["total_bytes"]) == (A.id, 1.0, False, NEED)
