"""`verify` as a command: weights from files, dumps for other implementations, and theirs held against ours."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from command import NULL, SMALL

from bench.commands.cli import main
from bench.controller import shipped
from impls import reference, weights
from impls.variants import VARIANTS

pytestmark = pytest.mark.process

NET = VARIANTS["half_width"].resized(67)
EXPECTED = "expected float32 or float64 of shape"
FRAMEWORK_LESS = SMALL[2:]  # variant, size and batch


def saved(path, net=NET, seed=7, **changes):
    """Canonical weights in Caffe's layout, with those arrays in place of its own."""
    made = weights.initial(net, seed)
    for key, array in changes.items():
        layer, name = key.split("_")
        made[layer][name] = array
    np.save(path, {layer: [of["kernel"], of["bias"]] for layer, of in made.items()}, allow_pickle=True)  # type: ignore[arg-type]
    return path


def mistake(*args):
    """The one line of a command that was given something wrong."""
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("alexnet-bench: ")


@pytest.fixture(scope="module")
def dumped(tmp_path_factory):
    """What the null Net made of the weights of a file: the file, and its dump."""
    folder = tmp_path_factory.mktemp("dump")
    file, target = saved(folder / "like.npy"), folder / "a.npz"
    result = CliRunner().invoke(main, ["verify", *SMALL, "--weights", str(file), "--dump", str(target), "--json"])
    assert result.exit_code == 0, result.output
    return file, target, json.loads(result.stdout)


class TestDump:
    def test_a_dump_holds_the_input_the_weights_and_all_results(self, dumped):
        _, target, _ = dumped
        with np.load(target) as arrays:
            shapes = {name: arrays[name].shape for name in arrays.files}
        expected = {"input": (2, 67, 67, 3), "logits": (2, 5), "loss": ()}
        for layer, of in weights.shapes(NET).items():
            for name, shape in of.items():
                expected |= {f"weights/{layer}/{name}": shape, f"gradients/{layer}/{name}": shape}
        assert shapes == expected
        assert {member.compress_type for member in zipfile.ZipFile(target).infolist()} == {zipfile.ZIP_STORED}

    def test_a_dump_holds_the_weights_of_the_given_file(self, dumped):
        _, target, _ = dumped
        with np.load(target) as arrays:
            for layer, of in weights.initial(NET, 7).items():
                for name, array in of.items():
                    assert np.array_equal(arrays[f"weights/{layer}/{name}"], array)

    def test_a_dump_of_a_net_that_differs_is_not_written(self, inline, tmp_path):
        target = tmp_path / "bad.npz"
        got = inline("verify", *SMALL, "--mode", "part", "--env", "NULL_NET=wrong", "--dump", str(target))
        assert got.code == 1
        assert "bad.npz is not written: its values are not equal to the reference" in got.err
        assert list(tmp_path.glob("*.npz*")) == []

    def test_a_dump_of_several_nets_is_a_mistake(self, tmp_path):
        words = "--dump: expected one --variant, --framework and --precision, found half_width on null-noop in fp32, "
        args = ("verify", "--framework", "null", "--variant", "half_width", "--mode", "noop,part")
        assert mistake(*args, "--dump", tmp_path / "a.npz").startswith(words)

    def test_a_dump_into_a_missing_folder_is_a_mistake_before_anything_is_computed(self, tmp_path):
        target = tmp_path / "no" / "a.npz"
        words = f"--dump: cannot write {target}: No such file or directory; choose another file"
        assert mistake("verify", *SMALL, "--dump", target) == words
        words = f"--dump: cannot write {tmp_path}: it is a folder; choose another file"
        assert mistake("verify", *SMALL, "--dump", tmp_path) == words

    def test_json_says_what_each_worker_computed_with(self, dumped):
        _, _, got = dumped
        (worker,) = got["workers"]
        assert {"framework", "mode", "worker", "precision", "versions", "precision_found", "conditions"} == set(worker)
        assert worker["worker"] == "null-noop"
        assert worker["precision_found"]["conv"]["precision"] == "fp32"


