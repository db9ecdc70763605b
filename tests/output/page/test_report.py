"""`report`: what the page says, that no text of a file becomes an element of it, and that it needs nothing else."""

import base64
import dataclasses
import hashlib
import re
import subprocess
import sys
import threading

import pytest
import teams
from hostile import HOSTILE, run_with_text
from pages import REFERENCE, Page, by_id, foreign_run, page_of
from paths import ROOT
from runs import AA, HOST, QUIET, A, B, arms, changed, make, worker

from bench import UsageError
from bench.cases.axes import Axes
from bench.commands.profile_plan import RULES
from bench.output.page import chapter, figures, svg, table, table_conditions, template
from bench.output.plots import kinds, series, style, times
from bench.record.run import Run
from impls import FRAMEWORKS
from impls.variants import variant_named

pytestmark = pytest.mark.usefixtures("quick_plots")


class TestPage:
    def test_the_parts_of_a_page_are_in_order(self):
        found = page_of(Run(REFERENCE / "cpu-2-cores"))
        names = "Results Plots Layers Conditions Noise Reproduce Raw data".split(" ", 6)
        assert [data for tag, data in found.texts if tag == "h3"] == names
        assert not found.open

    def test_ids_are_unique_and_references_resolve(self, tmp_path):
        found = page_of(make(tmp_path / "a"), make(tmp_path / "b"))
        ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
        assert len(ids) == len(set(ids))
        wanted = [attrs["href"][1:] for attrs in found.all("a") if attrs["href"].startswith("#")]
        wanted += [id_ for _, attrs in found.elements for id_ in attrs.get("aria-labelledby", "").split()]
        assert set(wanted) <= set(ids)
        assert {"run1", "run2", "run1-times-p", "run2-times-p"} <= set(ids)

    def test_nothing_is_loaded_from_elsewhere(self):
        found = page_of(Run(REFERENCE / "cpu-2-cores"))
        for _, attrs in found.elements:
            for name in ("src", "href", "action", "srcset", "poster", "xlink:href"):
                assert re.match(r"#|data:application/gzip;base64,|data:image/png;base64,|$", attrs.get(name) or "")
        assert not re.search(
            r"url\(\s*['\"]?(?!#)|@import", "".join(data for tag, data in found.texts if tag == "style")
        )

    def test_only_its_own_script_may_run(self, tmp_path):
        found = page_of(make(tmp_path / "r"))
        (script,) = [data for tag, data in found.texts if tag == "script"]
        policy = next(one["content"] for one in found.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
        hashed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy.startswith("default-src 'none';")
        assert f"script-src 'sha256-{hashed}';" in policy

    def test_the_same_run_gives_the_same_page(self, tmp_path):
        run = make(tmp_path / "r")
        assert chapter.render_page([run]) == chapter.render_page([Run(run.folder)])

    def test_real_plots_come_out_the_same_twice(self, tmp_path, monkeypatch, real_plots):
        few = {kind: kinds.KINDS[kind] for kind in ("times", "series")}
        monkeypatch.setattr(kinds, "KINDS", few)
        run = make(tmp_path / "r", base_ns=10**6, noise_sd=0.01)
        rows = by_id(run)
        first, second = figures.draw_figures(run, rows, "a"), figures.draw_figures(run, rows, "a")
        assert first == second
        assert [figure.kind.name for figure in first if figure.markup] == ["times", "series"]

    def test_a_sortable_cell_holds_its_whole_value(self, tmp_path):
        found = page_of(make(tmp_path / "r", base_ns=1_234_567))
        values = [float(attrs["data-value"]) for attrs in found.all("td") if "data-value" in attrs]
        assert any(abs(value - 1.234569) < 1e-9 for value in values)

    def test_the_folder_of_the_run_is_left_as_it_is(self, tmp_path):
        run = make(tmp_path / "r")
        chapter.render_page([run])
        assert [path.name for path in run.folder.iterdir()] == ["run.jsonl"]

    def test_a_plot_that_cannot_be_drawn_says_why(self, tmp_path, monkeypatch):
        def refuse(paths, target):
            raise UsageError(f"{paths[0]}: nothing there")

        monkeypatch.setattr(series, "draw_files", refuse)
        text = page_of(make(tmp_path / "r")).text()
        assert "Series not drawn: r: nothing there." in text
        assert "Roofline not drawn: this Run has no ceiling, so there is no roof." in text
        assert "Throughput not drawn: there is one batch;" in text
        assert "Layers by time not drawn: this Run is not a profile;" in text

    def test_a_fault_of_ours_is_no_plot_that_was_not_drawn(self, tmp_path, monkeypatch):
        monkeypatch.setattr(series, "draw_files", lambda paths, target: int("a bug"))
        with pytest.raises(ValueError, match="a bug"):
            chapter.render_page([make(tmp_path / "r")])

    def test_a_text_that_matplotlib_cannot_set_is_a_plot_that_was_not_drawn(self, tmp_path, monkeypatch):
        def formula(paths, target):
            with style.figure(2, 2, target) as figure:
                figure.text(0, 0, r"$\frac$")

        monkeypatch.setattr(series, "draw_files", formula)
        text = page_of(make(tmp_path / "r")).text()
        assert "Series not drawn: a text in it looks like a formula but is not one." in text

    def test_a_plot_is_drawn_from_tables_that_the_run_gives(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(times, "draw_files", lambda paths, target: seen.extend(paths[0].iterdir()))
        chapter.render_page([make(tmp_path / "r")])
        assert sorted(path.name for path in seen) == ["layers.csv", "samples.csv", "summary.csv"]

    @pytest.mark.process
    def test_plots_are_drawn_in_two_processes_and_are_the_same(self, tmp_path):
        run = make(tmp_path / "r")
        code = f"""
from pathlib import Path
from bench.output.page import chapter
from bench.output.page import figures
from bench.record.run import Run
made, pool = [], figures.ProcessPoolExecutor
figures.ProcessPoolExecutor = lambda *how, **more: made.append(how) or pool(*how, **more)
print(hash(chapter.render_page([Run(Path({str(run.folder)!r}))])), len(made))
figures.may_fork = lambda: False
print(hash(chapter.render_page([Run(Path({str(run.folder)!r}))])), len(made))
"""
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
        first, second = done.stdout.splitlines()
        assert first == second, done.stderr
        assert first.endswith(" 1")

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is forked")
    def test_no_process_is_forked_while_a_thread_runs(self, real_plots, monkeypatch):
        monkeypatch.setattr(threading, "active_count", lambda: 1)
        for it in (it for it in FRAMEWORKS.values() if it.peer):
            monkeypatch.delitem(sys.modules, it.package, raising=False)
        assert figures.may_fork()
        monkeypatch.setitem(sys.modules, "jax", sys)
        assert not figures.may_fork()
        monkeypatch.delitem(sys.modules, "jax")
        monkeypatch.setattr(threading, "active_count", lambda: 2)
        assert not figures.may_fork()

    def test_the_tables_of_scaling_and_their_notes_are_below_the_results(self, tmp_path):
        found = page_of(teams.make(tmp_path / "r"))
        assert "Scaling" in found.text("h4")
        captions = found.text("span")
        assert "Where forward_backward spends it, with 95 % intervals" in captions
        assert "75% [75, 75]" in found.text("td")
        assert "Each reduction sums 244.4 MB of gradients over all devices." in found.text("p")
        assert "Scaling" not in page_of(make(tmp_path / "a")).text("h4")

    def test_memory_and_first_calls_are_there_as_far_as_they_are_known(self, tmp_path):
        unlike = {"first_call_ns": {"forward": 5_000_000}, "compile_cache": "cold"}
        made = make(tmp_path / "r", [A, dataclasses.replace(B, mode="xla")], unlike=unlike)
        found = table.memory(made, by_id(made))
        names = [column.name for column in found.columns]
        assert names == [
            *("pass", "framework", "process memory MiB", "first call ms", "first call, later Rounds ms"),
            *("cores used", "harness adds µs", "compile cache"),
        ]
        assert [[cell.text for cell in row[2:5]] for row in found.rows] == [["1", "", ""], ["1", "5", "5"]]
        assert [row[-1].text for row in found.rows] == ["", "5 × cold"]
        assert "1––" in page_of(made).text("td")
        assert "Memory and first calls" in page_of(made).text("h4")

    def test_further_evidence_for_a_row_is_in_the_conditions(self, tmp_path):
        low, place = dataclasses.replace(A, precision="bf16"), {"group": 0, "round": 0, "attempt": 0}
        proof = {"parity_fp32": {"logits": 3e-6}, "gradients": {"parameters": 16, "others": 0, "finite": True}}
        sync = {"iterations": 1, "copy_ns": 40_000, "allowed_ns": 2_000_000}
        burn_in = {"start_ns": [1], "ns": [1], "stop": "cap", "steady_at": None, "sync": sync, "spin_ns": 0}
        control = {"control_cpu_ns": 1, "control_mem_ns": 1, "mhz": 2300.0, "temp_c": None}
        made = changed(
            make(tmp_path / "r", [low]),
            {"event": "worker", **place, **worker(low, **proof, switches={"flush_denormal": True})},
            {"event": "burn_in", **place, "case_id": low.id, **burn_in},
            *({"event": "control", **place, **control, "load1": load} for load in (1.02, 0.51)),
            without=("worker",),
        )
        facts = {row[0].text: row[-1].text for row in table_conditions.table(made, by_id(made)).rows}
        assert facts["the same net in fp32: logits"] == "3.0e-06"
        assert facts["gradients"] == "16 of parameters, 0 others"
        assert facts["copy after wait"] == "0.04 ms, allowed 2"
        assert facts["its own switches"] == "flush_denormal True"
        said = [("load around the turns", "0.5 to 1.0"), ("CPU MHz around the turns", "2300.0")]
        assert table_conditions.machine(made)[-2:] == said

    def test_readings_of_the_machine_are_rounded(self, tmp_path):
        known = HOST | {"load_1min": 1.50048828125, "alexnet_bench": "0.1.0", "gpu_driver": None}
        said = table_conditions.machine(make(tmp_path / "r", fingerprint=known))
        assert {("memory MiB", "2048"), ("load, 1 minute", "1.5"), ("alexnet-bench", "0.1.0")} <= set(said)
        assert "gpu driver" not in dict(said)

    def test_a_ratio_breaks_before_its_interval_alone(self, tmp_path):
        page = chapter.render_page([make(tmp_path / "r")])
        assert re.search(r'<td class="number parted" data-value="[\d.]+">1\.500 \[1\.500,\u00a01\.500\]</td>', page)

    def test_the_devices_own_time_is_before_the_memory_where_it_is_known(self, tmp_path):
        made = make(tmp_path / "r", [A])
        timed = {"device_ms": 0.75, "launch_ms": 1.25, "joules_per_image": 0.5, "l2": "cold"}
        rows = {id_: row | timed for id_, row in by_id(made).items()}
        found = table.memory(made, rows)
        assert [column.name for column in found.columns][2:6] == [
            *("on the device ms", "to enqueue ms", "energy per image J", "L2 cache")
        ]
        assert [[cell.text for cell in row[2:6]] for row in found.rows] == [["0.75", "1.25", "0.5", "cold"]]
        assert found.caption.endswith("to enqueue: on the host")
        assert not table.memory(made, by_id(made)).caption.endswith("on the host")

    def test_without_memory_figures_there_is_no_table_of_memory(self, tmp_path):
        made = make(tmp_path / "r", [A])
        bare = {id_: row | dict.fromkeys(table.MEMORY) for id_, row in by_id(made).items()}
        assert table.memory(made, bare) is None

    def test_noise_has_what_a_gpu_showed(self, tmp_path):
        made = make(tmp_path / "r", noise=QUIET | {"sm_mhz": 1410, "temp_c": 61, "watts": 301.5})
        found = table.noises(made, by_id(made))
        names = [column.name for column in found.columns]
        at = names.index("lowest GPU clock MHz")
        assert names[at : at + 3] == ["lowest GPU clock MHz", "highest GPU temperature °C", "mean GPU power W"]
        assert [cell.text for cell in found.rows[0][at : at + 3]] == ["1,410", "61", "301.5"]
        assert "GPU" not in page_of(make(tmp_path / "cpu")).text("th")

    def test_published_timings_are_a_table_next_to_their_chart(self, tmp_path, monkeypatch):
        text = page_of(make(tmp_path / "r")).text()
        assert "Published timings with a number" in text
        row = "1owtTitan Blackcuda-convnet2 (Torch)fp321281,455465.52014-12-19soumith/convnet-benchmarks:"
        assert f"{row}README.md@7aa9cf9no dropout or softmax; i7-3930K host" in text
        both = page_of(make(tmp_path / "a"), make(tmp_path / "b"))
        assert both.text().count("Published timings with a number") == 1
        assert "A decade not drawn: this page has it once, with the times of a." in both.text()
        assert [one["id"] for one in both.all("figure") if "history" in one["id"]] == ["run1-history-figure"]
        monkeypatch.delitem(kinds.KINDS, "history")
        assert "Published timings" not in page_of(make(tmp_path / "without")).text()

    def test_a_profile_has_its_rows_by_time(self, tmp_path):
        names = ["half_width", *(part.name for part in variant_named("half_width").parts()[:2])]
        axes = {"modes": {"torch": ["eager"]}, "layouts": {"torch": ["nchw"]}, "device": ["cpu"]}
        cases = Axes(
            variant=names, **axes, precisions=["fp32"], batch=[2], pass_=["forward", "forward_backward"]
        ).cases()
        made = make(tmp_path / "r", cases, rounds=3, protocol=dataclasses.replace(RULES, rounds=3), slower=2.0)
        text = page_of(made).text()
        assert "The whole Run, with its ratios:" in text
        assert "half_width, batch 2, cpu, fp32: torch eager, nchw, layer by layer" in text
        assert "alexnet-bench profile --variant half_width --framework torch --batch 2 --rounds 3" in text
        assert not re.search(r"half_width\.conv1", text)

    def test_each_command_is_introduced_by_what_it_measures(self, tmp_path, monkeypatch):
        monkeypatch.setattr(figures, "draw_figures", lambda *of: [])

        def lines(run: Run) -> str:
            return page_of(run).text().rpartition("Reproduce")[2]

        alone = "a time alone, since a ratio needs both sides in one Run"
        ab = make(tmp_path / "ab", arms(A), ab=AA)
        assert "The whole Run, with its ratios:" in lines(ab)
        assert "Row by row" not in lines(ab)  # the same line again
        both = [dataclasses.replace(A, arm=arm, batch=batch) for batch in (1, 8) for arm in "AB"]
        corner = [dataclasses.replace(one, pass_="forward_backward") for one in both[:2]]
        said = lines(make(tmp_path / "corner", [*both, *corner], ab=AA))
        assert "Row by row, each with its other side, so with its ratio:" in said
        assert said.count("alexnet-bench run") == 3
        theirs = {"file": "x.py", "function": "build", "sha256": "0", "label": "mine", "arm": None}
        said = lines(make(tmp_path / "guest", [A, dataclasses.replace(A, guest="mine")], guests=[theirs]))
        assert "Row by row: a user’s own net together with ours, so with its ratio; for ours a time alone," in said
        assert f"{alone}:" in said
        assert "PATH is a placeholder: Runs do not store folders." in said
        said = lines(make(tmp_path / "env", env={"PYTHONPATH": "/x", "A": "PATH/y"}))
        assert f"Row by row; {alone}:" in said
        assert "PATH stands" not in said

    def test_a_differing_report_of_a_framework_is_shown(self, tmp_path):
        row = {"variant": "owt", "layer": "conv1", "kind": "conv", "height": 55, "width": 55, "channels": 64}
        row |= {"params": 1, "state": 0, "macs": 2, "framework": "jax"}
        reported = {"height": 54, "width": 55, "channels": 64, "params": 1, "state": 0}
        row |= {f"reported_{name}": number for name, number in reported.items()}
        made = changed(make(tmp_path / "r"), {"event": "layers", "rows": [row]})
        assert "55 × 55 × 6412jax: height 54" in page_of(made).text("td")


class TestHostileText:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_no_text_of_a_file_becomes_an_element(self, tmp_path, text):
        plain = page_of(run_with_text(tmp_path / "plain", "harmless"), foreign_run(tmp_path / "1", "x"))
        theirs = foreign_run(tmp_path / "2", text, variant=text, framework=text, pass_=text)
        found = page_of(run_with_text(tmp_path / "hostile", text), theirs)
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

    def test_plots_take_the_colors_of_the_page(self, tmp_path, real_plots):
        with style.figure(2, 2, tmp_path / "x.svg") as figure:
            panel = figure.subplots()
            panel.bar([0], [1], color=style.COLORS["torch"])
            style.grid(panel)
        markup, width = svg.inline(tmp_path / "x.svg", "p", "x")
        assert width == 192
        assert set(re.findall(r"var\(--\w+\)", markup)) >= {"var(--ink)", "var(--grid)", "var(--paper)"}
        assert style.COLORS["torch"].lower() in markup
        assert not re.search(f"{style.INK}|{style.PAPER}|{style.GRID}", markup, flags=re.IGNORECASE)

    def test_a_file_that_is_no_svg_says_so(self, tmp_path):
        (tmp_path / "x.svg").write_text("<html></html>")
        with pytest.raises(UsageError, match=r"x\.svg: expected an SVG, found <html>"):
            svg.inline(tmp_path / "x.svg", "p", "x")

    def test_prose_sets_code_and_holds_figures_together(self):
        assert template.prose("`make x` <i> `<i>`") == "<code>make x</code> &lt;i&gt; `&lt;i&gt;`"
        assert template.prose("5 % in 3 Rounds") == "5\u00a0% in 3\u00a0Rounds"
        assert template.prose("in 0.5 [0.4, 0.6] of") == "in 0.5\u00a0[0.4,\u00a00.6] of"
