"""Stall and hidden of a fed step, from the slots of its Worker."""

import dataclasses

import pytest
import runs

from bench.output.page import chapter
from bench.record import events, feeding
from bench.record.feeding import feeding_of, feedings
from impls.preprocessing import PREPROCESSINGS

STEP = dataclasses.replace(runs.A, pass_="train_step")
LOAD, FED = (dataclasses.replace(STEP, pass_=name, loader=2) for name in ("load", "fed"))
PLACE = {"group": 0, "round": 0, "attempt": 0}


def made(folder, load, fed, **how):
    cases = [STEP, LOAD, FED]
    return runs.make(folder, cases, slower={LOAD.id: load, FED.id: fed}, base_ns=10**6, **how)


@pytest.mark.parametrize(
    ("load", "fed", "stall", "hidden", "bound"),
    [
        (0.5, 1.5, 1 / 3, 0.0, "train_step"),  # one follows the other
        (0.5, 1.0, 0.0, 1.0, "train_step"),  # all hidden behind the step
        (2.0, 2.0, 0.5, 1.0, "load"),  # the step is hidden behind the loader
        (0.5, 1.2, 1 / 6, 0.6, "train_step"),
        (2.0, 2.5, 0.6, 0.5, "load"),
    ],
)
def test_stall_is_the_wait_of_the_step_and_hidden_the_part_of_the_shorter_that_costs_nothing(
    tmp_path, load, fed, stall, hidden, bound
):
    (found,) = feedings(made(tmp_path, load, fed))
    assert found.stall.center == pytest.approx(stall, abs=2e-6)
    assert found.hidden.center == pytest.approx(hidden, abs=2e-6)
    assert found.stall.low <= found.stall.center <= found.stall.high
    assert found.bound == bound
    assert found.hidden_resolved
    assert (found.load_ms, found.step_ms) == pytest.approx((load, 1.0), rel=1e-5)


def test_an_interval_wider_than_all_that_can_be_hidden_is_not_resolved(tmp_path):
    (found,) = feedings(made(tmp_path, 0.01, 1.0, noise_sd=0.1))
    assert not found.hidden_resolved


def test_stall_is_that_of_the_rates_that_are_shown_and_below_100_percent(tmp_path):
    run = made(tmp_path, 0.5, 1.2, noise_sd=0.6, rounds=3)
    (found,) = feedings(run)
    assert found.stall.center == pytest.approx(1 - found.step_ms / found.fed_ms)
    assert found.stall.low < found.stall.center < found.stall.high < 1
    shorter = min(found.load_ms, found.step_ms)
    assert found.hidden.center == pytest.approx((found.load_ms + found.step_ms - found.fed_ms) / shorter)
    rows = {row["case_id"]: row for row in run.rows()}
    for case, ms in ((LOAD, found.load_ms), (STEP, found.step_ms), (FED, found.fed_ms)):
        assert rows[case.id]["center_ms"] == pytest.approx(ms)
    assert rows[FED.id]["stall"] == found.stall.center
    assert (rows[FED.id]["hidden"] is None) == (not found.hidden_resolved)


def test_a_loader_of_other_pixels_has_a_flag(tmp_path):
    proof = {"case_id": LOAD.id, "pictures": 32, "error": 67.4, "mean_error": 0.3, "picture": "a/b.jpg"}
    run = runs.changed(made(tmp_path, 0.5, 1.2), {"event": "loader_proof", **PLACE, **proof})
    flagged = {row["pass"] for row in run.rows() if "other_pixels" in row["flags"].split()}
    assert flagged == {"load", "fed"}
    assert "Other pixels: those of torch eager 2 workers are off by up to 67.4 of 255" in chapter.render_page([run])


def test_two_rounds_have_no_interval(tmp_path):
    (found,) = feedings(made(tmp_path, 0.5, 1.2, rounds=2))
    assert (found.stall.low, found.hidden_resolved) == (None, False)


def test_without_all_three_slots_nothing_is_derived(tmp_path):
    run = made(tmp_path, 0.5, 1.2)
    failed = runs.changed(run, {"event": "failed", "case_id": LOAD.id, "reason": "its loader is off"})
    assert feedings(failed) == []
    assert feeding_of(run, STEP) is None
    alone = runs.make(tmp_path / "alone", [LOAD, FED])
    assert feedings(alone) == []


def test_a_turn_of_a_loader_is_one_sample_its_mean_since_workers_deliver_in_bursts(tmp_path):
    def burst(**how):
        return {"event": "turn"} | runs.turn(LOAD, [9, 9, 1, 1, 1, 97], 10**12, lead=2, **PLACE | how)

    plain = runs.make(tmp_path / "plain", [LOAD], rounds=1)
    loaded = runs.changed(plain, burst(cycle=1, first_batch_ns=5_000_000, sample_cpu_s=0.4))
    assert loaded.samples(LOAD)[0][-1] == 25
    assert len(loaded.samples(LOAD)[0]) == len(plain.samples(LOAD)[0]) + 1
    assert feeding.first_batch_ms(loaded, LOAD) == 5.0
    more = runs.changed(loaded, burst(cycle=2, first_batch_ns=9_000_000, sample_cpu_s=0.4))
    assert feeding.first_batch_ms(more, LOAD) == 7.0
    assert feeding.cpu_ms_per_image(loaded, LOAD) == pytest.approx(1000 * 0.4 / (4 * LOAD.batch))
    others = runs.changed(runs.make(tmp_path / "others", [LOAD], rounds=1), burst(cycle=1))
    assert others.samples(LOAD)[0][-4:] == [1, 1, 1, 97]


def test_the_pixels_of_load_are_those_of_fed(tmp_path):
    run = made(tmp_path, 0.5, 1.2)
    proof = {"case_id": LOAD.id, "pictures": 32, "error": 0.9, "mean_error": 0.3, "picture": "a/b.jpg"}
    run = runs.changed(run, {"event": "loader_proof", **PLACE, **proof})
    assert [feeding.pixel_error(run, case) for case in (STEP, LOAD, FED)] == [None, 0.9, 0.9]


def test_a_header_keeps_what_was_loaded(tmp_path):
    facts = events.Pictures("f", "0" * 64, 20, 5, {"cannot be decoded": 1}, PREPROCESSINGS["caffe"], 90, 80.5, 4e3)
    import msgspec

    run = made(tmp_path, 0.5, 1.2, pictures=msgspec.to_builtins(facts))
    assert run.head.pictures == facts
