"""The shell of the speed workflow's steps, run as a runner would, without a network."""

import contextlib
import json
import re
import shutil

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


class TestInputs:
    @pytest.mark.parametrize("word", ["warn", "fail"])
    def test_warn_and_fail_are_accepted(self, runner, word):
        assert runner("Check the inputs", ON_SLOWER=word, MARGIN="2").returncode == 0

    def test_another_word_than_warn_or_fail_stops_before_measuring(self, runner):
        done = runner("Check the inputs", ON_SLOWER="maybe", MARGIN="2")
        assert (done.returncode, done.stdout) == (2, "::error::on_slower: expected warn or fail, found 'maybe'\n")

    @pytest.mark.parametrize(
        ("margin", "good"),
        [("2", True), ("0.5", True), ("1.5%", True), ("0", False), ("100", False), ("-1", False), ("two", False)],
    )
    def test_a_margin_that_compare_refuses_stops_before_measuring(self, runner, margin, good):
        done = runner("Check the inputs", ON_SLOWER="warn", MARGIN=margin)
        message = f"::error::margin: expected percent, above 0 and below 100, found '{margin}'\n"
        assert (done.returncode, done.stdout) == ((0, "") if good else (2, message))
        with contextlib.nullcontext() if good else pytest.raises(UsageError, match="expected percent"):
            parse_percent("--margin", margin)

    def test_the_base_is_the_input(self, runner):
        assert runner("Find the base", BASE="v1.2").returncode == 0
        assert runner.outputs.read_text() == "ref=v1.2\n"

    def test_without_an_input_the_base_is_the_parent_of_head(self, runner):
        parent = runner.git("head", "rev-parse", "HEAD")
        runner.git("head", "commit", "-q", "--allow-empty", "-m", "more")
        assert runner("Find the base", BASE="").returncode == 0
        assert runner.outputs.read_text() == f"ref={parent}\n"

    def test_a_head_without_a_parent_is_an_error(self, runner):
        assert runner("Find the base", BASE="").returncode != 0
        assert not runner.outputs.exists()


class TestMeasuring:
    def measure(self, runner, code, arguments="--rounds 2"):
        runner.tool("base/.venv/bin/alexnet-bench", f'printf "%s\\n" "$@" > words; echo "why not" >&2; exit {code}')
        return runner("Measure", AB="net=base/a.py:build,head/a.py:build", ARGUMENTS=arguments)

    def test_both_sides_are_measured_in_one_run(self, runner):
        assert self.measure(runner, 0).returncode == 0
        assert (runner.folder / "words").read_text().split() == [
            *("run", "--ab", "net=base/a.py:build,head/a.py:build", "--rounds", "2"),
            *("--name", "speed", "--out", str(runner.out)),
        ]

    def test_arguments_are_split_into_words_and_not_executed(self, runner):
        self.measure(runner, 0, "--variant * $(touch\tmade) ;")
        assert (runner.folder / "words").read_text().split("\n")[3:7] == ["--variant", "*", "$(touch", "made)"]
        assert not (runner.folder / "made").exists()

    def test_arguments_may_have_several_lines(self, runner):
        assert self.measure(runner, 0, "--rounds 2\n  --batch 4\n\n--seed 1\n").returncode == 0
        words = (runner.folder / "words").read_text().split()
        assert words[3:-4] == ["--rounds", "2", "--batch", "4", "--seed", "1"]

    def test_empty_arguments_add_no_option(self, runner):
        assert self.measure(runner, 0, "").returncode == 0
        assert (runner.folder / "words").read_text().split()[3] == "--name"

    @pytest.mark.parametrize("code", [1, 4])
    def test_exit_codes_of_a_verdict_continue_to_the_judge_step(self, runner, code):
        assert self.measure(runner, code).returncode == 0

    @pytest.mark.parametrize("code", [2, 130])
    def test_other_exit_codes_fail_with_the_reason_in_the_summary(self, runner, code):
        assert self.measure(runner, code).returncode == code
        assert runner.summary.read_text() == f"`alexnet-bench run` ended with exit code {code}:\n```\nwhy not\n```\n"

    def test_runs_of_an_earlier_job_are_removed(self, runner):
        (runner.out / "old-speed").mkdir()
        self.measure(runner, 0)
        assert [path.name for path in runner.out.iterdir()] == ["run.log"]


