"""Give mutated files and odd values to the commands and count tracebacks and hangs: `make fuzz`.

    PYTHONPATH=tests python -m fuzz.drive KIND COUNT FOLDER [SEED]

Prints figures as JSON. The files of a case that failed are kept in FOLDER-NUMBER, and its traceback printed on stderr.
"""

import csv
import io
import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import caffe_pickles
import click
import dumps
import numpy as np
from click.testing import CliRunner
from csvs import ROW
from fuzz.mutate import ODD, mutate_bytes, mutate_json, mutate_lines, odd_text, to_json
from hostile import run_with_text
from paths import ROOT
from runs import AA, A, arms, make
from safetensors.numpy import save as to_safetensors
from small_weights import SMALL

from bench import UsageError
from bench.commands.cli import main
from bench.controller import dump
from impls.weights import WeightsError, initial, load

LIMIT_S = 10
WARM = 20  # cases that are read before the memory is taken: imports, fonts, caches
Attempt = tuple[str, Callable[[], None]]


class Hang(BaseException):
    """A case took more than LIMIT_S."""


class Refused(Exception):
    """A case was refused as it should be."""


def command(*words: Any, env: dict[str, str] | None = None) -> None:
    """A command in this process. Raises Refused for exit code 2, AssertionError for text that a user must not get."""
    done = CliRunner(env=env).invoke(main, list(map(str, words)))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1, 2, 3, 4), f"exit code {done.exit_code}"
    lines = done.stderr.splitlines()
    assert all(line.startswith(("alexnet-bench: ", "Usage: ", "Try ", "Error: ")) or not line for line in lines), lines
    assert_printable([*done.stdout.split("\n"), *done.stderr.split("\n")])
    assert all(len(line) < 1200 for line in lines), lines
    if done.exit_code == 2:
        raise Refused


def assert_printable(lines: list[str]) -> None:
    assert [line for line in lines if not line.isprintable()] == []


def reader(read: Callable[[], object]) -> None:
    """Read a file as a command does that would go on to start a Worker."""
    try:
        read()
    except (UsageError, WeightsError) as error:
        raise Refused from error


def of_runs(dice: random.Random, folder: Path) -> Iterator[Attempt]:
    """Mutated run.jsonl of Runs of every sort, read by every command that reads one."""
    make(folder / "base")
    sorts = [make(folder / "plain", rounds=2), make(folder / "ab", arms(A), ab=AA, rounds=2)]
    sorts.append(run_with_text(folder / "text", "a text"))
    sorts.append(make(folder / "later", disturbed=[0], warming={A.id: 0.1}, stop="interrupted", rounds=2))
    texts = [run.folder / "run.jsonl" for run in sorts] + [ROOT / "results/reference/cpu-2-cores/run.jsonl"]
    bases = [path.read_bytes() for path in texts]
    bases[-1] = b"".join(line + b"\n" for line in bases[-1].split(b"\n")[:40])
    run, page, picture = folder / "run", folder / "page.html", folder / "x.svg"
    often = [("compare", run), ("compare", folder / "base", run), ("compare", run, folder / "base", "--json")]
    often += [("compare", run, "--markdown"), ("export", "--format", "markdown", run)]
    often += [("export", "--format", name, run) for name in ("pytest-benchmark", "bencher", "trace")]
    often += [("merge", run, folder / "plain", "--out", folder / "merged")]
    rare = [("report", "--output", page, run), ("profile", run)]
    rare += [
        ("plot", "--kind", kind, "--output", picture, run) for kind in ("times", "series", "distribution", "history")
    ]
    while True:
        base, how = dice.choice(bases), dice.random()
        lines = base.split(b"\n")[:-1]
        if how < 0.2:
            data = mutate_bytes(dice, base)
        elif how < 0.4:
            data = b"".join(line + b"\n" for line in mutate_lines(dice, lines))
        else:
            at = 0 if dice.random() < 0.3 else dice.randrange(len(lines))
            lines[at] = to_json(mutate_json(dice, json.loads(lines[at])))
            data = b"".join(line + b"\n" for line in lines)
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        (run / "run.jsonl").write_bytes(data)
        words = dice.choice(rare if dice.random() < 0.15 else often)
        yield " ".join(map(str, words)), lambda words=words: command(*words)


def of_options(dice: random.Random, folder: Path) -> Iterator[Attempt]:
    """Odd values of every option of `run`, on the command line or in a variable."""
    options = [each for each in main.commands["run"].params if isinstance(each, click.Option) and not each.is_flag]
    sound = (
        "2",
        "half_width",
        "torch",
        "cpu",
        "fp32",
        "2,4",
        "all",
        "threads=1,2",
        "impls=.,.",
        "1.5",
        "a.py:f",
        "a=b",
    )
    while True:
        option, value = dice.choice(options), odd_text(dice) if dice.random() < 0.8 else dice.choice(sound)
        if dice.random() < 0.2:
            value = f"{dice.choice(sound)}{dice.choice(',=: ')}{value}"
        words, env = ["run", "--dry-run", "--framework", "null", "--variant", "half_width"], {}
        if option.envvar and dice.random() < 0.3 and value:
            env = {str(option.envvar): value}
        else:
            words += [option.opts[0], value]

        yield f"{words} {env}", lambda words=words, env=env: command(*words, env=env)


