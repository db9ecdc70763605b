"""Frames: CSVs as spreadsheets and other programs leave them become rows that can be drawn, or a clear error."""

import os

import pytest
from csvs import LAYER, ROW, SAMPLE, csv
from runs import A, B, make

from bench import UsageError
from bench.output.plots import frames, times
from bench.record.events import SCHEMA


def written(folder, text, encoding="utf-8", name="summary.csv"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def kept(folder, *rows):
    """The mean_ms of those that can be drawn."""
    return list(frames.read([csv(folder, *rows)])["mean_ms"])


def test_several_files_become_one_chart(tmp_path):
    first, second = csv(tmp_path, ROW), csv(tmp_path, ROW | {"batch": 32}, name="other.csv")
    assert list(frames.read([first, second])["batch"]) == [8, 32]


class TestSpreadsheets:
    HEADER = "case_id;variant;framework;mode;device;batch;pass;mean_ms;stddev_ms;valid"
    LINES = ("a;owt;torch;eager;cpu;8;forward;12,5;1,25;TRUE", "b;owt;null;none;cpu;8;forward;1;0;FALSE")

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("separator", [";", "\t"])
    @pytest.mark.parametrize(
        ("told", "end"), [("", "\r\n"), ("sep={}\r\n", "\r\n"), ("\r\n", "\r"), ("sep={}\n", "\n")]
    )
    def test_what_a_spreadsheet_saves_reads_as_what_it_was_given(self, tmp_path, encoding, separator, told, end):
        text = told.format(separator) + end.join([self.HEADER, *self.LINES, ";" * 9]).replace(";", separator) + end
        rows = frames.read([written(tmp_path, text, encoding)])
        assert rows[["mean_ms", "stddev_ms", "batch", "valid"]].to_numpy().tolist() == [[12.5, 1.25, 8, True]]

    def test_commas_with_a_mark_and_with_sep(self, tmp_path):
        text = "sep=,\n" + csv(tmp_path, ROW).read_text()
        assert list(frames.read([written(tmp_path, text, "utf-8-sig")])["mean_ms"]) == [12.5]

    def test_points_between_semicolons_are_decimal_too(self, tmp_path):
        assert list(frames.read([csv(tmp_path, ROW, sep=";")])["mean_ms"]) == [12.5]

    @pytest.mark.parametrize("word", ["False", "FALSE", "false", "FALSCH", "FAUX", "0"])
    def test_false_is_said_in_several_ways(self, tmp_path, word):
        assert kept(tmp_path, ROW | {"valid": word}, ROW | {"valid": "TRUE", "mean_ms": 3}) == [3]

    @pytest.mark.parametrize("word", ["True", "TRUE", "WAHR", "", None])
    def test_all_else_is_valid(self, tmp_path, word):
        assert kept(tmp_path, ROW | {"valid": word}) == [12.5]

    def test_cells_left_out_at_the_end_of_a_line_are_empty(self, tmp_path):
        text = self.HEADER + "\n" + self.LINES[0].rpartition(";1,25")[0] + "\n"
        (row,) = frames.read([written(tmp_path, text)]).to_dict("records")
        assert (row["mean_ms"], row["stddev_ms"] == row["stddev_ms"]) == (12.5, False)

    def test_spaces_around_cells_are_none_of_theirs(self, tmp_path):
        text = csv(tmp_path, ROW | {"run_id": None}).read_text().replace(",", " , ")
        (row,) = frames.read([written(tmp_path, text)]).to_dict("records")
        assert (row["framework"], row["device_name"], row["mean_ms"]) == ("torch", "a CPU", 12.5)
        assert kept(tmp_path, ROW, ROW | {"framework": "  "}) == [12.5]

    def test_decimal_commas_between_commas_are_a_mistake(self, tmp_path):
        text = "\n".join([self.HEADER, *self.LINES]).replace(";", ",")
        with pytest.raises(UsageError, match=r"with decimal commas, separate cells with semicolons|Expected 11 fields"):
            frames.read([written(tmp_path, text)])
        text = "\n".join([self.HEADER, self.LINES[0].replace("1,25", "1")]).replace(";", ",")
        with pytest.raises(
            UsageError, match=r"row 1: expected 10 cells as in the first line, found more; with decimal"
        ):
            frames.read([written(tmp_path, text)])

    def test_samples_read_the_same(self, tmp_path):
        for options in ({"sep": ";", "encoding": "utf-8-sig"}, {"sep": "\t", "encoding": "utf-16"}):
            (row,) = frames.samples([csv(tmp_path, SAMPLE, name="samples.csv", **options)]).to_dict("records")
            assert (row["start_ns"], row["duration_ns"], row["valid"], row["run_id"]) == (
                10**15,
                1250,
                True,
                tmp_path.name,
            )


class TestNotATable:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "empty; expected a summary.csv or a Run folder"),
            (b"\xef\xbb\xbf \r\n", "empty; expected a summary.csv"),
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "not text in UTF-8; .*; a spreadsheet saves one as 'CSV UTF-8'"),
            ("case_id,µ".encode("latin-1"), "not text in UTF-8"),
            (b"PK\x03\x04\x00\x00", "not text in UTF-8"),
            (b"\xff\xfe\x00", "not text in UTF-8"),
            (b"a picture\n", r"expected the columns case_id, .*; missing case_id, variant, framework, mode, device, "),
            (b"x" * 200_000, r"cannot read: its first line has 200,000 characters, above 131,072"),
            (b"sep=;", r"expected the columns .*; missing case_id"),
        ],
    )
    def test_unreadable_file_is_named_with_its_fault(self, tmp_path, data, why):
        path = tmp_path / "summary.csv"
        path.write_bytes(data)
        with pytest.raises(UsageError, match=rf"summary.csv: {why}"):
            frames.read([path])
        with pytest.raises(UsageError, match=r"summary.csv: "):
            frames.profile(path)

    def test_a_quote_that_never_ends_is_a_mistake(self, tmp_path):
        text = csv(tmp_path, ROW).read_text() + '"open,1,2\n'
        with pytest.raises(UsageError, match=r"summary.csv: cannot read: .*EOF inside string"):
            frames.read([written(tmp_path, text)])

    def test_a_path_that_is_not_there(self, tmp_path):
        for path, why in (
            (tmp_path / "gone.csv", "No such file or directory"),
            (tmp_path / ("n" * 300), "File name too"),
        ):
            for read in (lambda path: frames.read([path]), lambda path: frames.samples([path]), frames.profile):
                with pytest.raises(UsageError, match=rf"cannot read: {why}.*; expected a"):
                    read(path)

    def test_a_folder_without_a_run(self, tmp_path):
        with pytest.raises(UsageError, match=r"not a Run: expected a folder with summary.csv or run.jsonl in it"):
            frames.read([tmp_path])
        with pytest.raises(UsageError, match=r"not a Run: expected a folder with samples.csv or run.jsonl in it"):
            frames.samples([tmp_path])
        with pytest.raises(
            UsageError, match=r"profile.csv: cannot read: .*; expected a profile.csv or the folder of a"
        ):
            frames.profile(tmp_path)


