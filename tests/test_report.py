"""`report`: what the page says, that no text of a file becomes an element of it, and that it needs nothing else."""

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT
from runs import AA, A, B, arms, make

from bench import UsageError, pairs, report
from bench.case import Case, grid
from bench.cli import main
from bench.page import figures, findings, glossary, svg, template
from bench.plots import drawing, pictures
from bench.profile import RULES
from bench.protocol import CLASSIC, Protocol
from bench.results import Run
from impls.variants import named

REFERENCE = ROOT / "results/reference"
HOSTILE = (
    "<script>document['title']='ran'</script>",
    '"><img src=x onerror="document[\'title\']=1">',
    "javascript:document['title']='ran'",
    "</style><b id=x>&amp;",
    "{{ 7 * 7 }}",
    "`<i>`",
)
DRAWN = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" viewBox="0 0 72 72"><path id="p" d="M 0 0 L 9 9"/></svg>'
VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """The elements of a page with their attributes, its text by element, and what is not closed."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    def text(self, *tags: str) -> str:
        """Of these elements, or of all but style and script, with plain spaces."""
        kept = [data for tag, data in self.texts if (tag in tags if tags else tag not in ("style", "script"))]
        return " ".join("".join(kept).replace("\u00a0", " ").split())


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """A plot that costs nothing in place of each, but for a test that asks for real ones."""
    if "real_plots" not in request.fixturenames:
        kinds = {kind: lambda paths, target: target.write_text(DRAWN) for kind in pictures.KINDS}
        monkeypatch.setattr(pictures, "KINDS", kinds)


@pytest.fixture
def real_plots():
    """Named by a test that draws."""


def shown(*runs: Run) -> Page:
    return Page(report.rendered(runs))


def said(run: Run) -> list[findings.Finding]:
    return findings.of(run, {row["case_id"]: row for row in run.rows()}, pairs.within(run))


def cautions(run: Run) -> str:
    return " ".join(findings.cautions(run, {row["case_id"]: row for row in run.rows()}, pairs.within(run)))


def changed(run: Run, *added: dict, without: tuple[str, ...] = ()) -> Run:
    """The same Run with these events before its last stop, and without others."""
    events = [one for one in run.events if one["event"] not in without]
    at = next((i for i, one in enumerate(events) if one["event"] == "stop"), len(events))
    lines = [json.dumps(one) + "\n" for one in [*events[:at], *added, *events[at:]]]
    (run.folder / "run.jsonl").write_text("".join(lines))
    return Run(run.folder)


class TestVerdict:
    def test_it_is_the_first_thing_the_page_says_of_a_run(self):
        text = shown(Run(REFERENCE / "cpu-2-cores")).text()
        assert re.search(
            r"cpu-2-cores FASTER ?tensorflow graph runs the forward pass of tutorial at batch 8 in 0\.521 \[0\.475, "
            r"0\.572\] of torch eager’s time \(95 % interval over 5 Rounds\)\. The whole interval lies below 1",
            text,
        )
        assert text.index("0.521 [0.475, 0.572]") < text.index("Results")

    def test_a_candidate_that_takes_longer_takes_so_many_times_as_long(self, tmp_path):
        (found,) = said(make(tmp_path / "r"))
        assert found.word == "SLOWER"
        assert found.text == (
            "tensorflow graph runs the forward pass of owt at batch 8 in 1.500 [1.500, 1.500] times torch eager’s time "
            "(95 % interval over 5 Rounds)."
        )

    def test_of_two_arms_it_names_what_they_differ_in(self):
        (found,) = said(Run(REFERENCE / "slowdown-5-percent"))
        assert found.word == "SLOWER"
        assert found.text.startswith("B (slowdown 5 %) takes 1.066 [1.051, 1.081] times the time of A (slowdown 0 %)")

    def test_two_equal_arms_are_said_to_be_equal(self, tmp_path):
        (found,) = said(make(tmp_path / "r", arms(A), ab=AA, slower=1.0))
        assert found.word == "SAME"
        assert "Both sides are the same" in found.because

    def test_what_is_not_decided_says_why(self, tmp_path):
        (found,) = said(make(tmp_path / "r", slower=1.02, noise_sd=0.3))
        assert (found.word, found.because[:12]) == ("INCONCLUSIVE", "Not decided:")

    def test_two_rounds_have_no_interval(self, tmp_path):
        (found,) = said(make(tmp_path / "r", rounds=2))
        assert "(2 Rounds: too few for an interval)" in found.text

    def test_of_unlike_conditions_nothing_is_judged(self, tmp_path):
        made = make(tmp_path / "r", unlike={"threads": 1})
        (found,) = said(made)
        assert found.word == "UNLIKE"
        assert "not under the same conditions: threads 1, 2 in the baseline" in found.because
        assert findings.conditions(made, pairs.within(made)).startswith("Not equal: 1 of 1 comparisons differ")

    def test_one_framework_has_its_time_and_why_there_is_no_ratio(self, tmp_path):
        time, why = said(make(tmp_path / "r", [A], base_ns=2_000_000))
        assert time.text.startswith("torch eager runs the forward pass of owt at batch 8 in 2 [2, 2] ms (95 % interval")
        assert why.text.startswith("No ratio: there is one framework, in one mode.")

    def test_the_classic_protocol_says_why_it_has_no_ratio(self, tmp_path):
        *times, why = said(make(tmp_path / "r", rounds=1, protocol=CLASSIC))
        assert "mean ± stddev of" in times[0].text
        assert "one framework runs after the other" in why.text

    def test_a_run_of_another_program_says_so(self, tmp_path):
        *_, why = said(foreign(tmp_path))
        assert why.text.startswith("No ratio: another program measured this")

    def test_of_many_comparisons_those_that_matter_have_a_sentence(self, tmp_path):
        cases = [dataclasses.replace(case, batch=batch) for batch in (1, 2, 4, 8, 16, 32, 64) for case in (A, B)]
        slower = {case.id: 1.2 if case.batch < 64 else 3.0 for case in cases if case.framework == "tensorflow"}
        first, rest = said(make(tmp_path / "r", cases, slower=slower))
        assert "at batch 64 in 3.000" in first.text
        assert rest.text == "6 more comparisons stand in the table of results."

    def test_what_must_be_known_beside_it_is_said(self, tmp_path):
        made = make(tmp_path / "r", noise={"wall_s": 9.0, "steal_s": 1.0, "foreign_s": 0.0, "psi_s": 0.0})
        broken = changed(made, {"event": "failed", "case_id": B.id, "reason": "it fell over"}, without=("end",))
        text = cautions(broken)
        assert "Interrupted: this Run did not come to its end; 5 of 5 Rounds are there" in text
        assert "No valid row for tensorflow graph, forward of owt at batch 8: it fell over." in text
        assert re.search(r"Noise: 1 of 1 rows is noisy .*; at worst \d+\.\d % was stolen", text)

    def test_a_run_without_a_valid_row_has_nothing_to_quote(self, tmp_path):
        made = make(tmp_path / "r", [A])
        broken = changed(made, {"event": "failed", "case_id": A.id, "reason": "it fell over"})
        assert said(broken)[0].text.startswith("Nothing of this Run can be quoted")
        assert "not valid: it fell over" in shown(broken).text()


def foreign(folder: Path, name: str = "test_a.py::test_b", **changes) -> Run:
    """A Run that another program measured."""
    case = Case("net", "other", "call", "cpu", "unknown", "", 1, "call", foreign=name)
    case = dataclasses.replace(case, **changes)
    protocol = Protocol("ingested", rounds=3, burn_in=0, paired=False, gate=False)
    made = make(folder / "f", [A], rounds=3)
    events = [one for one in made.events if one["event"] not in ("worker", "block")]
    for one in events:
        if one["event"] == "run":
            one |= {"cases": [dataclasses.asdict(case)], "protocol": dataclasses.asdict(protocol)}
            one["ingested"] = {"source": "pytest-benchmark 5", "taken": ["", "", ""]}
        if one["event"] == "turn":
            one |= {"case_id": case.id, "cpu_s": None}
    (made.folder / "run.jsonl").write_text("".join(json.dumps(one) + "\n" for one in events))
    return Run(made.folder)


class TestPage:
    def test_every_part_is_there_in_order(self):
        found = shown(Run(REFERENCE / "cpu-2-cores"))
        names = "Results Plots Layers Conditions Noise Reproduce Raw data".split(" ", 6)
        assert [data for tag, data in found.texts if tag == "h3"] == names
        assert not found.open

    def test_every_id_is_its_own_and_every_reference_has_one(self, tmp_path):
        found = shown(make(tmp_path / "a"), make(tmp_path / "b"))
        ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        wanted = [attrs["href"][1:] for attrs in found.all("a") if attrs["href"].startswith("#")]
        wanted += [attrs[name] for _, attrs in found.elements for name in ("aria-labelledby",) if name in attrs]
        assert set(wanted) <= set(ids)
        assert {"run1", "run2", "run1-times-p", "run2-times-p"} <= set(ids)

    def test_nothing_is_loaded_from_elsewhere(self):
        found = shown(Run(REFERENCE / "cpu-2-cores"))
        for _, attrs in found.elements:
            for name in ("src", "href", "action", "srcset", "poster", "xlink:href"):
                assert re.match(r"#|data:application/gzip;base64,|data:image/png;base64,|$", attrs.get(name) or "")
        assert not re.search(
            r"url\(\s*['\"]?(?!#)|@import", "".join(data for tag, data in found.texts if tag == "style")
        )

    def test_only_its_own_script_may_run(self, tmp_path):
        found = shown(make(tmp_path / "r"))
        (script,) = [data for tag, data in found.texts if tag == "script"]
        policy = next(one["content"] for one in found.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{hashed}';" in policy

    def test_the_same_run_gives_the_same_page(self, tmp_path):
        run = make(tmp_path / "r")
        assert report.rendered([run]) == report.rendered([Run(run.folder)])

    def test_real_plots_come_out_the_same_twice(self, tmp_path, monkeypatch, real_plots):
        kinds = {kind: pictures.KINDS[kind] for kind in ("times", "series")}
        monkeypatch.setattr(pictures, "KINDS", kinds)
        run = make(tmp_path / "r", base_ns=10**6, noise_sd=0.01)
        rows = {row["case_id"]: row for row in run.rows()}
        first, second = figures.of(run, rows, "a"), figures.of(run, rows, "a")
        assert first == second
        assert [one.kind for one in first if one.markup] == ["times", "series"]

    def test_a_sortable_cell_holds_its_whole_value(self, tmp_path):
        found = shown(make(tmp_path / "r", base_ns=1_234_567))
        values = [float(attrs["data-value"]) for attrs in found.all("td") if "data-value" in attrs]
        assert any(abs(value - 1.234569) < 1e-9 for value in values)

    def test_the_folder_of_the_run_is_left_as_it_is(self, tmp_path):
        run = make(tmp_path / "r")
        report.rendered([run])
        assert [path.name for path in run.folder.iterdir()] == ["run.jsonl"]

    def test_a_plot_that_cannot_be_drawn_says_why(self, tmp_path, monkeypatch):
        def refuse(paths, target):
            raise UsageError(f"{paths[0]}: nothing there")

        monkeypatch.setitem(pictures.KINDS, "roofline", refuse)
        text = shown(make(tmp_path / "r")).text()
        assert "Roofline not drawn: r: nothing there." in text
        assert "Throughput not drawn: there is one batch;" in text
        assert "Layers by time not drawn: this Run is no profile;" in text

    def test_plots_of_many_samples_are_drawn_in_two_processes(self, tmp_path, monkeypatch):
        run = make(tmp_path / "r")
        rows = {row["case_id"]: row for row in run.rows()}
        alone = figures.of(run, rows, "a")
        monkeypatch.setattr(figures, "MANY", 1)
        assert figures.of(run, rows, "a") == alone

    def test_a_profile_has_its_rows_by_time(self, tmp_path):
        names = ["half_width", *(part.name for part in named("half_width").parts()[:2])]
        axes = {"modes": {"torch": ["eager"]}, "layouts": {"torch": ["nchw"]}, "devices": ["cpu"]}
        cases = grid(variants=names, **axes, precisions=["fp32"], batches=[2], passes=["forward", "forward_backward"])
        made = make(tmp_path / "r", cases, rounds=3, protocol=dataclasses.replace(RULES, rounds=3), slower=2.0)
        text = shown(made).text()
        assert "half_width, batch 2, cpu, fp32: torch eager, nchw, row by row" in text
        assert "alexnet-bench profile --variant half_width --framework torch --batch 2 --rounds 3" in text
        assert not re.search(r"half_width\.conv1", text)

    def test_what_a_framework_reports_otherwise_is_shown(self, tmp_path):
        row = {"variant": "owt", "layer": "conv1", "kind": "conv", "height": 55, "width": 55, "channels": 64}
        row |= {"params": 1, "state": 0, "macs": 2, "framework": "jax", "reported_height": 54, "reported_width": 55}
        made = changed(make(tmp_path / "r"), {"event": "layers", "rows": [row]})
        assert "55 × 55 × 6412jax: height 54" in shown(made).text("td")


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_of_a_file_becomes_an_element(self, tmp_path, text):
        plain = shown(run_that_says(tmp_path / "plain", "harmless"), foreign(tmp_path / "1", "x"))
        theirs = foreign(tmp_path / "2", text, variant=text, framework=text, pass_=text)
        found = shown(run_that_says(tmp_path / "hostile", text), theirs)
        assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
        kept = [(set(attrs) - {"data-value"}) for _, attrs in found.elements]
        assert kept == [(set(attrs) - {"data-value"}) for _, attrs in plain.elements]
        assert text in found.text()

    def test_a_plot_keeps_nothing_that_runs_or_loads(self, tmp_path):
        (tmp_path / "x.svg").write_text(
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">'
            "<metadata>when</metadata><style>* { color: red }</style><script>a()</script>"
            '<a href="https://x"><path d="M 0 0"/></a><foreignObject/><!-- <script> -->'
            '<image xlink:href="https://x/y.png"/><image xlink:href="data:image/svg+xml,x"/>'
            '<image xlink:href="data:image/png;base64,AA=="/><use xlink:href="#m" onclick="a()"/>'
            '<path style="fill: url(https://x)" clip-path="url(#c)"/><text>a &lt;b&gt;</text></svg>'
        )
        markup, _ = svg.inline(tmp_path / "x.svg", "p", 'a "name" & <more>')
        found = Page(markup)
        assert [tag for tag, _ in found.elements] == "svg title image image image use path text".split()
        assert [attrs.get("href") for attrs in found.all("image")] == [None, None, "data:image/png;base64,AA=="]
        assert found.all("use") == [{"href": "#p-m"}]
        assert found.all("path") == [{"clip-path": "url(#p-c)"}]
        assert found.text("title", "text") == 'a "name" & <more>a <b>'

    def test_what_lies_on_paper_has_the_colours_of_the_page(self, tmp_path, real_plots):
        with drawing.figure(2, 2, tmp_path / "x.svg") as figure:
            panel = figure.subplots()
            panel.bar([0], [1], color=drawing.COLORS["torch"])
            drawing.grid(panel)
        markup, width = svg.inline(tmp_path / "x.svg", "p", "x")
        assert width == 192
        assert set(re.findall(r"var\(--\w+\)", markup)) >= {"var(--ink)", "var(--grid)", "var(--paper)"}
        assert drawing.COLORS["torch"].lower() in markup
        assert not re.search(f"{drawing.INK}|{drawing.PAPER}|{drawing.GRID}", markup, flags=re.IGNORECASE)

    def test_a_file_that_is_no_svg_says_so(self, tmp_path):
        (tmp_path / "x.svg").write_text("<html></html>")
        with pytest.raises(UsageError, match=r"x\.svg: expected an SVG, found <html>"):
            svg.inline(tmp_path / "x.svg", "p", "x")

    def test_prose_sets_code_and_holds_figures_together(self):
        assert template.prose("`make x` <i> `<i>`") == "<code>make x</code> &lt;i&gt; `&lt;i&gt;`"
        assert template.prose("5 % in 3 Rounds") == "5\u00a0% in 3\u00a0Rounds"
        assert template.prose("in 0.5 [0.4, 0.6] of") == "in 0.5\u00a0[0.4,\u00a00.6] of"


def run_that_says(folder: Path, text: str) -> Run:
    """A Run with a text from a file wherever there can be one."""
    cpu = {"host": text, "cpu": text, "system": text, "usable_cores": 2, "packages": {text: text}}
    versions = {"versions": {"tensorflow": text, "device_name": text}, "python": text, "layout": text, "device": text}
    header = {"run_id": text, "fingerprint": cpu, "env": {"A": text}, "weights": {"file": text, "sha256": text}}
    header["guests"] = [{"file": text, "function": text, "sha256": text, "label": text, "arm": None}]
    third = dataclasses.replace(A, framework="jax", mode="jit", layout="nhwc")
    made = make(folder, [A, B, third], unlike=versions, spoilt=[1], **header)
    fault = {"event": "fault", "group": 0, "round": 0, "attempt": 0, "worker": text, "kind": text, "reason": text}
    layer = {"variant": text, "layer": text, "kind": text, "framework": text, "reported_height": text, "height": 1}
    void = {"event": "void", "group": 0, "round": 7, "attempt": 0, "reason": text}
    failed = {"event": "failed", "case_id": third.id, "reason": text}
    return changed(made, fault | {"stderr_tail": text}, {"event": "layers", "rows": [layer]}, void, failed)


class TestFiles:
    def test_the_raw_data_comes_out_as_it_went_in(self):
        run = Run(REFERENCE / "cpu-2-cores")
        files = {one["download"]: one["href"] for one in shown(run).all("a") if "download" in one}
        assert list(files) == ["run.jsonl.gz", "summary.csv.gz"]
        for name, link in files.items():
            data = gzip.decompress(base64.b64decode(link.removeprefix("data:application/gzip;base64,")))
            assert data == (run.folder / name.removesuffix(".gz")).read_bytes()

    def test_files_of_two_runs_have_names_of_their_own(self, tmp_path):
        found = shown(make(tmp_path / "a b"), make(tmp_path / "c"))
        names = [one["download"] for one in found.all("a") if "download" in one]
        assert names == ["a-b-run.jsonl.gz", "a-b-summary.csv.gz", "c-run.jsonl.gz", "c-summary.csv.gz"]


class TestCommand:
    def test_it_is_written_into_the_run_and_says_where(self, tmp_path):
        run = make(tmp_path / "r")
        result = CliRunner().invoke(main, ["report", str(run.folder)])
        assert result.exit_code == 0, result.output
        assert f"wrote {run.folder / 'report.html'}" in result.stderr
        assert not Page((run.folder / "report.html").read_text()).open

    def test_without_a_run_it_takes_the_newest(self, tmp_path, monkeypatch):
        make(tmp_path / "results/20260101T000000Z-a"), make(tmp_path / "results/20260102T000000Z-b")
        monkeypatch.chdir(tmp_path)
        result = CliRunner().invoke(main, ["report", "--output", "x.html"])
        assert result.exit_code == 0, result.output
        assert "20260102T000000Z-b" in Path("x.html").read_text()

    def test_a_run_named_twice_is_one_chapter(self, tmp_path):
        run = make(tmp_path / "r")
        CliRunner().invoke(main, ["report", str(run.folder), f"{run.folder}/.", "--output", str(tmp_path / "x.html")])
        assert len(Page((tmp_path / "x.html").read_text()).all("article")) == 1

    @pytest.mark.parametrize(
        ("name", "found"), [("s.csv", "a file"), ("empty", "no run.jsonl there"), ("none", "no such folder")]
    )
    def test_what_is_no_run_is_a_mistake_in_one_line(self, tmp_path, name, found):
        (tmp_path / "s.csv").touch()
        (tmp_path / "empty").mkdir()
        result = CliRunner().invoke(main, ["report", str(tmp_path / name)])
        assert result.exit_code == 2
        said = f"report needs a Run folder, found {found}; `alexnet-bench plot` draws CSVs\n"
        assert result.stderr == f"alexnet-bench: {tmp_path / name}: {said}"

    def test_nothing_measured_yet_says_how_to_begin(self, tmp_path):
        with pytest.raises(UsageError, match="run `make bench` first, or name a Run folder"):
            report.latest(tmp_path)

    def test_a_file_that_cannot_be_written_says_so(self, tmp_path):
        run = make(tmp_path / "r")
        with pytest.raises(UsageError, match=r"cannot write .*: .*; choose another file with --output"):
            report.main({"runs": (str(run.folder),), "output": str(tmp_path / "none/x.html")})


def test_the_glossary_has_every_flag_that_results_may_hold():
    row = next(line for line in (ROOT / "results/README.md").read_text().splitlines() if line.startswith("| flags |"))
    plain = re.sub(r"\([^()]*\)", "", row.split("|")[2].replace("`--ab slowdown`", ""))
    assert set(re.findall(r"[a-z]\w+", plain)) - {"or", "the", "trend"} == set(glossary.FLAGS)


def test_each_flag_of_a_run_is_explained(tmp_path):
    text = shown(make(tmp_path / "r", protocol=Protocol(rounds=5, burn_in=2))).text()
    assert "short_burn_inFewer than 10 burn-in iterations were asked for." in text
