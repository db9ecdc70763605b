"""Modes, layouts, LRN, presets and users' own nets as axes of the grid, and whom each is held against."""

import dataclasses

import pytest
from click.testing import CliRunner
from runs import A, B, make

from bench import UsageError
from bench.cases import case
from bench.cases.arm import parse_ab
from bench.cases.axes import Axes
from bench.cases.case import check_cases, groups
from bench.cases.parse import parse_layouts, parse_modes
from bench.commands.cli import main
from bench.controller.settings import WorkerSettings
from bench.record import pairs

ALL = ["torch", "tensorflow", "jax"]
NET = (
    "from impls import null_alexnet\ndef build(variant, weights, how): return null_alexnet.Net(variant, weights, how)\n"
)
GRID = {
    "modes": {"torch": ["eager"], "tensorflow": ["graph"]},
    "layouts": {"torch": ["nchw"], "tensorflow": ["nhwc"]},
    "device": ["cpu"],
    "precisions": ["fp32"],
    "batch": [8],
    "pass_": ["forward"],
}


def ids(*args: str) -> list[str]:
    """Case ids that `run` would measure, null Net, forward only."""
    result = CliRunner().invoke(main, ["run", "--dry-run", "--pass", "forward", "--variant", "half_width", *args])
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if "-forward" in line]


def mistake(*args: str) -> str:
    result = CliRunner().invoke(main, ["run", "--dry-run", *args])
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.removeprefix("alexnet-bench: ").rstrip("\n")


@pytest.fixture
def nets(tmp_path):
    """Files of users' own nets: mine and yours that let no framework in, and one of torch."""
    for name in ("mine", "yours"):
        (tmp_path / f"{name}.py").write_text(NET)
    (tmp_path / "torched.py").write_text(f"import torch\n{NET}")
    return tmp_path


class TestLayouts:
    def test_without_a_layout_each_framework_has_its_default(self):
        assert parse_layouts(ALL, None) == {"torch": ["nchw"], "tensorflow": ["nhwc"], "jax": ["nhwc"]}

    def test_a_framework_that_has_no_choice_keeps_its_own(self):
        found = parse_layouts(ALL, "channels_last,nchw")
        assert found == {"torch": ["channels_last", "nchw"], "tensorflow": ["nhwc"], "jax": ["nhwc"]}

    def test_all_is_every_layout_of_each_framework(self):
        assert parse_layouts(ALL[:2], "all") == {"torch": ["nchw", "channels_last"], "tensorflow": ["nhwc"]}

    @pytest.mark.parametrize(
        ("frameworks", "text", "message"),
        [
            (["torch"], "nhwc", "torch has no layout 'nhwc': choose nchw or channels_last"),
            (["tensorflow"], "nchw", "tensorflow has no layout 'nchw': choose nhwc"),
            (ALL, "nhcw", "unknown layout 'nhcw': torch has nchw, channels_last; tensorflow has nhwc; jax has nhwc"),
            (ALL, "nhwc", "torch has no layout 'nhwc': choose nchw or channels_last, or leave torch out"),
            (["torch"], "nchw,", "torch has no layout '': choose nchw or channels_last"),
        ],
    )
    def test_layout_that_a_framework_lacks_is_refused(self, frameworks, text, message):
        with pytest.raises(UsageError) as error:
            parse_layouts(frameworks, text)
        assert str(error.value) == message


