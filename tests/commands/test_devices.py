"""`run --devices`: the Cases that it plans, what it refuses, and Runs of it continued, repeated and compared."""

import json
import shutil

import pytest
from command import NULL, Inline

from bench.output import reproduce
from bench.record.run import Run

TWO = ("--devices", "1,2")


def planned(inline, *words: str) -> list[str]:
    done = inline("run", *NULL, *words, "--dry-run", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)["cases"]


class TestPlan:
    def test_each_pass_is_on_each_number_of_devices_and_the_witnesses_follow_what_they_split(self, inline):
        stem = "half_width-null-noop-cpu-fp32-b2"
        assert planned(inline, *TWO, "--pass", "all") == [
            f"{stem}-{name}-s67"
            for name in (
                *("forward", "forward-x2", "forward_backward", "forward_backward-x2", "apart-x2", "all_reduce-x2"),
                *("train_step", "train_step-x2"),
            )
        ]

    def test_with_strong_scaling_the_batch_is_that_of_all(self, inline):
        words = (*TWO, "--scaling", "strong", "--pass", "forward", "--batch", "8")
        assert [case.split("-")[5] for case in planned(inline, *words)] == ["b8", "b4"]

    def test_without_one_device_it_says_that_there_is_no_efficiency(self, inline):
        alone, both = (inline("run", *NULL, "--devices", text, "--dry-run") for text in ("2", "1,2"))
        assert "there is no efficiency: --devices 1,2 has it" in alone.err
        assert both.err == ""

    def test_a_net_is_shared_in_each_way_and_only_that_of_data_has_witnesses(self, inline):
        words = (*TWO, "--variant", "bvlc", "--split", "data,towers,hybrid", "--pass", "forward_backward")
        stem = "bvlc-null-noop-cpu-fp32-b2"
        assert planned(inline, *words) == [
            f"{stem}-{name}-s67"
            for name in (
                *("forward_backward", "forward_backward-x2", "apart-x2", "all_reduce-x2"),
                *("forward_backward-towers-x2", "forward_backward-hybrid-x2"),
            )
        ]

    def test_all_are_in_one_group(self, inline):
        done = inline("run", *NULL, *TWO, "--scaling", "strong", "--batch", "8", "--dry-run", "--json")
        assert len(json.loads(done.out)["groups"]) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--devices", "1,9999"), "--devices: expected a whole number from 1 to 1,024, found '9999'"),
        (("--devices", "1,999"), "--devices: expected at most "),
        ((*TWO, "--scaling", "strong", "--batch", "7"), "--batch: expected a multiple of the 2 devices, found 7"),
        ((*TWO, "--dropout"), "--dropout: --devices times our nets in alternating turns"),
        ((*TWO, "--protocol", "classic"), "--protocol classic: --devices times our nets"),
        ((*TWO, "--threads", "7"), "--threads: each of 2 devices has "),
        ((*TWO, "--ab", "threads=1,1"), "--ab threads: each device has its own cores"),
        ((*TWO, "--nodes", "n1,n1"), "--nodes: expected each node once, found 'n1,n1'"),
        ((*TWO, "--nodes", "-oProxyCommand=x"), "--nodes: expected NAME or NAME=ADDRESS"),
        ((*TWO, "--nodes", "n1", "--launch", "/nowhere {node}"), "--launch: cannot run '/nowhere n1'"),
        ((*TWO, "--nodes", "n1,n2", "--launch", "ssh"), "--launch: expected {node} in it"),
        ((*TWO, "--nodes", "n1", "--python", "null=/usr/bin/env"), "--python: every node has the interpreter"),
        (("--nodes", "n1"), "--nodes: it is of several devices: pass --devices 1,2 too"),
        (("--split", "towers"), "--split: it is of several devices: pass --devices 1,2 too"),
        (("--devices", "1", "--split", "hybrid"), "--split hybrid: expected several --devices, found 1"),
        ((*TWO, "--split", "rows"), "unknown split 'rows': choose data, towers or hybrid"),
        ((*TWO, "--split", "towers"), "--split towers: expected a net with convolutions in 2 groups"),
        ((*TWO, "--split", "hybrid"), "--split hybrid: expected widths that 2 devices divide, found 5 of fc9"),
        ((*TWO, "--device", "cuda:1"), "--device: expected one kind, without a number, with --devices, found cuda:1"),
        ((*TWO, "--device", "mps"), "--devices: there is one mps per machine; leave it out"),
        (("--oversubscribe",), "--oversubscribe: it is of several devices"),
    ],
)
def test_what_devices_cannot_be_combined_with_is_one_line(inline, words, message):
    done = inline("run", *NULL, *words, "--dry-run")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith(f"alexnet-bench: {message}")


