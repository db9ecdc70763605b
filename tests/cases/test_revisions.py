"""Arms of two revisions: ``--ab impls=A,B`` times two packages impls under one harness."""

import dataclasses
import json

import pytest
from command import NULL
from paths import ROOT
from revisions import PASSES, SPINNING, revision
from runs import A, make

from bench import UsageError
from bench.cases import arm
from bench.controller.pool import preflight
from bench.controller.settings import WorkerSettings
from bench.output import verdicts
from bench.record import pairs
from bench.record.run import Run

RIGHT = "images, precision=self.precision).logits"


def null_arms(a, b):
    """The Arms' Cases, and the WorkerSettings of their Workers."""
    ab = arm.parse_ab(f"impls={a},{b}")
    case = dataclasses.replace(A, framework="null", mode="noop", layout="nhwc")
    return ab.cases([case]), WorkerSettings(1, 60.0, ab=ab)


class TestRevisions:
    """Two packages impls, one harness."""

    def test_a_checkout_and_its_impls_folder_are_the_same(self, tmp_path, monkeypatch):
        revision(tmp_path / "base")
        monkeypatch.chdir(tmp_path)
        folders = [arm.read_package(text).folder for text in ("base", "base/impls", str(tmp_path / "base"))]
        assert set(folders) == {tmp_path / "base" / "impls"}

    def test_each_arm_has_its_own_package_and_other_keys_leave_it_alone(self, tmp_path):
        a, b = (revision(tmp_path / name) for name in "ab")
        cases, conditions = null_arms(a, b)
        assert [conditions.package(case) for case in cases] == [a / "impls", b / "impls"]
        assert WorkerSettings(1, 60.0, ab=arm.Ab("threads", ("1", "2"))).package(cases[0]) is None

    def test_the_record_holds_what_the_packages_hold_and_not_where_they_are(self, tmp_path):
        a, b = revision(tmp_path / "a"), revision(tmp_path / "b", old="None", new="None  # new")
        recorded = arm.parse_ab(f"impls={a},{b}").recorded()
        assert recorded.key == "impls"
        assert recorded.values == (arm.package_hash(a / "impls"), arm.package_hash(b / "impls"))
        assert str(tmp_path) not in str(recorded)
        assert not recorded.identical
        assert [arm.describe_arm(recorded, label) for label in "AB"] == [f"impls {value}" for value in recorded.values]

    def test_two_folders_that_hold_the_same_make_an_aa(self, tmp_path):
        a, b = (revision(tmp_path / name) for name in "ab")
        (b / "impls" / "__pycache__").mkdir()
        assert arm.parse_ab(f"impls={a},{b}").identical

    @pytest.mark.parametrize("change", ["text", "name", "folder"])
    def test_a_file_of_another_text_name_or_folder_is_another_revision(self, tmp_path, change):
        folder = revision(tmp_path) / "impls"
        before = arm.package_hash(folder)
        if change == "text":
            (folder / "net.py").write_text("")
        elif change == "name":
            (folder / "net.py").rename(folder / "met.py")
        else:
            (folder / "more").mkdir()
            (folder / "more" / "net.py").write_text("")
        assert arm.package_hash(folder) != before

    def test_a_package_that_was_changed_since_is_not_timed(self, tmp_path):
        a = revision(tmp_path)
        cases, conditions = null_arms(a, a)
        then = arm.package_hash(a / "impls")
        (a / "impls" / "net.py").write_text("")
        with pytest.raises(UsageError) as error:
            conditions.package(cases[1])
        assert str(error.value) == (
            f"--ab impls: '{a}' changed after the Run began: expected {then}, found {arm.package_hash(a / 'impls')}; "
            "start a new Run and do not edit the folder meanwhile"
        )

    @pytest.mark.parametrize(
        ("file", "old", "new", "why"),
        [
            (
                "net.py",
                "    lrn: str",
                "    LRN: str",
                "failed in probe: Malformed: probe.how: Build has no field lrn;",
            ),
            ("net.py", "def resident_batches", "def batches_", "ImportError: cannot import name 'resident_batches'"),
            ("null_alexnet.py", "import Build", "import Built", "failed in configure: ImportError: cannot import name"),
            (
                "null_alexnet.py",
                "from impls.layers",
                "from impls.rows",
                "ModuleNotFoundError: No module named 'impls.rows",
            ),
            ("null_alexnet.py", "def configure", "def set_up", "failed in configure: AttributeError: module"),
        ],
    )
    def test_revision_that_this_harness_cannot_drive_is_one_line_that_names_the_arm(
        self, tmp_path, file, old, new, why
    ):
        cases, conditions = null_arms(revision(tmp_path, file, old, new), ROOT)
        with pytest.raises(UsageError) as error:
            preflight(cases, conditions)
        message = str(error.value)
        assert message.startswith(
            f"arm A (impls {arm.package_hash(tmp_path / 'impls')}) cannot run a Worker for null: "
        )
        assert why in message
        assert message.endswith("; choose a revision nearer to this one")
        assert "\n" not in message

    def test_a_framework_that_is_missing_is_no_fault_of_a_revision(self, tmp_path):
        cases, conditions = null_arms(revision(tmp_path, old="import numpy as np", new="import torch_of_2031"), ROOT)
        with pytest.raises(UsageError, match=r"framework 'null' cannot be imported: .*No module named 'torch_of_2031'"):
            preflight(cases, conditions)

    def test_arms_of_two_revisions_are_compared_and_the_title_says_which(self, tmp_path):
        ab = arm.parse_ab(f"impls={revision(tmp_path / 'base', old='None', new='None  # new')},{ROOT}")
        run = make(tmp_path / "run", ab.cases([A]), ab=ab, rounds=10, noise_sd=0.001, cycles=4)
        (pair,) = pairs.within(run)
        assert (pair.word, pair.baseline, pair.candidate) == ("SLOWER", f"{A.id}-A", f"{A.id}-B")
        old, new = (package.digest for package in ab.packages)
        assert verdicts.title(run, None) == f"run: B (impls {new}) over A (impls {old})"

    def test_arms_that_found_other_conditions_are_not_judged(self, tmp_path):
        """A revision that switches something on is faster for that, not by what it computes."""
        ab = arm.Ab("impls", (str(ROOT), str(ROOT)))
        run = make(tmp_path / "run", ab.cases([A]), ab=ab, rounds=10, unlike={"tf32": True})
        (pair,) = pairs.within(run)
        assert (pair.word, pair.reason) == ("INCOMPARABLE", "TF32 on, off in the baseline")

    def test_each_revision_is_timed_and_proven_by_itself(self, tmp_path, inline):
        """The older one is slower; the newer one is wrong, so its time is worth nothing."""
        base = revision(tmp_path / "base", old=PASSES, new=SPINNING)
        head = revision(tmp_path / "head", old=RIGHT, new=f"{RIGHT} * (1 + 1e-3 * (len(self.variant.layers) > 5))")
        done = inline("run", *NULL, "--rounds", "1", "--pass", "forward", "--ab", f"impls={base},{head / 'impls'}")
        assert done.code == 1, done.err
        a, b = Run(done.folder).rows()
        assert a["valid"]
        assert a["median_ms"] >= 4
        assert "disagrees with the float64 reference" in b["invalid_reason"]
        header = done.of("run")[0]
        assert header["ab"]["values"] == [arm.package_hash(base / "impls"), arm.package_hash(head / "impls")]
        assert str(tmp_path) not in json.dumps(header)
        assert f"{b['case_id']} is not valid" in done.out