class TestMissing:
    def test_a_missing_column_is_named(self, tmp_path):
        with pytest.raises(UsageError, match=r"summary.csv: expected the columns .*; missing variant, framework"):
            frames.read([csv(tmp_path, {"case_id": 1})])
        with pytest.raises(UsageError, match=r"samples.csv: expected the columns .*; missing round, start_ns$"):
            frames.samples([csv(tmp_path, {"case_id": 1, "phase": "a", "duration_ns": 3}, name="samples.csv")])
        with pytest.raises(UsageError, match=r"profile.csv: expected the columns .*; missing center_ms$"):
            frames.profile(csv(tmp_path, LAYER, name="profile.csv"))

    @pytest.mark.parametrize("name", ["mean_ms", "case_id", "threads"])
    def test_a_column_that_is_there_twice_is_named(self, tmp_path, name):
        path = written(
            tmp_path, csv(tmp_path, ROW | {"threads": 1}).read_text().replace("mean_ms,", f"mean_ms, {name} ,")
        )
        with pytest.raises(UsageError) as error:
            frames.read([path])
        assert str(error.value) == f"{path}: expected each column once, found several of {name}; keep one"

    def test_other_columns_may_have_one_name(self, tmp_path):
        text = csv(tmp_path, ROW).read_text()
        assert len(frames.read([written(tmp_path, text.replace("\n", ",note,note\n", 1))])) == 1

    def test_a_hundred_thousand_columns_are_a_mistake_in_one_line(self, tmp_path):
        path = written(tmp_path, ",".join([*ROW, *(f"c{number}" for number in range(100_000))]) + "\n")
        with pytest.raises(UsageError, match=r"its first line has 688,.* characters, above 131,072; "):
            frames.read([path])

    def test_a_column_of_one_file_only_is_empty_in_the_others(self, tmp_path):
        new = csv(tmp_path, ROW | {"peak_fraction": 0.5, "net": "theirs", "size": 96, "new": "x"}, name="new.csv")
        rows = frames.read([csv(tmp_path, ROW), new])
        assert rows["peak_fraction"].isna().tolist() == rows["net"].isna().tolist() == [True, False]
        assert rows["size"].tolist()[1] == 96
        assert rows["arm"].tolist() == ["", ""]
        times.draw(rows, tmp_path / "times.png")

    def test_a_run_of_an_older_schema_is_drawn_from_its_csvs(self, tmp_path):
        folder = make(tmp_path / "old", rounds=2).folder
        frames.samples([folder])
        log = folder / "run.jsonl"
        log.write_text(log.read_text().replace(f'"schema":{SCHEMA}', '"schema":1'))
        assert list(frames.read([folder])["case_id"]) == [A.id, B.id]
        assert set(frames.samples([folder])["case_id"]) == {A.id, B.id}
        (folder / "summary.csv").unlink()
        with pytest.raises(UsageError, match=r"schema 1 is older than .*: measure again, or plot its CSVs"):
            frames.read([folder])

    def test_the_framework_null_is_a_name_and_no_framework_is_none(self, tmp_path, capsys):
        rows = frames.read(
            [csv(tmp_path, ROW | {"framework": "null"}, ROW | {"framework": None}, ROW | {"variant": ""})]
        )
        assert rows["framework"].tolist() == ["null"]
        assert "framework must not be empty, found nothing" in capsys.readouterr().err

    def test_a_name_that_looks_like_a_number_stays_a_name(self, tmp_path):
        (row,) = frames.read([csv(tmp_path, ROW | {"variant": "007", "mode": "inf", "run_id": "1e3"})]).to_dict(
            "records"
        )
        assert (row["variant"], row["mode"], row["run_id"]) == ("007", "inf", "1e3")

    def test_zero_rows_are_nothing_to_draw_and_no_fault_beside_others(self, tmp_path):
        none = written(tmp_path, ",".join(ROW) + "\n", name="none.csv")
        with pytest.raises(UsageError, match=r"none.csv: no valid row with a mean_ms, nothing to draw$"):
            frames.read([none])
        assert len(frames.read([none, csv(tmp_path, ROW)])) == 1
        with pytest.raises(UsageError, match=r"no sample, nothing to draw$"):
            frames.samples([written(tmp_path, ",".join(SAMPLE) + "\n", name="samples.csv")])

    def test_a_run_that_was_killed_has_its_tables_derived(self, tmp_path):
        made = make(tmp_path / "killed", stop="planned")
        assert not (made.folder / "summary.csv").exists()
        assert list(frames.read([made.folder])["case_id"]) == [A.id, B.id]

    def test_a_folder_that_cannot_be_written_says_so(self, tmp_path, monkeypatch):
        def denied(run):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("bench.record.run.Run.write", denied)
        folder = make(tmp_path / "killed", rounds=2).folder
        with pytest.raises(UsageError, match=r"cannot write the summary.csv it lacks: Permission denied; copy the"):
            frames.read([folder])


