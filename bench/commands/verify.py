"""`verify`: compare logits, loss and every gradient of each framework with the float64 reference; nothing is timed.

The values can be written to a file for other implementations, and a file of theirs can replace the reference.
"""

import dataclasses
import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import UsageError
from bench.cases.case import Case, check_size
from bench.cases.passes import offered_passes, proven_with
from bench.commands import port
from bench.commands.plan import (
    choose_frameworks,
    choose_precisions,
    plain_cases,
    read_weights,
    refuse_input,
    worker_settings,
)
from bench.commands.requests import VerifyRequest
from bench.controller import dump, gate, parity
from bench.controller.parity import Judged
from bench.controller.pool import WorkerPool, preflight
from bench.controller.settings import WorkerSettings, build_of, build_request
from bench.controller.worker_process import WorkerDied
from bench.output import console, verify_table
from bench.output.verify_table import Against, CaseCheck, VerifiedWorker
from bench.worker import messages
from bench.worker.messages import ProbePrecision, ReadConditions
from bench.worker.replies import Check, CheckKind, Output
from impls import weights
from impls.files import open_whole
from impls.variants import VARIANTS, Variant


def main(request: VerifyRequest) -> int:
    if request.net:
        refuse_unwritable("--save-map", request.save_map)
        return port.main(request)
    if request.map or request.save_map:
        raise UsageError("--map and --save-map: expected two --net")
    refuse_input(request, ())
    against, request = read_against(request)
    given = read_weights(request.weights, request.variant, request.size, dict(request.python))
    cases = plain_cases(request, choose_frameworks(request), request.variant, batch=request.batch or 2)
    refuse_targets(request, cases)
    settings = worker_settings(request, given)
    preflight(cases, settings)
    verification = Verification(settings, against, request.dump, request.save_weights)
    checks = list(verification.checks(cases))
    ok = all(row.check.ok for row in checks)
    for path in (path for path in (request.dump, request.save_weights) if path):
        console.tell(f"wrote {path}" if ok else f"{path} is not written: its values are not equal to the reference")
    if request.as_json:
        console.print_json(verify_table.as_json(checks, verification.workers, against))
    else:
        verify_table.print_checks(checks, against)
        verify_table.print_conditions(verification.workers)
    return 0 if ok else 1


def refuse_targets(request: VerifyRequest, cases: Sequence[Case]) -> None:
    """UsageError for a --dump or --save-weights that cannot be written or would hold several nets; before any work."""
    target, weights_target = request.dump, request.save_weights
    refuse_unwritable("--dump", target)
    refuse_unwritable("--save-weights", weights_target)
    if target and len(cases) != 1:
        found = ", ".join(f"{case.variant} on {case.worker} in {case.precision}" for case in cases[:3])
        more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
        raise UsageError(f"--dump: expected one --variant, --framework and --precision, found {found}{more}")
    variants = list(dict.fromkeys(case.variant for case in cases))
    if weights_target and len(variants) != 1:
        raise UsageError(f"--save-weights: expected one --variant, found {', '.join(variants)}")
    if weights_target and weights_target.suffix != ".safetensors":
        raise UsageError(f"--save-weights: expected a name that ends in .safetensors, found {weights_target.name}")
    if target and target == weights_target:
        raise UsageError(f"--dump and --save-weights: expected two files, found {target} for both")