class TestModes:
    def test_modes_that_need_a_gpu_are_left_out_of_all_on_the_cpu(self):
        assert parse_modes(["torch"], "all") == {"torch": ["eager", "compile"]}
        assert parse_modes(["torch"], "all", ["cuda:1"]) == {"torch": ["eager", "compile", "cudagraphs"]}

    @pytest.mark.parametrize("devices", [["cpu"], ["cuda", "cpu"]])
    def test_mode_that_needs_a_gpu_is_refused_on_the_cpu(self, devices):
        with pytest.raises(UsageError) as error:
            parse_modes(ALL, "jit,xla,cudagraphs", devices)
        assert str(error.value) == "torch's mode 'cudagraphs' needs cuda: choose eager or compile on the cpu"

    @pytest.mark.parametrize("device", ["mps", "xpu"])
    def test_cuda_graphs_are_on_no_other_gpu_and_compile_is(self, device):
        assert parse_modes(["torch"], "all", [device]) == {"torch": ["eager", "compile"]}

    def test_framework_without_any_chosen_mode_is_a_mistake(self):
        with pytest.raises(UsageError, match="tensorflow has no mode 'compile': choose graph or xla, or leave tensor"):
            parse_modes(["torch", "tensorflow"], "compile")


class TestLrn:
    def test_both_lrns_are_two_cases_of_a_net_with_lrn(self):
        found = Axes(variant=["tutorial"], lrn=["native", "fast"], **GRID).cases()
        assert [(one.framework, one.lrn) for one in found] == [
            ("torch", "native"),
            ("torch", "fast"),
            ("tensorflow", "native"),
            ("tensorflow", "fast"),
        ]

    @pytest.mark.parametrize("variant", ["owt", "tutorial.conv1"])
    @pytest.mark.parametrize("lrns", [["native", "fast"], ["fast"]])
    def test_both_lrns_are_one_case_of_a_net_without_lrn(self, variant, lrns):
        assert [one.lrn for one in Axes(variant=[variant], lrn=lrns, **GRID).cases()] == ["native", "native"]

    def test_both_lrns_are_two_cases_of_a_single_layer(self):
        assert [one.lrn for one in Axes(variant=["tutorial.lrn2"], lrn=["fast"], **GRID).cases()] == ["fast", "fast"]


class TestNames:
    CASE = dataclasses.replace(A, layout="channels_last", lrn="fast", preset="default", guest="mine", arm="B")

    def test_an_id_and_a_worker_say_every_axis_that_is_not_at_its_default(self):
        settings = "mine-channels_last-lrn_fast-preset_default"
        assert self.CASE.id == f"owt-torch-eager-cpu-fp32-b8-forward-{settings}-B"
        assert self.CASE.worker == f"torch-eager-{settings}-B"

    def test_an_axis_at_its_default_is_in_neither_id_nor_worker(self):
        assert (A.id, A.worker) == ("owt-torch-eager-cpu-fp32-b8-forward", "torch-eager")

    def test_ids_of_the_whole_grid_are_all_different_and_read_back(self):
        axes = {"lrn": case.LRNS, "preset": case.PRESETS, "guests": [("torch", "mine"), ("torch", "yours")]}
        layouts = {"torch": ["nchw", "channels_last"], "tensorflow": ["nhwc"]}
        found = Axes(variant=["tutorial", "tutorial.lrn1"], **GRID | {"layouts": layouts}, **axes).cases()
        assert len({one.id for one in found}) == len(found) == 2 * (2 * 2 * 2 + 2 * 2 + 2 * 2 * 2)
        assert check_cases(found) == found

    @pytest.mark.parametrize(
        "changes", [{"lrn": "fast"}, {"preset": "default"}, {"layout": "channels_last"}, {"guest": "m"}, {"mode": "x"}]
    )
    def test_cases_that_differ_in_their_worker_share_a_group(self, changes):
        assert groups([A, other := dataclasses.replace(A, **changes)]) == [[A, other]]

    @pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"batch": 9}, {"variant": "owt.conv1"}, {"seed": 1}])
    def test_cases_that_differ_in_their_work_have_two_groups(self, changes):
        assert len(groups([A, dataclasses.replace(A, **changes)])) == 2

    def test_compiled_modes_are_rivals_and_arms_only_of_their_own_framework(self):
        compiled = [dataclasses.replace(A, mode="compile"), dataclasses.replace(B, mode="xla")]
        assert A.rivals == B.rivals != compiled[0].rivals == compiled[1].rivals
        arms = [dataclasses.replace(one, arm="A") for one in (A, B)]
        assert arms[0].rivals == dataclasses.replace(arms[0], arm="B", lrn="fast").rivals != arms[1].rivals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "owt.conv9"}, "unknown layer 'owt.conv9': choose owt.conv1, owt.relu1, "),
        ({"variant": "alexnet.conv1"}, "unknown variant 'alexnet': choose tutorial, "),
        ({"variant": "owt."}, "unknown layer 'owt.': choose owt.conv1, "),
        ({"lrn": "slow"}, "unknown LRN 'slow': choose native or fast"),
        ({"preset": "all"}, "unknown preset 'all': choose equal or default"),
        ({"guest": "../mine"}, "guest: expected a word, found '../mine'"),
    ],
)
def test_case_read_back_that_the_cli_could_not_produce_is_refused(changes, message):
    with pytest.raises(UsageError) as error:
        check_cases([dataclasses.replace(A, **changes)])
    assert str(error.value).startswith(message)