class TestOddNumbers:
    @pytest.mark.parametrize("odd", ["inf", "-inf", "NaN", "1e999", "-1", "0", "fast", "", "1e300", "12,5", "#DIV/0!"])
    def test_row_with_an_odd_mean_is_left_out_with_one_note(self, tmp_path, capsys, odd):
        assert kept(tmp_path, ROW, ROW | {"mean_ms": odd}) == [12.5]
        (line,) = capsys.readouterr().err.splitlines()
        found = f"'{odd}'" if odd else "nothing"
        path = tmp_path / "summary.csv"
        assert line == (f"alexnet-bench: {path}: left out 1 of 2 rows: mean_ms must be a number above 0, found {found}")

    @pytest.mark.parametrize("odd", ["many", "8.5", "0", "-8", "inf", "", "1e40"])
    def test_row_with_an_odd_batch_is_left_out_with_a_note(self, tmp_path, capsys, odd):
        assert kept(tmp_path, ROW, ROW | {"batch": odd, "mean_ms": 3}) == [12.5]
        assert "left out 1 of 2 rows: batch must be a whole number above 0, found" in capsys.readouterr().err

    def test_error_without_any_row_gives_the_reasons(self, tmp_path, capsys):
        rows = [ROW | {"mean_ms": "inf"}, ROW | {"mean_ms": "fast"}, ROW | {"valid": False}, ROW | {"batch": "many"}]
        said = (
            r"summary.csv: no valid row with a mean_ms, nothing to draw: 1 marked as not valid; .*: left out "
            r"3 of 3 rows: batch must be a whole number above 0, found 'many'; mean_ms must be a number above 0, found "
            r"'inf', 'fast'$"
        )
        with pytest.raises(UsageError, match=said):
            kept(tmp_path, *rows)
        assert capsys.readouterr().err == ""

    def test_many_odd_means_are_one_note(self, tmp_path, capsys):
        kept(tmp_path, ROW, *(ROW | {"mean_ms": f"bad\n{n}" * 100} for n in range(50)))
        (line,) = capsys.readouterr().err.splitlines()
        assert line.endswith(", ...")
        assert "\x1b" not in line
        assert len(line) < 300 + len(str(tmp_path))

    def test_a_line_is_said_once_however_often_a_file_is_read(self, tmp_path, capsys):
        for _ in range(3):
            kept(tmp_path, ROW, ROW | {"mean_ms": "inf"})
        assert len(capsys.readouterr().err.splitlines()) == 1

    def test_a_failed_case_is_left_out_and_said(self, tmp_path, capsys):
        failed = {"mean_ms": None, "valid": False, "invalid_reason": "killed"}
        rows = [ROW | {"valid": True}, ROW | {"valid": False}, ROW | failed]
        assert kept(tmp_path, *rows) == [12.5]
        said = capsys.readouterr().err
        assert "summary.csv: left out 2 of 3 rows, marked as not valid: 'killed'" in said
        assert said.count("\n") == 1

    def test_a_file_without_rows_beside_another_is_said(self, tmp_path, capsys):
        empty = written(tmp_path, ",".join(ROW) + "\n", name="empty.csv")
        assert len(frames.read([csv(tmp_path, ROW), empty])) == 1
        assert "empty.csv: no rows" in capsys.readouterr().err

    def test_duplicate_row_counts_once(self, tmp_path, capsys):
        path = csv(tmp_path, ROW)
        assert len(frames.read([path, path])) == 1
        assert "left out 1 duplicate rows" in capsys.readouterr().err

    def test_other_numbers_that_are_none_are_empty(self, tmp_path):
        odd = {"stddev_ms": "wide", "center_ms": "inf", "peak_fraction": "NaN", "threads": "two", "notes": "fine"}
        (row,) = frames.read([csv(tmp_path, ROW | odd)]).to_dict("records")
        assert [row[name] == row[name] for name in odd] == [False] * 4 + [True]

    @pytest.mark.parametrize(
        ("odd", "said"),
        [
            *(
                ({"duration_ns": odd}, "duration_ns must be a number above 0")
                for odd in ("inf", "NaN", "-1", "0", "fast", "")
            ),
            *(({"start_ns": odd}, "start_ns must be a whole number, found") for odd in ("inf", "soon", "", "-1")),
            *(({"round": odd}, "round must be a whole number, found") for odd in ("first", "1.5", "")),
            ({"case_id": ""}, "case_id must not be empty"),
            ({"phase": ""}, "phase must not be empty"),
        ],
    )
    def test_samples_that_cannot_be_drawn_are_left_out(self, tmp_path, capsys, odd, said):
        rows = frames.samples([csv(tmp_path, SAMPLE, SAMPLE | odd, name="samples.csv")])
        assert rows["duration_ns"].tolist() == [1250]
        assert said in capsys.readouterr().err

    def test_rows_of_a_profile_too_but_a_time_below_nothing_stays(self, tmp_path, capsys):
        times = ("1.5", "-0.01", "inf", "fast", "")
        path = csv(tmp_path, *(LAYER | {"center_ms": ms} for ms in times), name="profile.csv")
        assert frames.profile(path)["center_ms"].tolist() == [1.5, -0.01]
        assert "left out 2 of 4 rows: center_ms must be a number, found 'inf', 'fast'" in capsys.readouterr().err