def judge(runner, margin="2", **settings):
    """The Judge step on a synthetic Run."""
    ab = Ab("layout", ("nchw", "nchw"))
    make(runner.out / "20260101T000000Z-speed", arms(ab=ab), ab=ab, noise_sd=0.001, **{"rounds": 10, **settings})
    return runner("Judge", "judge", MARGIN=margin)


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
    def test_every_verdict_is_an_output_and_in_the_summary(self, runner, settings, code, word):
        done = judge(runner, **settings)
        assert done.returncode == 0, done.stderr
        assert runner.outputs.read_text() == f"code={code}\n"
        text = runner.summary.read_text()
        assert text == (runner.verdict / "comment.md").read_text()
        assert text.startswith(f"{MARK}\n**{word}**: ")
        assert f"base is {runner.commit('base')}, head is {runner.commit('head')}." in text
        assert "(https://github.com/me/mine/actions/runs/7)" in text

    def test_a_change_of_the_harness_is_said_with_the_side_that_judged(self, runner):
        for side in ("base", "head"):
            for name in ("bench/a.py", "impls/b.py", "Makefile"):
                (path := runner.folder / side / name).parent.mkdir(exist_ok=True)
                path.write_text(side if name != "Makefile" else "same")
            runner.git(side, "add", "bench", "impls", "Makefile")
            runner.git(side, "commit", "-q", "-m", "files")
        assert judge(runner).returncode == 0
        said = "**The harness itself changed** (bench); measured and judged by that of base."
        assert said in runner.summary.read_text().splitlines()

    def test_without_a_change_of_the_harness_nothing_is_said_of_it(self, runner):
        judge(runner)
        assert "harness itself" not in runner.summary.read_text()

    def test_the_verdict_replaces_what_the_change_left_in_its_place(self, runner):
        runner.verdict.mkdir(parents=True)
        for name in ("comment.md", "table.md", "report.html"):
            (runner.verdict / name).write_text("planted")
            (runner.out / name).write_text("planted")
        judge(runner)
        assert "planted" not in (runner.verdict / "comment.md").read_text()
        assert not (runner.verdict / "report.html").exists()

    def test_judge_without_a_run_fails_with_a_summary(self, runner):
        assert runner("Judge", "judge", MARGIN="2").returncode == 2
        assert runner.summary.read_text() == "`alexnet-bench compare` ended with exit code 2: see the log.\n"
        assert not runner.outputs.exists()


def test_the_report_has_the_margin_of_the_table(runner):
    folder = runner.out / "20260101T000000Z-speed"
    folder.mkdir()
    runner.tool("base/.venv/bin/alexnet-bench", 'printf "%s\\n" "$@" > words')
    assert runner("Report", "judge", MARGIN="3").returncode == 0
    words = (runner.folder / "words").read_text().split()
    assert words == ["report", str(folder), "--margin", "3", "--output", str(runner.verdict / "report.html")]
    main.commands["report"].make_context("report", words[1:])


SEE = "the table is in the summary of this job"


class TestAnnouncing:
    @pytest.mark.parametrize("word", ["warn", "fail"])
    @pytest.mark.parametrize(
        ("code", "message"),
        [("0", "no case is SLOWER"), ("3", "no case is SLOWER, but not all are decided")],
    )
    def test_verdicts_other_than_slower_pass(self, runner, code, message, word):
        done = runner("Announce the verdict", "judge", CODE=code, ON_SLOWER=word)
        assert (done.returncode, done.stdout) == (0, f"::notice title=speed::{message}; {SEE}\n")

    @pytest.mark.parametrize(("word", "level", "code"), [("warn", "warning", 0), ("fail", "error", 1)])
    @pytest.mark.parametrize(("verdict", "message"), [("1", "a case is SLOWER"), ("4", "a case could not be compared")])
    def test_slower_and_incomparable_warn_or_fail(self, runner, verdict, message, word, level, code):
        done = runner("Announce the verdict", "judge", CODE=verdict, ON_SLOWER=word)
        assert (done.returncode, done.stdout) == (code, f"::{level} title=speed::{message}; {SEE}\n")


