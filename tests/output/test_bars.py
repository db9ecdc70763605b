"""Progress of a Run: a line per Round drawn in its place on a terminal, lines elsewhere."""

import contextlib
import dataclasses
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest
from command import NULL, SMALL
from paths import ROOT
from runs import A, B
from screen import Screen

from bench.cases.protocol import CLASSIC, Protocol
from bench.controller.budget import RoundPlan
from bench.output import bars
from bench.output.bars import Bars, progress_of
from bench.output.live_line import LiveLine
from bench.output.progress import Progress
from bench.record.events import Place

MS = 10**6
LARGE = dataclasses.replace(A, batch=32)
ROUNDS, PLAN = Protocol(), RoundPlan(10, 5, 150.0)


class Clock:
    """Seconds as a test sets them."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def screen(monkeypatch):
    made = Screen()
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((made.width, 24)))
    return made


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shown(screen, clock):
    """Make the bars of these Cases."""
    with contextlib.ExitStack() as stack:
        yield lambda cases=(A, B), protocol=ROUNDS: stack.enter_context(Bars(cases, protocol, LiveLine(screen), clock))


def start(shown, place, cases=(A, B), plan=PLAN, left=5):
    """A Round until its turns begin."""
    for case in cases:
        shown.on_start(case, place)
    if not place.round:
        shown.on_reference(cases[0])
    for case in cases:
        shown.on_burn_in(case, place)
    if plan:
        shown.on_plan(place, plan, left)


def turns(shown, clock, place, cases=(A, B), n=1, length=2):
    for _ in range(n):
        for case in cases:
            clock.now += 1
            shown.on_turn(case, place, [100 * MS] * length)


class TestALinePerRound:
    def test_it_says_what_happens_which_share_is_done_and_the_time_left(self, shown, screen, clock):
        bar, rows = shown(), []
        screen.width = 100
        bar.on_start(A, Place(0, 0, 0))
        rows += screen.rows
        bar.on_burn_in(A, Place(0, 0, 0))
        bar.on_burn_in(B, Place(0, 0, 0))
        rows += screen.rows
        clock.now += 30
        bar.on_plan(Place(0, 0, 0), PLAN, 5)
        turns(bar, clock, Place(0, 0, 0), n=2)
        assert [*rows, *screen.rows] == [
            "round 1/5 [------------------------------]   0%  start, proof",
            "round 1/5 [------------------------------]   0%  burn-in of tensorflow-graph forward",
            "round 1/5 [############------------------]  40%  ~2 min left   100.0 ms tensorflow-graph forward",
        ]

    def test_a_round_that_is_over_keeps_its_line_with_its_time(self, screen, clock):
        with Bars((A, B), ROUNDS, LiveLine(screen), clock) as bar:
            for round_ in (0, 1):
                start(bar, Place(0, round_, 0), left=5 - round_, plan=RoundPlan(10, 5 - round_, 60.0))
                turns(bar, clock, Place(0, round_, 0), n=5)
            assert screen.rows == [
                "round 1/5 [##########] 100%  10 s",
                "round 2/5 [##########] 100%  ~50 s left    100.0 ms tensorflow-graph forward",
            ]
        assert screen.rows[1] == "round 2/5 [##########] 100%  10 s"
        assert (screen.line, screen.offset) == (2, 0)  # what follows has a line of its own

    def test_turns_are_drawn_at_most_a_few_times_per_second_and_the_last_one_always(self, shown, screen, clock):
        bar = shown()
        start(bar, Place(0, 0, 0))
        drawn = len(screen.written)
        for _ in range(19):
            clock.now += bars.DRAWN_S / 10
            bar.on_turn(A, Place(0, 0, 0), [MS])
        assert len(screen.written) == drawn + 1
        bar.on_turn(A, Place(0, 0, 0), [MS])
        assert "100%" in screen.rows[0]

    def test_a_turn_without_samples_changes_nothing(self, shown, screen, clock):
        """The last one of a Round that took too long is only read."""
        bar = shown()
        start(bar, Place(0, 0, 0))
        turns(bar, clock, Place(0, 0, 0))
        before = screen.rows
        clock.now += 1
        bar.on_turn(A, Place(0, 0, 0), [])
        assert screen.rows == before

    def test_a_repeated_round_has_its_reason_above_and_a_bar_of_its_own(self, shown, screen, clock):
        bar = shown()
        start(bar, Place(0, 0, 0))
        turns(bar, clock, Place(0, 0, 0))
        bar.on_disturbed(Place(0, 0, 0), "another program ran")
        start(bar, Place(0, 0, 1))
        assert screen.rows == [
            "round 1/5: another program ran; the Round is repeated",
            "round 1/5 again [----------]   0%  ~2 min left   turns",
        ]

    def test_fewer_rounds_than_asked_for_are_said_once(self, shown, screen):
        bar = shown()
        for round_ in (0, 1):
            start(bar, Place(0, round_, 0), plan=RoundPlan(8, 4 - round_, 100.0), left=5 - round_)
        assert screen.rows[0] == "round 1/5: time for 4 Rounds only"
        assert [row[:9] for row in screen.rows[1:]] == ["round 1/4", "round 2/4"]

    def test_groups_are_counted_and_have_each_its_rounds(self, shown, screen):
        bar = shown((A, LARGE))
        start(bar, Place(0, 3, 0), (A,), RoundPlan(10, 1, 10.0), 2)
        start(bar, Place(1, 0, 0), (LARGE,))
        assert [row[:22] for row in screen.rows[1:]] == ["group 1/2, round 4/4 [", "group 2/2, round 1/5 ["]

    def test_groups_with_shared_workers_share_the_line_of_a_round(self, shown, screen, clock):
        bar = shown((A, LARGE), Protocol(shared_workers=True))
        start(bar, Place(0, 0, 0), (A,))
        turns(bar, clock, Place(0, 0, 0), (A,), n=5)
        assert " 20%" in screen.rows[0]  # batch 8 of 8 and 32
        start(bar, Place(1, 0, 0), (LARGE,))
        turns(bar, clock, Place(1, 0, 0), (LARGE,), n=5)
        (row,) = screen.rows
        assert row.startswith("round 1/5 ")
        assert "100%" in row

    def test_the_classic_protocol_keeps_its_lines_above_the_bar(self, shown, screen, clock):
        bar = shown(protocol=CLASSIC)
        bar.on_start(A, Place(0, 0, 0))
        bar.on_burn_in(A, Place(0, 0, 0))
        turns(bar, clock, Place(0, 0, 0), (A,), n=10, length=10)
        rows = screen.rows
        assert len(rows) == 11
        assert all("torch forward step" in row for row in rows[:10])
        assert rows[10].startswith("round 1/1 [#####-----]  50%  ~10 s left")


class TestTimeLeft:
    def left(self, screen):
        return screen.rows[-1].partition("%  ")[2].partition(" left")[0]

    @pytest.mark.parametrize(
        ("seconds", "text"), [(-5, "~10 s"), (41, "~50 s"), (100, "~2 min"), (3600, "~60 min"), (9000, "~2.5 h")]
    )
    def test_it_is_the_plans_and_only_as_exact_as_known(self, shown, screen, seconds, text):
        start(shown(), Place(0, 0, 0), plan=RoundPlan(10, 5, seconds))
        assert self.left(screen) == text

    def test_it_runs_down_while_the_next_round_starts(self, shown, screen, clock):
        bar = shown()
        start(bar, Place(0, 0, 0))
        clock.now += 90
        bar.on_start(A, Place(0, 1, 0))
        assert self.left(screen) == "~60 s"

    def test_of_several_groups_it_is_in_proportion_to_what_is_measured(self, shown, screen, clock):
        bar = shown((A, LARGE))
        for round_ in range(5):
            start(bar, Place(0, round_, 0), (A,), RoundPlan(10, 5 - round_, 1.0), 5 - round_)
            turns(bar, clock, Place(0, round_, 0), (A,), n=5)
        assert self.left(screen) == "~2 min"  # 25 s for batch 8, so 100 s for batch 32

    def test_what_an_earlier_session_measured_takes_no_time(self, shown, screen, clock):
        bar = shown((A, LARGE), Protocol(rounds=2))
        start(bar, Place(1, 1, 0), (LARGE,), RoundPlan(4, 1, 1.0), 1)
        clock.now += 30
        turns(bar, clock, Place(1, 1, 0), (LARGE,))
        assert self.left(screen) == "~40 s"

    def test_it_is_at_most_max_time(self, shown, screen):
        bar = shown(protocol=Protocol(max_time_s=60.0))
        start(bar, Place(0, 0, 0))
        assert self.left(screen) == "~60 s"

    def test_with_a_target_it_is_a_minimum(self, shown, screen):
        start(shown(protocol=Protocol(target_ci=0.02)), Place(0, 0, 0))
        assert self.left(screen) == ">2 min"


class TestTheTerminal:
    def test_a_narrow_one_gets_the_numbers_without_a_bar_and_no_second_row(self, shown, screen, clock):
        screen.width = 40
        bar = shown()
        start(bar, Place(0, 0, 0))
        turns(bar, clock, Place(0, 0, 0), n=2)
        assert screen.rows == ["round 1/5  40%  ~2 min left   100.0 m"]

    @pytest.mark.parametrize(("before", "after"), [(80, 30), (80, 13), (40, 100), (100, 99)])
    def test_resizing_leaves_nothing_of_the_line_before(self, shown, screen, clock, before, after):
        screen.width = before
        bar = shown()
        print("above", file=screen)
        start(bar, Place(0, 0, 0))
        turns(bar, clock, Place(0, 0, 0), n=1)
        screen.width = after
        turns(bar, clock, Place(0, 0, 0), n=1)
        above, row = screen.rows
        assert above == "above"
        assert row.startswith("round 1/5")

    def test_a_warning_in_between_is_whole_and_above_the_bar(self, shown, screen):
        bar, warning = shown(), "reference.py:1: RuntimeWarning: overflow"
        start(bar, Place(0, 0, 0))
        print(warning, file=sys.stderr)  # as Python's warnings
        assert screen.rows == [warning]
        bar.on_turn(A, Place(0, 0, 0), [MS])  # at once
        assert screen.rows[0] == warning
        assert screen.rows[1].startswith("round 1/5")

    def test_text_without_its_line_break_is_not_drawn_over(self, shown, screen, clock):
        bar = shown()
        start(bar, Place(0, 0, 0))
        print("half", end="", file=sys.stderr)
        turns(bar, clock, Place(0, 0, 0))
        assert [row[:9] for row in screen.rows] == ["half", "round 1/5"]

    def test_stderr_is_as_before_at_the_end(self, screen):
        before = sys.stderr
        with Bars([A], ROUNDS, LiveLine(screen)) as bar:
            assert sys.stderr is bar.line
        assert sys.stderr is before

    def test_cells_of_wide_signs_are_counted(self, screen):
        screen.width = 12
        LiveLine(screen).draw("水" * 10)
        assert screen.rows == ["水水水水"]

    def test_what_the_terminal_shows_of_ctrl_c_is_drawn_over(self, screen):
        screen.width, line = 40, LiveLine(screen)
        for text in ("a" * 99, "b" * 99):
            line.draw(text)
            screen.write("^C")
        assert screen.rows == ["b" * 37 + "^C"]

    @pytest.mark.parametrize("size", [0, OSError("gone")])
    def test_one_without_a_size_has_80_columns(self, screen, monkeypatch, size):
        def get(fd):
            if size:
                raise size
            return os.terminal_size((0, 0))

        monkeypatch.setattr(os, "get_terminal_size", get)
        assert LiveLine(screen).columns == 77

    def test_one_that_is_gone_ends_no_run(self, shown, screen, clock, monkeypatch):
        def gone(text):
            raise OSError("gone")

        bar = shown()
        start(bar, Place(0, 0, 0))
        monkeypatch.setattr(screen, "write", gone)
        bar.on_failed(A, "why")
        turns(bar, clock, Place(0, 0, 0), n=5)


class TestWhichOne:
    @pytest.mark.parametrize(
        ("terminal", "term", "kind"),
        [(True, "xterm", Bars), (True, "dumb", Progress), (True, None, Progress), (False, "xterm", Progress)],
    )
    def test_bars_need_a_terminal_that_can_draw_again(self, screen, monkeypatch, terminal, term, kind):
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(screen, "isatty", lambda: terminal)
        monkeypatch.setenv("TERM", term) if term else monkeypatch.delenv("TERM", raising=False)
        assert type(progress_of([A], Protocol())) is kind

    def test_elsewhere_there_are_lines(self, capsys, clock):
        with Progress(Protocol(), 1) as lines:
            start(lines, Place(0, 0, 0), plan=RoundPlan(8, 4, 100.0))
            turns(lines, clock, Place(0, 0, 0))
            lines.on_turn(A, Place(0, 0, 0), [])
            start(lines, Place(0, 1, 0), left=4, plan=RoundPlan(8, 4, 90.0))
        assert capsys.readouterr().err.splitlines() == [
            "round 1/5: torch-eager: start, proof",
            "round 1/5: tensorflow-graph: start, proof",
            "owt: reference values for the proof",
            "round 1/5: taking turns, 8 iterations per case; about 2 minutes to its last Round's end "
            "(time for 4 Rounds only)",
            "round 2/5: taking turns, 8 iterations per case; about 2 minutes to its last Round's end",
        ]

    def test_lines_of_several_groups_name_theirs(self, capsys):
        with Progress(Protocol(), 2) as lines:
            start(lines, Place(1, 1, 0), plan=RoundPlan(8, 4, 90.0), left=4)
        assert capsys.readouterr().err.startswith("group 2/2, round 2/5: taking turns, 8 iterations per case")

    def test_a_round_of_shared_workers_has_a_line_for_all_groups(self, capsys, clock):
        with Progress(dataclasses.replace(ROUNDS, shared_workers=True), 1) as lines:
            for group in range(3):
                start(lines, Place(group, 1, 0))
        assert capsys.readouterr().err == "round 2/5: taking turns\n"


@pytest.mark.process
class TestInATerminal:
    """A command in a pseudo-terminal of 40 columns."""

    def run(self, folder, *words, interrupt_at=""):
        """What its rows show at the end, and its exit code; Ctrl-C is pressed once a row has that text."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 40))
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", "run", "--out", folder, *words],
            cwd=ROOT,
            env={**os.environ, "TERM": "xterm"},
            stdin=theirs,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        screen, pressed = Screen(40), False
        while True:
            try:
                text = os.read(ours, 1 << 16).decode()
            except OSError:  # Linux: closed at the other end
                break
            screen.write(text)
            if interrupt_at and interrupt_at in "\n".join(screen.rows) and not pressed:
                pressed = True
                process.send_signal(signal.SIGINT)
        os.close(ours)
        return screen.rows, process.wait()

    def test_each_round_is_one_row(self, tmp_path):
        rows, code = self.run(tmp_path, *NULL, "--pass", "forward")
        assert code == 0
        assert [row.partition("%")[0] for row in rows] == ["round 1/2 100", "round 2/2 100"]

    def test_ctrl_c_leaves_the_bar_and_its_message(self, tmp_path):
        words = (*SMALL, "--rounds", "2", "--no-gate", "--burn-in", "2", "--env", "NULL_NET=spin=100")
        rows, code = self.run(tmp_path, *words, "--iterations", "500", interrupt_at="left")
        assert code == 130
        assert rows[0].startswith("round 1/2  ")
        assert rows[1] == "alexnet-bench: interrupted: the results"