class TestSamples:
    def test_samples_have_the_axes_of_their_case(self, tmp_path):
        folder = make(tmp_path / "run", rounds=2).folder
        for path in (folder, folder / "samples.csv", folder / "summary.csv"):
            rows = frames.samples([path])
            assert rows["case_id"].map({A.id: "torch", B.id: "tensorflow"}).tolist() == rows["framework"].tolist()
            assert set(rows["run_id"]) == {"r"}
            assert rows["phase"].tolist()[:3] == ["lead", "sample", "sample"]
            assert rows["valid"].tolist()[:3] == [False, True, True]
            assert str(rows["start_ns"].dtype) == "int64"

    def test_a_case_that_is_twice_in_the_summary_has_its_samples_once(self, tmp_path):
        csv(tmp_path, ROW, ROW)
        assert len(frames.samples([csv(tmp_path, SAMPLE, SAMPLE, name="samples.csv")])) == 2

    def test_a_summary_of_other_columns_gives_what_it_has(self, tmp_path):
        csv(tmp_path, {"case_id": "a", "framework": "jax"})
        rows = frames.samples([csv(tmp_path, SAMPLE, SAMPLE | {"case_id": "b"}, name="samples.csv")])
        assert (rows["framework"].tolist()[0], rows["framework"].isna().tolist()[1]) == ("jax", True)
        assert set(rows["run_id"]) == {tmp_path.name}


def test_tables_of_a_run_that_went_on_since_are_derived_again(tmp_path):
    run = make(tmp_path / "r", [A], rounds=3)
    run.write()
    before = frames.read([run.folder])["mean_ms"].iloc[0]
    changed = (run.folder / "summary.csv").read_text().replace(str(before), "1.0")
    (run.folder / "summary.csv").write_text(changed)
    assert frames.read([run.folder])["mean_ms"].iloc[0] == 1.0  # as old as its Run: taken as it is
    old = (run.folder / "run.jsonl").stat().st_mtime - 60
    os.utime(run.folder / "summary.csv", (old, old))
    assert frames.read([run.folder])["mean_ms"].iloc[0] == before


def test_decimal_points_and_commas_in_one_file_are_refused(tmp_path):
    rows = [ROW | {"mean_ms": "950,5", "stddev_ms": 1}, ROW | {"mean_ms": "1.2", "stddev_ms": 1}]
    said = r"expected one decimal mark, found '950,5' in row 1 of mean_ms and '1.2' in row 2 of mean_ms"
    with pytest.raises(UsageError, match=said):
        frames.read([csv(tmp_path, *rows, sep=";")])
