"""`run --loaders`: slots with loaders next to the training step, with the null Net, and its mistakes."""

import csv
import json

import pytest
from command import NULL, Command, Inline
from PIL import Image

from bench.pictures import flowers

LOADERS = (*NULL[: NULL.index("--rounds")], "--rounds", "3", "--iterations", "2", "--burn-in", "1", "--no-gate")


pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def module_command(tmp_path_factory):
    return lambda *args: Inline(tmp_path_factory.mktemp("run"))(*args)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "few"
    flowers.draw(folder, per_class=4)
    (folder / "daisy" / "text.jpg").write_text("no picture")
    (folder / "daisy" / "notes.txt").write_text("no picture")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 120)).save(folder / "roses" / "turned.jpg", exif=exif)
    Image.new("RGB", (90, 120)).save(folder / "roses" / "odd.webp")
    return folder


@pytest.fixture(scope="module")
def ran(tmp_path_factory, pictures):
    """With its plots, so in a process of its own."""
    return Command(tmp_path_factory.mktemp("run"))("run", *LOADERS, "--input", str(pictures), "--loaders", "0,2")


def rows_of(ran):
    with open(ran.folder / "summary.csv", newline="") as file:
        return {(row["pass"], row["loader"]): row for row in csv.DictReader(file)}


def test_each_loader_has_a_slot_alone_and_one_in_front_of_the_step(ran):
    assert ran.code == 0, ran.err
    rows = rows_of(ran)
    assert list(rows) == [("train_step", ""), ("load", "0"), ("fed", "0"), ("load", "2"), ("fed", "2")]
    assert all(row["valid"] == "True" for row in rows.values())
    fed, load = rows["fed", "2"], rows["load", "2"]
    assert 0 < float(load["pixel_error"]) <= 1.01
    assert float(load["first_batch_ms"]) > 0
    assert float(load["cpu_ms_per_image"]) > 0
    assert float(fed["stall_ci95_low"]) < float(fed["stall"]) < float(fed["stall_ci95_high"])
    assert not load["stall"]
    assert not load["peak_fraction"]
    assert rows["train_step", ""]["pixel_error"] == ""


def test_tables_and_plot_show_what_each_loader_costs(ran):
    assert "Loaders: alone, the step on a resident batch, and both" in ran.out
    assert "null noop 2 workers" in ran.out
    assert "from the page cache, not from a cold disk" in ran.out
    assert (ran.folder / "loaders.png").read_bytes().startswith(b"\x89PNG")


def test_pictures_that_not_every_loader_reads_alike_are_left_out_and_counted(ran):
    assert "Loaded: 20 pictures of few, median" in ran.err
    for why in (
        "1 picture (not readable)",
        "1 picture (turned as its EXIF orientation says)",
        "1 picture (WEBP, which not every loader reads)",
    ):
        assert f"left out: {why}" in ran.err
    (header,) = ran.of("run")
    facts = header["pictures"]
    assert (facts["count"], facts["classes"], facts["folder"]) == (20, 5, "few")
    assert facts["preprocessing"]["name"] == "torchvision"


def test_turns_of_a_loader_are_one_sample_each_after_its_lead(ran):
    turns = [turn for turn in ran.of("turn") if "-fed-loader2" in turn["case_id"]]
    assert {(turn["lead"], len(turn["ns"])) for turn in turns} == {(6, 10)}  # 4 samples per turn, whatever --iterations
    assert int(rows_of(ran)["fed", "2"]["iterations"]) == len(turns)
    assert all(turn["first_batch_ns"] > 0 and turn["sample_cpu_s"] >= 0 for turn in turns)
    proofs = ran.of("loader_proof")
    assert [(proof["round"], proof["pictures"]) for proof in proofs] == [(0, 16)] * 2


def test_a_report_has_them(ran, module_command):
    done = module_command("report", str(ran.folder))
    assert done.code == 0, done.err
    page = (ran.folder / "report.html").read_text()
    assert "What the step waits for them" in page
    assert 'id="run1-loaders-figure"' in page
    assert "PATH/few" in page