def test_a_row_alone_is_a_case_that_is_read_back():
    part = dataclasses.replace(A, variant="owt.conv1", guest="mine.f")
    assert check_cases([part]) == [part]


class TestGuests:
    def test_guest_without_a_framework_is_timed_next_to_ours(self, nets):
        both = ids("--framework", "null", "--net", f"{nets}/mine.py:build")
        assert both == [f"half_width-null-noop-cpu-fp32-b8-forward{end}" for end in ("", "-mine")]

    def test_framework_not_requested_times_the_guest_only(self, nets, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
        both = ids("--net", f"{nets}/torched.py:build")
        assert both == [f"half_width-torch-eager-cpu-fp32-b8-forward{end}" for end in ("", "-torched")]

    def test_guest_has_no_lrn_axis(self, nets):
        found = Axes(variant=["tutorial"], lrn=["native", "fast"], guests=[("torch", "mine")], **GRID).cases()
        assert [one.lrn for one in found if one.guest] == ["native"]

    def test_two_guests_of_one_name_are_refused(self, nets):
        (nets / "more").mkdir()
        (nets / "more" / "mine.py").write_text(NET)
        found = mistake("--net", f"{nets}/mine.py:build", "--net", f"{nets}/more/mine.py:build")
        assert found == "--net: two nets are named mine; rename a file or a function"

    def test_net_next_to_another_ab_is_refused(self, nets):
        found = mistake("--framework", "null", "--net", f"{nets}/mine.py:build", "--ab", "slowdown=0,5")
        assert found == "--ab and --net: compare two nets with --ab net=A.py:f,B.py:f, or leave --ab out"

    def test_net_next_to_an_ab_of_two_nets_is_refused(self, nets):
        ab = f"net={nets}/mine.py:build,{nets}/yours.py:build"
        found = mistake("--framework", "null", "--net", f"{nets}/mine.py:build", "--ab", ab)
        assert found == "--ab net and --net: give only one of the two"

    def test_an_ab_of_two_nets_makes_two_cases_with_those(self, nets):
        both = ids("--ab", f"net={nets}/mine.py:build,{nets}/yours.py:build")
        assert both == [f"half_width-null-noop-cpu-fp32-b8-forward-{end}" for end in ("mine-A", "yours-B")]

    def test_arms_of_two_frameworks_have_each_its_own_mode_and_layout(self, nets):
        ab = parse_ab(f"net={nets}/torched.py:build,{nets}/mine.py:build")
        a, b = ab.cases([dataclasses.replace(A, mode="compile", layout="channels_last")])
        assert (a.framework, a.mode, a.layout, a.guest) == ("torch", "compile", "channels_last", "torched")
        assert (b.framework, b.mode, b.layout, b.guest) == ("null", "noop", "nhwc", "mine")
        assert [WorkerSettings(1, 60.0, ab=ab).guest(one).label for one in (a, b)] == ["torched", "mine"]
        assert ab.recorded().values == ("torched.py:build", "mine.py:build")


class TestAb:
    @pytest.mark.parametrize(
        ("text", "ends"),
        [("lrn=native,fast", ("A", "lrn_fast-B")), ("preset=default,equal", ("preset_default-A", "B"))],
    )
    def test_two_kinds_of_lrn_or_two_presets_are_two_arms(self, text, ends):
        both = ids("--framework", "null", "--variant", "bvlc", "--ab", text)
        assert both == [f"bvlc-null-noop-cpu-fp32-b8-forward-{end}" for end in ends]

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (("--ab", "lrn=native,slow"), "unknown LRN 'slow': choose native or fast"),
            (("--ab", "preset=all,equal"), "--ab preset: expected one value per side, found 'all'"),
            (("--ab", "lrn=native,fast", "--lrn", "fast"), "--ab lrn and --lrn: give only one of the two"),
            (("--ab", "preset=equal,default", "--preset", "all"), "--ab preset and --preset: give only one of the two"),
            (("--ab", "net=/nowhere/a.py:f,b.py:f"), "--net: cannot read '/nowhere/a.py': No such file or directory; "),
            (("--ab", "lrn=native,fast", "--variant", "owt"), "--ab lrn: owt has no LRN; choose another --variant"),
            (("--framework", "jax", "--ab", "layout=nchw,nhwc"), "jax has no layout 'nchw': choose nhwc"),
            (
                ("--framework", "torch,jax", "--ab", "layout=nchw,channels_last"),
                "--ab layout: jax has no layout 'nchw'; leave jax out",
            ),
            (
                ("--precision", "tf32", "--preset", "all"),
                "precision 'tf32' with --preset default: only `equal` sets swit",
            ),
            (("--lrn", "fats"), "unknown LRN 'fats': choose native or fast"),
            (("--preset", "pinned"), "unknown preset 'pinned': choose equal or default"),
        ],
    )
    def test_invalid_axis_is_a_one_line_error(self, args, message):
        assert mistake("--framework", "null", *args).startswith(message)