def of_files(dice: random.Random, folder: Path) -> Iterator[Attempt]:
    """Mutated files of weights, dumps, benchmarks and tables."""
    flat = {f"{layer}.{name}": array for layer, arrays in initial(SMALL).items() for name, array in arrays.items()}
    stats = {"data": [0.01, 0.011, 0.012], "min": 0.01, "rounds": 3}
    benchmark = {"name": "test_f[torch-8]", "fullname": "t.py::test_f", "group": "forward", "stats": stats}
    benchmark |= {"params": {"framework": "torch", "batch": 8}, "extra_info": {}}
    machine = {"node": "n", "system": "Linux", "python_version": "3.12", "cpu": {"brand_raw": "a CPU", "count": 2}}
    stored = {"benchmarks": [benchmark, benchmark | {"name": "g"}], "machine_info": machine, "version": "5.3.1"}
    stored |= {"datetime": "2026-01-01T00:00:00", "commit_info": {"id": "a", "dirty": False}}
    pickled = [
        caffe_pickles.npy(caffe_pickles.Python2()(caffe_pickles.tree())),
        caffe_pickles.saved(caffe_pickles.tree()),
    ]
    archives = []
    for save in (np.savez, np.savez_compressed):
        save(file := io.BytesIO(), **dumps.good())
        archives.append(file.getvalue())
    while True:
        match dice.choice(("npy", "safetensors", "npz", "json", "csv")):
            case "npy":
                (path := folder / "odd.npy").write_bytes(mutate_bytes(dice, dice.choice(pickled)))
                yield path.name, lambda path=path: reader(lambda: load(path, caffe_pickles.NET))
            case "safetensors":
                data = to_safetensors(flat)
                if dice.random() < 0.6:  # a header of that length, which says something else
                    end = 8 + int.from_bytes(data[:8], "little")
                    header = to_json(mutate_json(dice, json.loads(data[8:end])))
                    data = len(header).to_bytes(8, "little") + header + data[end:]
                else:
                    data = mutate_bytes(dice, data)
                (path := folder / "odd.safetensors").write_bytes(data)
                yield path.name, lambda path=path: reader(lambda: load(path, SMALL))
            case "npz":
                (path := folder / "odd.npz").write_bytes(mutate_bytes(dice, dice.choice(archives)))
                yield path.name, lambda path=path: reader(lambda: dump.values(dump.Archive(path), dumps.NET))
            case "json":
                data = (
                    to_json(mutate_json(dice, stored)) if dice.random() < 0.8 else mutate_bytes(dice, to_json(stored))
                )
                (path := folder / "odd.json").write_bytes(data)
                yield path.name, lambda path=path: command("ingest", "--out", folder / "out", path)
            case "csv":
                (path := folder / "odd.csv").write_bytes(odd_csv(dice))
                kind = dice.choice(("times", "throughput", "history"))
                yield (
                    path.name,
                    lambda path=path, kind=kind: command("plot", "--kind", kind, "--output", folder / "x.svg", path),
                )


def odd_csv(dice: random.Random) -> bytes:
    """A summary.csv with odd cells, headers or bytes."""
    rows = [dict(ROW, case_id=str(number), batch=2**number) for number in range(4)]
    for _ in range(dice.randrange(4)):
        row = dice.choice(rows)
        row[dice.choice(list(row))] = dice.choice(ODD)
    header = list(ROW)
    if dice.random() < 0.3:
        header[dice.randrange(len(header))] = dice.choice((*header, "", str(dice.choice(ODD))))
    writer = csv.writer(file := io.StringIO(), delimiter=dice.choice(",,;\t"))
    writer.writerow(header)
    writer.writerows([row.values() for row in rows])
    data = file.getvalue().encode("utf-8", "surrogatepass")
    return mutate_bytes(dice, data) if dice.random() < 0.3 else data


KINDS = {"runs": of_runs, "options": of_options, "files": of_files}


def drive(kind: str, count: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Figures of ``count`` cases: how they ended, the slowest in s, and the growth of memory in MiB."""
    folder.mkdir(parents=True, exist_ok=True)
    dice, ends, slowest, before = random.Random(f"{seed} {kind}"), Counter[str](), 0.0, 0
    signal.signal(signal.SIGALRM, _hang)
    for number, (name, attempt) in zip(range(count + WARM), KINDS[kind](dice, folder), strict=False):
        if number == WARM:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        signal.alarm(LIMIT_S)
        try:
            attempt()
            end = "read"
        except Refused:
            end = "refused"
        except (Hang, Exception) as error:
            end = "hangs" if isinstance(error, Hang) else "tracebacks"
            shutil.copytree(folder, folder.with_name(f"{folder.name}-{number}"))
            print(f"\n{kind} {number}: {name}", file=sys.stderr)
            traceback.print_exc()
        signal.alarm(0)
        ends[end] += number >= WARM or end in ("hangs", "tracebacks")
        slowest = max(slowest, time.monotonic() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"tracebacks": 0, "hangs": 0} | ends | {"slowest_s": round(slowest, 1), "memory_mib": round(grown)}


def _hang(*args: object) -> None:
    raise Hang


if __name__ == "__main__":
    print(json.dumps(drive(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))))