def test_the_run_goes_on_with_the_same_pictures_only(ran, pictures, module_command, tmp_path):
    lines = (ran.folder / "run.jsonl").read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if json.loads(line)["event"] == "round")
    cut = tmp_path / "cut"
    cut.mkdir()
    (cut / "run.jsonl").write_text("".join(lines[:last]))
    refused = module_command("run", "--resume", str(cut))
    assert refused.code == 2
    assert "--resume: the Run was made with --input PATH/few; expected the same folder" in refused.err
    other = tmp_path / "other"
    flowers.draw(other, per_class=3)
    refused = module_command("run", "--resume", str(cut), "--input", str(other))
    assert "the Run was made with 20 pictures, found 15 others; expected the same" in refused.err
    done = module_command("run", "--resume", str(cut), "--input", str(pictures))
    assert done.code == 0, done.err
    assert done.out.count("null noop 2 workers") >= 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--loaders", "x"), "--loaders: expected a whole number from 0 to 256, found 'x'"),
        (("--loaders", "2", "--input", "none"), "--input: expected a folder at 'none', found nothing; check the path"),
        (("--preprocessing", "caffe"), "--preprocessing: pictures are for loaders: pass --loaders 0,2 too"),
        (("--input", "flowers"), "--input: pictures, as of 'flowers', are for loaders: pass --loaders 0,2 too"),
        (("--loaders", "2", "--net", "a.py:f"), "--net: loaders feed our nets in alternating turns; leave it or"),
        (("--loaders", "2", "--protocol", "classic"), "--protocol classic: loaders feed our nets"),
        (("--loaders", "2", "--ab", "slowdown=0,5"), "--ab slowdown: a loader is not slowed down; expected 0,0"),
    ],
)
def test_a_mistake_is_one_line(module_command, words, message):
    done = module_command("run", *LOADERS, *words)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_folder_without_pictures_says_what_was_found(module_command, tmp_path):
    (tmp_path / "a").mkdir()
    done = module_command("run", *LOADERS, "--input", str(tmp_path), "--loaders", "0")
    assert done.code == 2
    assert "--input: expected pictures in" in done.err
    assert "found none" in done.err
    (tmp_path / "a" / "a.jpg").write_text("text")
    done = module_command("run", *LOADERS, "--input", str(tmp_path), "--loaders", "0")
    assert "found 1 file (not readable)" in done.err


def test_a_loader_of_other_pixels_is_not_timed_and_the_step_is(module_command, pictures):
    how = "--input", str(pictures), "--loaders", "0", "--rounds", "1", "--env", "NULL_NET=pixels=3"
    refused = module_command("run", *LOADERS, *how)
    assert refused.code == 1
    rows = rows_of(refused)
    assert {key: row["valid"] for key, row in rows.items()} == {
        ("train_step", ""): "True",
        ("load", "0"): "False",
        ("fed", "0"): "False",
    }
    assert "its loader is off by up to 3." in rows["load", "0"]["invalid_reason"]
    assert rows["fed", "0"]["invalid_reason"] == rows["load", "0"]["invalid_reason"]
    shown = module_command("run", *LOADERS, *how, "--preset", "default")
    assert shown.code == 0, shown.err
    row = rows_of(shown)["load", "0"]
    assert 2.5 < float(row["pixel_error"]) < 4
    assert "other_pixels" in row["flags"].split()


def test_turns_are_whole_bursts_of_all_workers(module_command, pictures):
    done = module_command("run", *LOADERS, "--input", str(pictures), "--loaders", "3", "--rounds", "1")
    turns = [turn for turn in done.of("turn") if "-load-loader3" in turn["case_id"]]
    assert {len(turn["ns"]) - turn["lead"] for turn in turns} == {6}  # at least 4 samples


def test_two_equal_sides_with_loaders_agree(module_command, pictures):
    done = module_command("run", *LOADERS, "--input", str(pictures), "--loaders", "1", "--ab", "slowdown=0,0", "--json")
    ratios = {each["case_id"]: each for each in json.loads(done.out)["ratios"]}
    assert len(ratios) == 3
    assert {each["pass"] for each in ratios.values()} == {"train_step", "load", "fed"}
    assert done.code in (0, 3), done.err