class TestPartners:
    CASES = (
        A,
        dataclasses.replace(A, variant="tutorial"),
        fast := dataclasses.replace(A, lrn="fast"),
        B,
        faster := dataclasses.replace(B, lrn="fast"),
        compiled := dataclasses.replace(A, mode="compile"),
        xla := dataclasses.replace(B, mode="xla"),
        jit := dataclasses.replace(B, framework="jax", mode="jit"),
        guest := dataclasses.replace(A, guest="mine"),
        other := dataclasses.replace(A, mode="compile", guest="mine"),
    )

    def test_each_case_is_compared_with_the_nearest_case(self, tmp_path):
        run = make(tmp_path, self.CASES)
        found = {pair.candidate: pair.baseline for pair in pairs.within(run)}
        assert found == {
            self.fast.id: A.id,  # of its framework and mode
            B.id: A.id,  # compiles as little as it does
            self.faster.id: B.id,
            self.compiled.id: A.id,  # the first that compiles: the first of all is left
            self.xla.id: self.compiled.id,
            self.jit.id: self.compiled.id,
            self.guest.id: A.id,
            self.other.id: self.compiled.id,
        }

    @pytest.mark.parametrize(
        ("preset", "word", "differs"),
        [("equal", "INCOMPARABLE", ["threads 7, 2 in the baseline"]), ("default", "SLOWER", [])],
    )
    def test_unlike_conditions_are_judged_all_the_same_where_nothing_was_set(self, tmp_path, preset, word, differs):
        both = [dataclasses.replace(one, preset=preset) for one in (A, B)]
        (pair,) = pairs.within(make(tmp_path, both, base_ns=10**6, unlike={"threads": 7}))
        assert (pair.word, pair.differs) == (word, differs)


class TestEnvironment:
    def test_a_worker_is_given_threads_only_where_they_are_pinned_or_asked_for(self):
        default = dataclasses.replace(A, preset="default")
        cases = (A, default, dataclasses.replace(default, threads=1))
        assert [WorkerSettings(2, 60.0).pinned_threads(one) for one in cases] == [2, None, 1]
