"""The shell of the speed workflow's steps, run as a runner would, without a network."""

import contextlib
import json
import re
import shutil
import subprocess

import pytest
from revisions import PASSES, SPINNING, revision
from runs import arms, make
from workflows import MARK, Runner, default

from bench import UsageError
from bench.cases.arm import Ab
from bench.cases.parse import parse_percent
from bench.commands.cli import main


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


class TestAsking:
    @pytest.mark.parametrize("word", ["warn", "fail"])
    def test_it_warns_or_fails(self, runner, word):
        assert runner("Check the inputs", ON_SLOWER=word, MARGIN="2").returncode == 0

    def test_another_word_ends_it_before_anything_is_measured(self, runner):
        done = runner("Check the inputs", ON_SLOWER="maybe", MARGIN="2")
        assert (done.returncode, done.stdout) == (2, "::error::on_slower: expected warn or fail, found 'maybe'\n")

    @pytest.mark.parametrize(
        ("margin", "good"),
        [("2", True), ("0.5", True), ("1.5%", True), ("0", False), ("100", False), ("-1", False), ("two", False)],
    )
    def test_a_margin_that_compare_would_refuse_ends_it_too(self, runner, margin, good):
        done = runner("Check the inputs", ON_SLOWER="warn", MARGIN=margin)
        said = f"::error::margin: expected percent, above 0 and below 100, found '{margin}'\n"
        assert (done.returncode, done.stdout) == ((0, "") if good else (2, said))
        with contextlib.nullcontext() if good else pytest.raises(UsageError, match="expected percent"):
            parse_percent("--margin", margin)

    def test_the_base_is_the_one_that_is_named(self, runner):
        assert runner("Find the base", BASE="v1.2").returncode == 0
        assert runner.outputs.read_text() == "ref=v1.2\n"

    def test_unasked_the_base_is_the_parent_of_head(self, runner):
        parent = subprocess.run(
            ("git", "-C", str(runner.folder / "head"), "rev-parse", "HEAD"), capture_output=True, text=True
        ).stdout
        git = ("git", "-C", str(runner.folder / "head"), "-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "more"], check=True)
        assert runner("Find the base", BASE="").returncode == 0
        assert runner.outputs.read_text() == f"ref={parent}"

    def test_a_head_without_a_parent_is_no_silent_default(self, runner):
        assert runner("Find the base", BASE="").returncode != 0
        assert not runner.outputs.exists()


class TestMeasuring:
    def measure(self, runner, code, arguments="--rounds 2"):
        runner.tool("head/.venv/bin/alexnet-bench", f'printf "%s\\n" "$@" > said; echo "why not" >&2; exit {code}')
        return runner("Measure", AB="net=base/a.py:build,head/a.py:build", ARGUMENTS=arguments)

    def test_both_sides_are_measured_in_one_run(self, runner):
        assert self.measure(runner, 0).returncode == 0
        assert (runner.folder / "said").read_text().split() == [
            *("run", "--ab", "net=base/a.py:build,head/a.py:build", "--rounds", "2"),
            *("--name", "speed", "--out", str(runner.out)),
        ]

    def test_options_are_words_and_no_shell(self, runner):
        self.measure(runner, 0, "--variant * $(touch\tmade) ;")
        assert (runner.folder / "said").read_text().split("\n")[3:7] == ["--variant", "*", "$(touch", "made)"]
        assert not (runner.folder / "made").exists()

    def test_options_may_stand_on_several_lines(self, runner):
        assert self.measure(runner, 0, "--rounds 2\n  --batch 4\n\n--seed 1\n").returncode == 0
        said = (runner.folder / "said").read_text().split()
        assert said[3:-4] == ["--rounds", "2", "--batch", "4", "--seed", "1"]

    def test_without_options_there_are_none(self, runner):
        assert self.measure(runner, 0, "").returncode == 0
        assert (runner.folder / "said").read_text().split()[3] == "--name"

    @pytest.mark.parametrize("code", [1, 4])
    def test_a_verdict_goes_on_to_be_judged(self, runner, code):
        assert self.measure(runner, code).returncode == 0

    @pytest.mark.parametrize("code", [2, 130])
    def test_whatever_else_fails_and_the_summary_says_why(self, runner, code):
        assert self.measure(runner, code).returncode == code
        assert runner.summary.read_text() == f"`alexnet-bench run` ended with exit code {code}:\n```\nwhy not\n```\n"

    def test_what_an_earlier_job_left_is_not_judged(self, runner):
        (runner.out / "old-speed").mkdir()
        self.measure(runner, 0)
        assert [path.name for path in runner.out.iterdir()] == ["run.log"]


def judged(runner, margin="2", **settings):
    """The Judge step on a Run whose durations are made up."""
    ab = Ab("layout", ("nchw", "nchw"))
    make(runner.out / "20260101T000000Z-speed", arms(ab=ab), ab=ab, noise_sd=0.001, **{"rounds": 10, **settings})
    return runner("Judge", MARGIN=margin)


class TestJudging:
    @pytest.mark.parametrize(
        ("settings", "code", "word"),
        [
            ({"slower": 1.5}, 1, "1 SLOWER"),
            ({"slower": 1.5, "margin": "60"}, 0, "1 SAME"),
            ({"rounds": 2}, 3, "1 INCONCLUSIVE"),
            ({"unlike": {"tf32": True}}, 4, "1 INCOMPARABLE"),
        ],
    )
    def test_every_verdict_is_handed_on_and_written_down(self, runner, settings, code, word):
        done = judged(runner, **settings)
        assert done.returncode == 0, done.stderr
        assert runner.outputs.read_text() == f"code={code}\n"
        text = runner.summary.read_text()
        assert text == (runner.out / "comment.md").read_text()
        assert text.startswith(f"{MARK}\n**{word}**: ")
        assert f"base is {runner.commit('base')}, head is {runner.commit('head')}." in text
        assert "(https://github.com/me/mine/actions/runs/7)" in text

    def test_without_a_run_it_fails_and_says_so(self, runner):
        assert runner("Judge", MARGIN="2").returncode == 2
        assert runner.summary.read_text() == "`alexnet-bench compare` ended with exit code 2: see the log.\n"
        assert not runner.outputs.exists()


def test_the_report_judges_by_the_margin_that_the_table_has(runner):
    made = runner.out / "20260101T000000Z-speed"
    made.mkdir()
    runner.tool("head/.venv/bin/alexnet-bench", 'printf "%s\\n" "$@" > said')
    assert runner("Report", MARGIN="3").returncode == 0
    said = (runner.folder / "said").read_text().split()
    assert said == ["report", str(made), "--margin", "3", "--output", str(runner.out / "report.html")]
    main.commands["report"].make_context("report", said[1:])


SEE = "the table is in the summary of this job"


class TestSaying:
    @pytest.mark.parametrize("word", ["warn", "fail"])
    @pytest.mark.parametrize(
        ("code", "said"),
        [("0", "no case is SLOWER"), ("3", "no case is SLOWER, but not all are decided")],
    )
    def test_what_is_not_slower_passes(self, runner, code, said, word):
        done = runner("Announce the verdict", CODE=code, ON_SLOWER=word)
        assert (done.returncode, done.stdout) == (0, f"::notice title=speed::{said}; {SEE}\n")

    @pytest.mark.parametrize(("word", "level", "code"), [("warn", "warning", 0), ("fail", "error", 1)])
    @pytest.mark.parametrize(("verdict", "said"), [("1", "a case is SLOWER"), ("4", "a case could not be compared")])
    def test_slower_and_incomparable_warn_or_fail(self, runner, verdict, said, word, level, code):
        done = runner("Announce the verdict", CODE=verdict, ON_SLOWER=word)
        assert (done.returncode, done.stdout) == (code, f"::{level} title=speed::{said}; {SEE}\n")


THEIRS = [
    {"id": 40, "user": {"login": "somebody"}, "body": f"{MARK} is what I would change"},
    {"id": 41, "user": {"login": "github-actions[bot]"}, "body": "something else"},
]
OURS = {"id": 42, "user": {"login": "github-actions[bot]"}, "body": f"{MARK}\n**1 SAME**"}


@pytest.mark.skipif(not shutil.which("jq"), reason="jq stands in for gh's own")
class TestCommenting:
    GH = """echo "$@" >> asked; [[ "$*" != *--paginate* ]] || jq -r "${@: -1}" comments.json"""

    def comment(self, runner, there):
        """What gh was asked to write, where these comments are there."""
        runner.tool("bin/gh", self.GH)
        (runner.folder / "comments.json").write_text(json.dumps(there))
        asked = {"NUMBER": "5", "COMMIT": "0a1b2c3", "GH_TOKEN": "t"}
        done = runner("Create or update the comment", "comment", **asked)
        assert done.returncode == 0, done.stderr
        look, write = (runner.folder / "asked").read_text().splitlines()
        assert look.startswith("api --paginate repos/me/mine/issues/5/comments --jq ")
        return write

    def test_the_first_time_it_makes_one(self, runner):
        assert self.comment(runner, THEIRS) == "api repos/me/mine/issues/5/comments -F body=@speed/comment.md"

    def test_from_then_on_it_changes_its_own(self, runner):
        written = self.comment(runner, [*THEIRS, OURS])
        assert written == "api --method PATCH repos/me/mine/issues/comments/42 -F body=@speed/comment.md"

    def test_it_is_the_table_of_the_artifact(self, runner):
        body = runner.folder / "speed" / "comment.md"
        body.parent.mkdir()
        body.write_text(OURS["body"])
        self.comment(runner, [])
        assert body.read_text() == OURS["body"]

    def test_without_a_table_no_earlier_verdict_is_left_standing(self, runner):
        self.comment(runner, [OURS])
        where = "https://github.com/me/mine/actions/runs/7"
        said = f"{MARK}\n**Not measured** for 0a1b2c3: see [the job]({where}).\n"
        assert (runner.folder / "speed" / "comment.md").read_text() == said


@pytest.mark.slow
def test_two_checkouts_are_measured_and_judged_for_real(runner):
    for side, ms in (("base", 4), ("head", 16)):
        revision(runner.folder / side, old=PASSES, new=SPINNING.replace("4_000_000", f"{ms}_000_000"))
    asked = (
        "--framework null --variant half_width --size 67 --batch 2 --pass forward --no-gate --burn-in 2 --iterations 40"
    )
    done = runner("Measure", AB=default("AB"), ARGUMENTS=asked)
    assert done.returncode == 0, done.stdout
    assert runner("Judge", MARGIN="2").returncode == 0
    assert runner.outputs.read_text() == "code=1\n"
    summary = runner.summary.read_text()
    assert summary.startswith(f"{MARK}\n**1 SLOWER**: ")
    assert re.search(r"B \(impls [0-9a-f]{8}\) over A \(impls [0-9a-f]{8}\)", summary)
    assert runner("Report", MARGIN="2").returncode == 0
    assert (runner.out / "report.html").stat().st_size > 10_000
    assert [runner("Announce the verdict", CODE="1", ON_SLOWER=word).returncode for word in ("warn", "fail")] == [0, 1]