OTHER_COMMENTS = [
    {"id": 40, "user": {"login": "somebody"}, "body": f"{MARK} is what I would change"},
    {"id": 41, "user": {"login": "github-actions[bot]"}, "body": "something else"},
]
OUR_COMMENT = {"id": 42, "user": {"login": "github-actions[bot]"}, "body": f"{MARK}\n**1 SAME**"}


@pytest.mark.skipif(not shutil.which("jq"), reason="needs jq, in place of gh's own")
class TestCommenting:
    GH = """echo "$@" >> calls; [[ "$*" != *--paginate* ]] || jq -r "${@: -1}" comments.json"""

    def comment(self, runner, comments):
        """The call of gh that writes, given these existing comments."""
        runner.tool("bin/gh", self.GH)
        (runner.folder / "comments.json").write_text(json.dumps(comments))
        env = {"NUMBER": "5", "COMMIT": "0a1b2c3", "GH_TOKEN": "t"}
        done = runner("Create or update the comment", "comment", **env)
        assert done.returncode == 0, done.stderr
        look, write = (runner.folder / "calls").read_text().splitlines()
        assert look.startswith("api --paginate repos/me/mine/issues/5/comments --jq ")
        return write

    def test_the_first_push_creates_a_comment(self, runner):
        assert (
            self.comment(runner, OTHER_COMMENTS)
            == "api repos/me/mine/issues/5/comments -F body=@speed/verdict/comment.md"
        )

    def test_later_pushes_update_the_comment(self, runner):
        written = self.comment(runner, [*OTHER_COMMENTS, OUR_COMMENT])
        assert written == "api --method PATCH repos/me/mine/issues/comments/42 -F body=@speed/verdict/comment.md"

    def test_the_comment_is_the_table_of_the_artifact(self, runner):
        body = runner.folder / "speed" / "verdict" / "comment.md"
        body.parent.mkdir(parents=True)
        body.write_text(OUR_COMMENT["body"])
        self.comment(runner, [])
        assert body.read_text() == OUR_COMMENT["body"]

    def test_without_a_table_the_comment_replaces_an_earlier_verdict(self, runner):
        self.comment(runner, [OUR_COMMENT])
        where = "https://github.com/me/mine/actions/runs/7"
        message = f"{MARK}\n**Not measured** for 0a1b2c3: see [the job]({where}).\n"
        assert (runner.folder / "speed" / "verdict" / "comment.md").read_text() == message


@pytest.mark.slow
def test_two_checkouts_are_measured_and_judged_with_real_workers(runner):
    for side, ms in (("base", 4), ("head", 16)):
        revision(runner.folder / side, old=PASSES, new=SPINNING.replace("4_000_000", f"{ms}_000_000"))
    arguments = (
        "--framework null --variant half_width --size 67 --batch 2 --pass forward --no-gate --burn-in 2 --iterations 40"
    )
    done = runner("Measure", AB=default("AB"), ARGUMENTS=arguments)
    assert done.returncode == 0, done.stdout
    assert runner("Judge", "judge", MARGIN="2").returncode == 0
    assert runner.outputs.read_text() == "code=1\n"
    summary = runner.summary.read_text()
    assert summary.startswith(f"{MARK}\n**1 SLOWER**: ")
    assert re.search(r"B \(impls [0-9a-f]{8}\) over A \(impls [0-9a-f]{8}\)", summary)
    assert runner("Report", "judge", MARGIN="2").returncode == 0
    assert (runner.verdict / "report.html").stat().st_size > 10_000
    assert [
        runner("Announce the verdict", "judge", CODE="1", ON_SLOWER=word).returncode for word in ("warn", "fail")
    ] == [0, 1]