class TestAgainst:
    def test_a_dump_is_what_it_was_made_of_and_brings_its_own_size_batch_and_weights(self, dumped):
        _, target, _ = dumped
        result = CliRunner().invoke(
            main, ["verify", "--variant", "half_width", "--framework", "null", "--against", str(target), "--json"]
        )
        assert result.exit_code == 0, result.output
        got = json.loads(result.stdout)
        assert {check["tolerance"] for check in got["checks"] if check["kind"] == "gradient"} == {
            1e-4
        }  # tie-free still
        assert max(check["error"] for check in got["checks"]) < 1e-6
        assert got["against"]["file"] == "a.npz"
        assert all(check["ok"] for check in got["against"]["checks"])

    def test_what_differs_is_named_and_the_file_is_held_against_float64_too(self, dumped, tmp_path):
        _, target, _ = dumped
        with np.load(target) as arrays:
            changed = {name: arrays[name] for name in arrays.files}
        changed["gradients/conv2/bias"] = changed["gradients/conv2/bias"] * np.float32(1.001)
        np.savez(tmp_path / "theirs.npz", **changed)
        result = CliRunner().invoke(
            main,
            ["verify", "--variant", "half_width", "--framework", "null", "--against", str(tmp_path / "theirs.npz")],
        )
        assert result.exit_code == 1
        assert "half_width on null noop: gradient conv2/bias: off by 1.0e-03, allowed 1e-04" in result.stdout
        (own,) = [line for line in result.stdout.splitlines() if "the file to float64" in line]
        assert own.rstrip().endswith("DIFFERS")
        words = "theirs.npz, against float64: gradient conv2/bias: off by 1.0e-03, allowed 1e-04"
        assert words in result.stdout

    @pytest.mark.parametrize(
        ("key", "array", "words"),
        [
            ("logits", np.zeros((2, 6), np.float32), f"logits: {EXPECTED} (2, 5), found shape (2, 6)"),
            ("loss", None, f"loss: {EXPECTED} (), found nothing"),
            (
                "gradients/conv1/bias",
                np.full(48, np.nan, np.float32),
                f"gradients/conv1/bias: {EXPECTED} (48,), found 48 of 48 values NaN or infinite",
            ),
            ("weights/fc9/bias", None, "weights: fc9/bias: expected float32 of shape (5,), found nothing"),
            (
                "input",
                np.zeros((0, 67, 67, 3), np.float32),
                "input: expected float32 of shape (n, 224, 224, 3), found shape (0, 67, 67, 3)",
            ),
            ("extra", np.zeros(1), "extra: not an array of a dump of half_width; see `verify --dump`"),
        ],
    )
    def test_a_file_that_is_not_a_dump_of_the_variant_says_what_is_wrong(self, dumped, tmp_path, key, array, words):
        _, target, _ = dumped
        with np.load(target) as arrays:
            changed = {name: arrays[name] for name in arrays.files} | {key: array}
        np.savez(tmp_path / "b.npz", **{name: value for name, value in changed.items() if value is not None})
        args = ("verify", "--variant", "half_width", "--framework", "null", "--against", tmp_path / "b.npz")
        assert mistake(*args) == f"b.npz: {words}"

    @pytest.mark.parametrize("given", [("--batch", "2"), ("--size", "67"), ("--weights", "x.npy")])
    def test_what_the_file_brings_cannot_be_asked_for_too(self, dumped, given):
        words = f"{given[0]}: leave it out, the file of --against brings its own input and weights"
        assert mistake("verify", "--variant", "half_width", "--against", dumped[1], *given) == words

    def test_against_a_dump_of_another_variant_is_a_mistake(self, dumped):
        words = mistake("verify", "--variant", "owt", "--framework", "null", "--against", dumped[1])
        assert words == "a.npz: weights/fc9/bias: not an array of a dump of owt; see `verify --dump`"

    @pytest.mark.slow
    def test_under_loose_limits_too_the_side_that_is_off_is_named(self, tmp_path):
        """Random images are seldom tie-free: a gradient may be off by 5e-2, its length by 5e-3 only."""
        args = ("verify", "--framework", "null", "--variant", "half_width")
        dumped = tmp_path / "a.npz"
        first = CliRunner().invoke(main, [*args, "--size", "67", "--batch", "2", "--dump", str(dumped)])
        assert first.exit_code == 0, first.output
        with np.load(dumped) as arrays:
            changed = {name: arrays[name] for name in arrays.files}
        made = weights.initial(NET)
        near = reference.forward(NET, made, changed["input"], training=True).inputs[1][0, 3, 3, 0]
        changed["weights/conv1/bias"] = made["conv1"]["bias"] - np.float32(near) * np.eye(48, dtype=np.float32)[0]
        trace = reference.forward(NET, made | {"conv1": {**made["conv1"], "bias": changed["weights/conv1/bias"]}},
                                  changed["input"], training=True)  # fmt: skip
        theirs = made | {"conv1": {**made["conv1"], "bias": changed["weights/conv1/bias"]}}
        changed |= {"logits": trace.logits, "loss": np.array(reference.loss(trace.logits))}
        for layer, of in reference.gradients(NET, theirs, trace).items():
            changed |= {f"gradients/{layer}/{name}": array for name, array in of.items()}
        changed["gradients/conv3/kernel"] = changed["gradients/conv3/kernel"] * 1.03
        np.savez(tmp_path / "b.npz", **changed)
        result = CliRunner().invoke(main, [*args, "--against", str(tmp_path / "b.npz")])
        assert result.exit_code == 1
        assert "its input is not tie-free: gradients get the loose limits" in result.stderr
        words = "norm of gradient conv3/kernel: off by 3.0e-02, allowed 5e-03"
        assert f"b.npz, against float64: {words}" in result.stdout

    @pytest.mark.slow
    def test_a_dump_in_bf16_is_held_against_in_bf16(self, tmp_path):
        args = ("verify", "--framework", "null", "--variant", "half_width", "--precision", "bf16")
        dumped = str(tmp_path / "low.npz")
        first = CliRunner().invoke(main, [*args, "--size", "67", "--dump", dumped])
        assert first.exit_code == 0, first.output
        second = CliRunner().invoke(main, [*args, "--against", dumped, "--json"])
        assert second.exit_code == 0, second.output
        got = json.loads(second.stdout)
        assert max(check["error"] for check in got["checks"] if check["precision"] == "bf16") < 1e-6
        assert max(check["error"] for check in got["against"]["checks"]) > 1e-3  # against float64 it is what it is
        assert mistake(*args[:-1], "fp32,bf16", "--against", dumped).startswith("--against: expected one --precision")

    def test_against_with_two_variants_is_a_mistake(self, dumped):
        words = "--against: expected one --variant, found owt, bvlc"
        assert mistake("verify", "--variant", "owt,bvlc", "--against", dumped[1]) == words


