"""The command line of a request is parsed into that request again."""

import dataclasses

import pytest

from bench.commands.cli import parse_words
from bench.commands.requests import RunRequest
from bench.commands.words import words_of

#: A value of each option of `run`, as a user writes it.
GIVEN = {
    "variant": ["--variant", "owt,half_width"],
    "framework": ["--framework", "null,torch"],
    "mode": ["--mode", "noop,part"],
    "device": ["--device", "cpu,cuda:1"],
    "threads": ["--threads", "3"],
    "python": ["--python", "torch=/bin/sh", "--python", "jax=/bin/sh"],
    "env": ["--env", "A=b=c, d", "--env", "EMPTY="],
    "worker_limit_s": ["--worker-limit", "1.1"],
    "size": ["--size", "67"],
    "seed": ["--seed", "7"],
    "precision": ["--precision", "fp32,bf16"],
    "layout": ["--layout", "nchw"],
    "lrn": ["--lrn", "native,fast"],
    "net": ["--net", "a b.py:make", "--net", "package.module:Net"],
    "input": ["--input", "3x64x64"],
    "loaders": ["--loaders", "0,2"],
    "preprocessing": ["--preprocessing", "caffe"],
    "devices": ["--devices", "1,2"],
    "scaling": ["--scaling", "strong"],
    "split": ["--split", "data,towers"],
    "nodes": ["--nodes", "n1=10.0.0.1,n2"],
    "launch": ["--launch", "srun -N1 -w {node}"],
    "oversubscribe": ["--oversubscribe"],
    "preset": ["--preset", "equal,default"],
    "batch": ["--batch", "1,8"],
    "pass_": ["--pass", "forward,train_step"],
    "rounds": ["--rounds", "3"],
    "burn_in": ["--burn-in", "2"],
    "iterations": ["--iterations", "4"],
    "no_gate": ["--no-gate"],
    "max_time_s": ["--max-time", "290"],
    "target_ci": ["--target-ci", "2.3"],
    "ab": ["--ab", "threads=1,2"],
    "dropout": ["--dropout"],
    "protocol": ["--protocol", "classic"],
    "weights": ["--weights", "-odd name.npy"],
    "out": ["--out", "else where"],
    "name": ["--name", "-x"],
    "resume": ["--resume", "results/a"],
    "dry_run": ["--dry-run"],
    "as_json": ["--json"],
}
TWICE = {"shard"}  # given by whoever measures one


def test_every_option_of_run_is_tried():
    assert GIVEN.keys() | TWICE == {field.name for field in dataclasses.fields(RunRequest)}


@pytest.mark.parametrize("field", GIVEN)
def test_the_words_of_an_option_are_parsed_to_its_value(field):
    request = parse_words("run", GIVEN[field])
    assert getattr(request, field) != getattr(RunRequest(), field)
    words = words_of(request)
    assert parse_words("run", words) == request
    assert all(word.startswith("--") for word in words)


def test_all_options_together():
    given = [word for words in GIVEN.values() for word in words]
    assert parse_words("run", words_of(parse_words("run", given))) == parse_words("run", given)


@pytest.mark.parametrize("percent", ["2", "0.7", "5%", "33.3", "2.9000000001"])
def test_a_percentage_is_exact(percent):
    request = parse_words("run", ["--target-ci", percent])
    assert parse_words("run", words_of(request)) == request


def test_a_request_at_its_defaults_has_no_words():
    assert words_of(RunRequest()) == []