def test_a_framework_without_teams_in_a_mode_says_which_modes_have_them(inline):
    pytest.importorskip("torch")
    words = ("--framework", "torch", "--mode", "compile", "--variant", "half_width", "--size", "67")
    done = inline("run", *words, *TWO, "--dry-run")
    assert done.code == 2
    assert "--devices: torch computes on several in mode eager, found compile" in done.err


@pytest.mark.process
class TestRuns:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        inline = Inline(tmp_path_factory.mktemp("devices"))
        done = inline("run", *NULL, *TWO, "--pass", "forward_backward", "--rounds", "3")
        assert done.code == 0, done.err
        assert "Where forward_backward spends it" in done.out
        return done.folder

    def test_the_record_has_the_devices(self, folder):
        devices = Run(folder).head.devices
        assert len(devices) == 2
        assert not set(devices[0].cores) & set(devices[1].cores)

    def test_a_run_is_planned_again_by_its_own_command(self, folder, inline):
        line = reproduce.whole(Run(folder))
        assert "--devices 1,2" in line
        _, *words = line.split()[1:]
        done = inline("run", *words, "--dry-run", "--json")
        assert json.loads(done.out)["cases"] == [case.id for case in Run(folder).cases]

    def test_it_is_resumed_on_the_same_devices(self, folder, inline, tmp_path):
        shutil.copytree(folder, tmp_path / "cut")
        lines = (tmp_path / "cut/run.jsonl").read_text().splitlines(keepends=True)
        last = max(number for number, line in enumerate(lines) if '"event":"block"' in line.replace(" ", ""))
        (tmp_path / "cut/run.jsonl").write_text("".join(lines[: last - 1]))
        done = inline("run", "--resume", str(tmp_path / "cut"))
        assert done.code == 0, done.err
        assert [row["rounds"] for row in Run(tmp_path / "cut").rows()] == [3] * 4

    def test_a_shared_net_is_proven_recorded_and_planned_again(self, inline):
        words = ("--variant", "bvlc", "--split", "towers", "--pass", "forward", "--batch", "1", "--rounds", "1")
        done = inline("run", *NULL, *words, *TWO)
        assert done.code in (0, 3), done.err
        run = Run(done.folder)
        assert [run.invalid_reason(case) for case in run.cases] == ["", ""]
        assert [row["split"] for row in run.rows()] == [None, "towers"]
        layers = (done.folder / "layers.csv").read_text()
        assert "bvlc_towers,gather_conv3,gather" in layers
        found = inline("run", *reproduce.whole(run).split()[2:], "--dry-run", "--json")
        assert json.loads(found.out)["cases"] == [case.id for case in run.cases]

    @pytest.mark.parametrize("framework", [pytest.param("torch", marks=pytest.mark.slow), "jax"])
    def test_training_steps_of_a_shared_net_are_read_in_time(self, framework, inline):
        pytest.importorskip(framework)
        words = ("--framework", framework, "--variant", "bvlc", "--size", "67", "--devices", "2", "--split", "towers")
        short = ("--pass", "train_step", "--batch", "1", "--rounds", "1", "--iterations", "2", "--worker-limit", "60")
        done = inline("run", *words, *short)
        assert done.code in (0, 3), done.err
        run = Run(done.folder)
        assert [run.invalid_reason(case) for case in run.cases] == [""]

    def test_arms_take_turns_on_one_device_and_on_two(self, inline):
        words = ("--ab", "slowdown=0,0", "--pass", "forward", "--rounds", "2")
        done = inline("run", *NULL, *TWO, *words)
        assert done.code in (0, 3), done.err
        found = Run(done.folder)
        assert {(case.world, case.arm) for case in found.cases} == {(1, "A"), (1, "B"), (2, "A"), (2, "B")}
        assert [found.invalid_reason(case) for case in found.cases] == [""] * 4