def refuse_unwritable(option: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with open_whole(path.with_name(path.name + ".try")):
            pass
        path.with_name(path.name + ".try").unlink()
    except OSError as error:
        raise UsageError(f"{option}: cannot write {path}: {error.strerror or error}; choose another file") from error


def read_against(request: VerifyRequest) -> tuple[Against | None, VerifyRequest]:
    """The file of --against, and the request with the batch and size of its input."""
    if request.against is None:
        return None, request
    if len(request.variant) != 1:
        raise UsageError(f"--against: expected one --variant, found {', '.join(request.variant)}")
    if len(precisions := choose_precisions(request)) != 1:
        raise UsageError(f"--against: expected one --precision, the file's own, found {request.precision}")
    for name in ("batch", "size", "weights"):
        if getattr(request, name) is not None:
            raise UsageError(f"--{name}: leave it out, the file of --against brings its own input and weights")
    path = request.against
    archive = dump.Archive(path)
    images = archive.headers.get("input")
    if images and len(images.shape) == 4 and images.shape[0]:
        request = dataclasses.replace(request, batch=images.shape[0], size=images.shape[1])
    check_size(request.variant, request.size)
    net = VARIANTS[request.variant[0]].resized(request.size)
    return Against(path.name, dump.values(archive, net), precisions[0]), request


@dataclass
class Verification:
    """Runs the checks, with one Worker per framework and mode and one reference per variant."""

    settings: WorkerSettings
    against: Against | None
    target: Path | None
    weights_target: Path | None
    workers: list[VerifiedWorker] = field(default_factory=list)

    def checks(self, cases: Sequence[Case]) -> Iterator[CaseCheck]:
        """Every check of every Case, each over a whole array."""
        with WorkerPool(self.settings) as pool:
            for alike, folder in pool.by_variant(cases):
                names = ", ".join(dict.fromkeys(case.framework for case in alike))
                reference = self.against.name if self.against else "float64"
                console.tell(f"{alike[0].variant}: {names} against {reference}")
                yield from self._check_variant(alike, pool, folder)

    def _check_variant(self, cases: Sequence[Case], pool: WorkerPool, folder: Path) -> Iterator[CaseCheck]:
        parity_set = self._parity_set(cases[0], folder)
        if not parity_set.tie_free and any(case.precision == "fp32" for case in cases):
            why = "its input is not tie-free" if self.against else f"no tie-free images in {parity.DRAWS} draws"
            console.tell(f"{cases[0].variant}: {why}: gradients get the loose limits")
        proven, compared = True, set[Case]()  # several precisions have the proof in fp32 in common
        if parity_set.unshipped:
            console.tell(
                f"{cases[0].variant}: the reference values that come with alexnet-bench are missing, or of other "
                "layers, weights or images: run computes them"
            )
        if parity_set.stale:
            what = f"reference {', '.join(parity_set.stale[:3])}: shipped with alexnet-bench, not the value computed"
            yield CaseCheck(cases[0], Judged(CheckKind.FAULT, what, None, None, False))
        for case in cases:
            for proof in parity_set.proofs(case.batch, case.precision):
                proof_case = dataclasses.replace(case, precision=proof.precision, batch=proof.batch)
                if proof_case in compared:
                    continue
                compared.add(proof_case)
                try:
                    values = self._values(proof_case, pool, parity_set.folder, proof.target)
                    checks = parity.judge(values, proof.limits) + self._condition_faults(proof_case, pool)
                except WorkerDied as died:
                    yield CaseCheck(proof_case, Judged(CheckKind.FAULT, died.reason, None, None, False))
                    proven = False
                    break
                proven = proven and all(check.ok for check in checks)
                if proof_case == case and proven and self.target:
                    self._dump(parity_set.folder)
                yield from (CaseCheck(proof_case, check) for check in checks)
        if proven and self.weights_target:
            self._save_weights(cases[0].net, parity_set.folder)

    def _parity_set(self, case: Case, folder: Path) -> parity.ParitySet:
        if self.against:
            parity_set, self.against.checks = parity.adopt(case.net, folder, self.against.values, case.precision)
            return parity_set
        weights = self.settings.given.arrays if self.settings.given else None
        return parity.prepare(
            case.net, folder, batch=case.batch, seed=case.seed, weights=weights, whole=True, labeled=True
        )

    def _values(self, case: Case, pool: WorkerPool, folder: Path, target: str) -> list[Check]:
        keep = folder / "values"
        keep.mkdir(exist_ok=True)
        passes = [name for name, each in offered_passes().items() if not (self.against and each.updates)]
        pool.ask(case, build_request(case, folder, passes=passes))
        kept = str(keep) if self.target else None
        outputs = [Output(each.proof) for each in proven_with(passes)]
        return pool.ask(case, messages.Verify(outputs, thorough=True, target=target, keep=kept)).checks

    def _condition_faults(self, case: Case, pool: WorkerPool) -> list[Judged]:
        """Record what is in force, once per Worker and precision; a failed check per fault."""
        key = (case.worker, case.precision)
        if any((worker.case.worker, worker.case.precision) == key for worker in self.workers):
            return []
        conditions = pool.ask(case, ReadConditions())
        probes = pool.ask(case, ProbePrecision(build_of(case)))
        self.workers.append(VerifiedWorker(case, pool.worker(case).ready().versions, probes, conditions))
        faults = (
            gate.precision_fault(case, probes),
            gate.place_fault(case, case.threads or self.settings.threads, conditions),
        )
        return [Judged(CheckKind.CONDITIONS, fault, None, None, False) for fault in faults if fault]

    def _dump(self, folder: Path) -> None:
        assert self.target
        dump.write(
            self.target, np.load(folder / "values/input.npy"), weights.map_shared(folder / "weights"), folder / "values"
        )

    def _save_weights(self, net: Variant, folder: Path) -> None:
        assert self.weights_target
        try:
            facts = {"variant": net.name, "size": str(net.input_size)}
            weights.save(weights.map_shared(folder / "weights"), self.weights_target, metadata=facts)
        except (OSError, weights.WeightsError) as error:
            raise UsageError(f"--save-weights: cannot write {self.weights_target}: {error}") from error