class TestWeights:
    def test_a_run_is_of_the_files_weights_and_says_so(self, inline, dumped):
        file, _, _ = dumped
        run = inline("run", *NULL, "--weights", str(file))
        assert run.code == 0, run.err
        (head,) = run.of("run")
        assert head["weights"]["file"] == "like.npy"
        assert len(head["weights"]["sha256"]) == 64
        assert {turn["case_id"].rpartition("-")[2] for turn in run.of("turn")} == {"w" + head["weights"]["sha256"][:8]}

    @pytest.mark.parametrize("name", ["run", "verify"])
    def test_weights_that_do_not_fit_name_the_layer(self, tmp_path, name):
        file = saved(tmp_path / "w.npy", conv3_kernel=np.zeros((3, 3, 64, 192), np.float32))
        words = (
            "--weights: w.npy: conv3/kernel: expected float32 of shape (3, 3, 128, 192), found shape (3, 3, 64, 192)"
        )
        assert mistake(name, *SMALL, "--weights", file) == words

    def test_weights_must_fit_every_variant(self, tmp_path):
        file = saved(tmp_path / "w.npy")
        words = mistake(
            "verify", "--framework", "null", "--variant", "half_width,owt", "--size", "67", "--weights", file
        )
        assert words.startswith("--weights: w.npy: fc9/kernel: not an array of owt; expected conv1/bias, conv1/kernel")

    def test_a_hostile_pickle_is_refused_and_nothing_in_it_runs(self, tmp_path):
        class Hostile:
            def __reduce__(self):
                return open, (str(tmp_path / "ran"), "w")

        for file, write in (("a.npy", np.save), ("bare.npy", lambda path, it: path.write_bytes(pickle.dumps(it)))):
            write(tmp_path / file, {"conv1": [np.zeros(1, np.float32), Hostile()]})
            words = mistake("verify", *SMALL, "--weights", tmp_path / file)
            assert (
                words
                == f"--weights: {file}: refused: its pickle asks for io.open; expected numpy arrays and nothing else"
            )
        assert not (tmp_path / "ran").exists()

    def test_a_safetensors_file_is_written_and_read_back(self, dumped, tmp_path):
        file, _, _ = dumped
        target = tmp_path / "w.safetensors"
        first = CliRunner().invoke(main, ["verify", *SMALL, "--weights", str(file), "--save-weights", str(target)])
        assert first.exit_code == 0, first.output
        assert f"wrote {target}" in first.stderr
        words = f"--dump and --save-weights: expected two files, found {target} for both"
        assert mistake("verify", *SMALL, "--dump", target, "--save-weights", target) == words
        words = "--save-weights: expected a name that ends in .safetensors, found w.npy"
        assert mistake("verify", *SMALL, "--save-weights", tmp_path / "w.npy") == words
        for layer, of in weights.initial(NET, 7).items():
            for name, array in of.items():
                assert np.array_equal(weights.load(target, NET)[layer][name], array)
        second = CliRunner().invoke(main, ["verify", *SMALL, "--weights", str(target)])
        assert second.exit_code == 0, second.output

    def test_weights_are_not_written_where_one_framework_differs(self, inline, tmp_path):
        target = tmp_path / "w.safetensors"
        args = ("--mode", "noop,part", "--env", "NULL_NET=wrong", "--save-weights", str(target))
        got = inline("verify", *SMALL, *args)
        assert got.code == 1
        assert "w.safetensors is not written" in got.err
        assert list(tmp_path.glob("w.*")) == []

    def test_weights_of_several_variants_cannot_be_one_file(self, tmp_path):
        args = ("verify", "--framework", "null", "--variant", "owt,bvlc", "--save-weights", tmp_path / "w.safetensors")
        assert mistake(*args) == "--save-weights: expected one --variant, found owt, bvlc"


