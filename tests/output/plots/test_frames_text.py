"""Frames: hostile or long text is drawn literally."""

import html
from xml.etree import ElementTree

import pytest
from csvs import LAYER, ROW, SAMPLE, csv

from bench.output.plots import frames, times

HOSTILE = [
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    r"$\frac{",
    "5 $ and $x^2$",
    r"C:\$new",
    "two\nlines\r\tand a tab",
    "\x1b[31mred\x1b[0m\x07",
    "evil\u202egnp.exe",
    "--><b>",
    "n" * 5000,
]


class TestHostileNames:
    @pytest.mark.parametrize("where", ["variant", "framework", "run_id"])
    def test_hostile_text_is_drawn_literally(self, tmp_path, where):
        """In a label, a legend, and (all rows alike but for it) below a label."""
        rows = frames.read([csv(tmp_path, *(ROW | {"device_name": HOSTILE[2], where: text} for text in HOSTILE))])
        figure = times.draw(rows, tmp_path / "times.svg")
        ElementTree.parse(tmp_path / "times.svg")
        said = html.unescape((tmp_path / "times.svg").read_text())
        for shown in (
            *("<script>alert(1)</script>", "=cmd|' /C calc'!A0", r" $\frac{", "5 $ and $x^2$", r"C:\$new"),
            *("two lines and a tab", "\N{REPLACEMENT CHARACTER}[31mred", "evil\N{REPLACEMENT CHARACTER}gnp.exe"),
            *("nnn…", "…nnn"),
        ):
            assert shown in said
        assert "n" * 50 not in said
        assert figure.get_figwidth() <= times.WIDEST

    def test_a_hostile_machine_or_pass_is_drawn_literally(self, tmp_path):
        rows = frames.read([csv(tmp_path, *(ROW | {"device_name": HOSTILE[3], "pass": text} for text in HOSTILE[2:4]))])
        times.draw(rows, tmp_path / "times.svg")
        assert (tmp_path / "times.svg").read_text().count("5 $ and $x^2$") >= 2

    def test_two_long_names_do_not_become_one(self, tmp_path):
        long = [f"{'n' * 3000}{middle}{'n' * 3000}" for middle in "ab"]
        assert frames.read([csv(tmp_path, *(ROW | {"variant": name} for name in long))])["variant"].nunique() == 2
        samples = [SAMPLE | {"case_id": name} for name in long]
        csv(tmp_path, *(ROW | {"case_id": name, "variant": name[3000]} for name in long))
        rows = frames.samples([csv(tmp_path, *samples, name="samples.csv")])
        assert (rows["case_id"].nunique(), rows["variant"].tolist()) == (2, ["a", "b"])

    def test_a_case_id_of_ours_is_never_cut(self, tmp_path):
        longest = "single_tower.conv1-tensorflow-xla-cuda-bf16-b1024-forward_backward-nhwc-native-default-s224"
        assert frames.read([csv(tmp_path, ROW | {"case_id": longest})])["case_id"].tolist() == [longest]

    def test_samples_and_profiles_are_cleaned_too(self, tmp_path):
        csv(tmp_path, ROW | {"framework": HOSTILE[2]})
        assert frames.samples([csv(tmp_path, SAMPLE, name="samples.csv")])["framework"].tolist() == [r"\$\frac{"]
        path = csv(tmp_path, LAYER | {"center_ms": 1, "layer": "a\x1bb"}, name="profile.csv")
        assert frames.profile(path)["layer"].tolist() == ["a\N{REPLACEMENT CHARACTER}b"]