def test_a_shipped_reference_with_other_values_fails(inline, monkeypatch):
    old = shipped.load
    monkeypatch.setattr(shipped, "load", lambda *args: old(*args) | {"loss": np.ones(2)})
    got = inline("verify", "--framework", "null", "--variant", "half_width")
    assert got.code == 1
    assert "loss: shipped with alexnet-bench, not the value computed" in got.out


def test_two_devices_are_a_mistake():
    assert mistake("verify", *SMALL, "--device", "cpu,cuda") == "--device: expected one, found cpu, cuda"


class TestPrecision:
    def test_bf16_is_proven_after_the_same_net_in_fp32(self):
        args = ("--framework", "null", *FRAMEWORK_LESS[:-2], "--batch", "4")
        result = CliRunner().invoke(main, ["verify", *args, "--precision", "bf16", "--json"])
        assert result.exit_code == 0, result.output
        got = json.loads(result.stdout)
        proofs = dict.fromkeys((check["precision"], check["batch"]) for check in got["checks"])
        assert list(proofs) == [("fp32", 2), ("bf16", 4)]
        assert {check["kind"] for check in got["checks"] if check["precision"] == "bf16"} >= {"gradient", "norm"}
        found = {worker["precision"]: worker["precision_found"]["matmul"]["precision"] for worker in got["workers"]}
        assert found == {"fp32": "fp32", "bf16": "bf16"}

    def test_tf32_on_the_cpu_is_a_mistake(self):
        words = "precision 'tf32' asked for, which only cuda has: choose fp32 or bf16 on the cpu"
        assert mistake("verify", *SMALL, "--precision", "tf32") == words
        assert mistake("run", *SMALL, "--precision", "fp32,tf32") == words

    def test_what_precisions_have_in_common_is_compared_once(self):
        args = ["verify", *SMALL, "--precision", "fp32,bf16", "--json"]
        checks = json.loads(CliRunner().invoke(main, args).stdout)["checks"]
        keys = [(each["precision"], each["batch"], each["kind"], each["what"]) for each in checks]
        assert {"fp32", "bf16"} == {precision for precision, *_ in keys}
        assert len(set(keys)) == len(keys)

    def test_a_worker_that_computes_in_another_precision_is_named(self, inline):
        got = inline("verify", *SMALL, "--mode", "part", "--env", "NULL_NET=low")
        assert got.code == 1
        assert "half_width on null part: asked for fp32, but a matmul ran in bf16 precision (off by 2" in got.out

    @pytest.mark.slow
    def test_a_run_in_bf16_is_timed_within_its_own_limits(self, inline):
        run = inline("run", *NULL, "--precision", "fp32,bf16", "--json")
        assert run.code == 0, run.err
        rows = {row["precision"]: row for row in json.loads(run.out)["cases"]}
        assert rows["bf16"]["precision_conv"] == "bf16"
        assert rows["fp32"]["parity_logits"] < 1e-6 < 1e-3 < rows["bf16"]["parity_logits"]
        for worker in (each for each in run.of("worker") if not each["round"]):  # later ones are not proven in full
            assert worker["parity_fp32"]["logits"] < 1e-5
