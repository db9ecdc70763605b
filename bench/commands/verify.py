"""`verify`: logits, loss and every gradient of each framework, held against the float64 reference; nothing is timed.

What was found can be kept in a file for other implementations, and theirs can take the reference's place.
"""

import dataclasses
import errno
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from bench import UsageError
from bench.cases.case import Case
from bench.cases.passes import PASSES, proven_with
from bench.commands.plan import choose_frameworks, choose_precisions, plain_cases, read_weights, worker_settings
from bench.commands.requests import VerifyRequest
from bench.controller import dump, gate, parity
from bench.controller.parity import Judged
from bench.controller.pool import WorkerPool, preflight
from bench.controller.settings import WorkerSettings, build_of, build_request
from bench.controller.worker_process import WorkerDied
from bench.output import console
from bench.worker import messages
from bench.worker.messages import ProbePrecision, ReadConditions
from bench.worker.replies import Check, CheckKind, Output
from impls import weights
from impls.files import open_whole
from impls.variants import VARIANTS


@dataclass
class Theirs:
    """The file of --against: its name and values, and how those stand against float64."""

    name: str
    values: dump.Values
    checks: list[dict[str, Any]] = field(default_factory=list)


def main(request: VerifyRequest) -> int:
    theirs, request = read_against(request)
    given = read_weights(request.weights, request.variant, request.size)
    cases = plain_cases(request, choose_frameworks(request), request.variant, batch=request.batch or 2)
    target, weights_target = targets(request, cases)
    conditions = worker_settings(request, given)
    preflight(cases, conditions)
    verified = Verify(conditions, theirs, target, weights_target)
    checks = list(verified.checks(cases))
    ok = all(check["ok"] for check in checks)
    for path in (path for path in (target, weights_target) if path):
        console.tell(
            f"wrote {path}" if ok else f"{path} is not written: what it would hold is not equal to the reference"
        )
    if request.as_json:
        beside = {"against": {"file": theirs.name, "checks": theirs.checks}} if theirs else {}
        console.print_json({"checks": checks, "workers": verified.workers} | beside)
    else:
        verify_table(checks, theirs.name if theirs else None, theirs.checks if theirs else ())
        conditions_lines(verified.workers)
    return 0 if ok else 1


def targets(request: VerifyRequest, cases: Sequence[Case]) -> tuple[Path | None, Path | None]:
    """The files of --dump and --save-weights, which hold one Net; what is wrong with them is said before anything is
    computed."""
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
    return target, weights_target


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


def read_against(request: VerifyRequest) -> tuple[Theirs | None, VerifyRequest]:
    """The file of --against, and the request with the batch and size of its input; its weights are used."""
    if request.against is None:
        return None, request
    if len(request.variant) != 1:
        raise UsageError(f"--against: expected one --variant, found {', '.join(request.variant)}")
    if len(choose_precisions(request)) != 1:
        raise UsageError(f"--against: expected one --precision, the file's own, found {request.precision}")
    for name in ("batch", "size", "weights"):
        if getattr(request, name) is not None:
            raise UsageError(f"--{name}: leave it out, the file of --against brings its own input and weights")
    path = request.against
    arrays = dump.read(path)
    images = arrays.get("input")
    if images is not None and images.ndim == 4 and len(images):
        request = dataclasses.replace(request, batch=len(images), size=images.shape[1])
    net = VARIANTS[request.variant[0]].resized(request.size)
    return Theirs(path.name, dump.values(arrays, net, path.name)), request


class Verify:
    """One Worker a framework and mode, the reference once a variant."""

    def __init__(
        self,
        conditions: WorkerSettings,
        theirs: Theirs | None = None,
        target: Path | None = None,
        weights_target: Path | None = None,
    ):
        self.conditions, self.theirs, self.target, self.weights_target = conditions, theirs, target, weights_target
        self.workers: list[dict[str, Any]] = []

    def checks(self, cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
        """Every check of every Case, the whole of each array.

        A row is variant, framework, mode, precision, batch, what, kind, error (relative L2; None where there is none),
        tolerance, ok.
        """
        with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
            with WorkerPool(self.conditions, Path(scratch) / "workers") as crew:
                for variant in dict.fromkeys(case.variant for case in cases):
                    here = [case for case in cases if case.variant == variant]
                    names = ", ".join(dict.fromkeys(case.framework for case in here))
                    console.tell(f"{variant}: {names} against {self.theirs.name if self.theirs else 'float64'}")
                    with tempfile.TemporaryDirectory(dir=scratch) as folder:
                        yield from self._of_variant(here, crew, Path(folder))

    def _of_variant(self, cases: Sequence[Case], crew: WorkerPool, folder: Path) -> Iterator[dict[str, Any]]:
        parity_set = self._parity_set(cases[0], folder)
        if not parity_set.tie_free and any(case.precision == "fp32" for case in cases):
            why = "its input comes nearer to a tie" if self.theirs else f"no tie-free images in {parity.DRAWS} draws"
            console.tell(f"{cases[0].variant}: {why}: gradients get the loose limits")
        proven = True
        for case in cases:
            for proof in parity_set.proofs(case.batch, case.precision):
                one = dataclasses.replace(case, precision=proof.precision, batch=proof.batch)
                axes = ("variant", "framework", "mode", "worker", "precision", "batch")
                identity = {name: getattr(one, name) for name in axes}
                try:
                    checks = parity.judge(self._values(one, crew, parity_set.folder, proof.target), proof.limits)
                    checks += self._conditions(one, crew)
                except WorkerDied as died:
                    yield identity | dataclasses.asdict(Judged(CheckKind.FAULT, died.reason, None, None, False))
                    proven = False
                    break
                proven = proven and all(check.ok for check in checks)
                if one == case and proven and self.target:
                    self._dump(parity_set.folder, case.batch)
                yield from (identity | dataclasses.asdict(check) for check in checks)
        if proven and self.weights_target:
            self._save_weights(parity_set.folder)

    def _parity_set(self, case: Case, folder: Path) -> parity.ParitySet:
        if self.theirs:
            parity_set, checks = parity.adopt(case.net, folder, self.theirs.values, case.precision)
            self.theirs.checks = [dataclasses.asdict(check) | {"precision": case.precision} for check in checks]
            return parity_set
        given = self.conditions.given
        weights = given.arrays if given else None
        return parity.prepare(case.net, folder, batch=case.batch, seed=case.seed, weights=weights)

    def _values(self, case: Case, crew: WorkerPool, folder: Path, target: str) -> list[Check]:
        keep = folder / "values"
        keep.mkdir(exist_ok=True)
        crew.ask(case, build_request(case, folder))
        kept = str(keep) if self.target else None
        outputs = [Output(each.proof) for each in proven_with(PASSES)]
        return crew.ask(case, messages.Verify(outputs, thorough=True, target=target, keep=kept)).checks

    def _conditions(self, case: Case, crew: WorkerPool) -> list[Judged]:
        """Once a Worker and precision: what it really computes with, kept; a check for each fault."""
        where = {name: getattr(case, name) for name in ("framework", "mode", "worker", "precision")}
        if any(where.items() <= worker.items() for worker in self.workers):
            return []
        conditions = crew.ask(case, ReadConditions())
        probes = crew.ask(case, ProbePrecision(build_of(case)))
        self.workers.append(
            where
            | {
                "versions": crew.worker(case).ready().versions,
                "precision_found": {what: dataclasses.asdict(probe) for what, probe in probes.items()},
                "conditions": dataclasses.asdict(conditions),
            }
        )
        faults = (
            gate.precision_fault(case, probes),
            gate.place_fault(case, case.threads or self.conditions.threads, conditions),
        )
        return [Judged(CheckKind.CONDITIONS, fault, None, None, False) for fault in faults if fault]

    def _dump(self, folder: Path, batch: int) -> None:
        assert self.target
        base = np.load(folder / "images.npy")
        images = np.tile(base, (batch // len(base), 1, 1, 1))
        dump.write(self.target, images, weights.map_shared(folder / "weights"), folder / "values")

    def _save_weights(self, folder: Path) -> None:
        assert self.weights_target
        try:
            weights.save(weights.map_shared(folder / "weights"), self.weights_target)
        except (OSError, weights.WeightsError) as error:
            raise UsageError(f"--save-weights: cannot write {self.weights_target}: {error}") from error


def verify_table(
    checks: Sequence[Mapping[str, Any]], against: str | None = None, theirs: Sequence[Mapping[str, Any]] = ()
) -> None:
    """One table a precision, one row a variant, framework and batch: the worst error of each kind.

    ``against`` names the file that stood in for the reference, ``theirs`` are its own checks.
    """
    out = console.console()
    for precision in dict.fromkeys(check["precision"] for check in checks):
        title = f"{precision}: relative L2 error against {against or 'float64'}, worst array of its kind"
        groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for check in checks:
            if check["precision"] == precision:
                name = check["worker"].replace("-", " ")
                groups.setdefault((check["variant"], name, str(check["batch"])), []).append(check)
        here = [check for check in (*checks, *theirs) if check["precision"] == precision]
        norms = {check["kind"]: check["tolerance"] for check in here if check["kind"] == "norm"}
        table, limits = (
            console.new_table(title),
            parity.LIMITS[precision] | norms,
        )  # a norm is judged where a gradient may move far
        for heading in ("variant", "framework", "batch", *(f"{kind}\n≤ {limit:.0e}" for kind, limit in limits.items())):
            table.add_column(heading, no_wrap=True)
        table.add_column("", no_wrap=True)
        for who, mine in groups.items():
            table.add_row(*who, *(_worst(mine, kind, usual) for kind, usual in limits.items()), _verdict(mine))
        own = [check for check in theirs if check["precision"] == precision]
        if own:
            table.add_section()
            cells = (_worst(own, kind, usual) for kind, usual in limits.items())
            table.add_row("", "the file to float64", "", *cells, _verdict(own))
        out.print(table)
    for check in (check for check in theirs if not check["ok"]):
        out.print(f"{against}, against float64: {described(check)}", soft_wrap=True)
    for check in (check for check in checks if not check["ok"]):
        out.print(f"{check['variant']} on {check['worker'].replace('-', ' ')}: {described(check)}", soft_wrap=True)


def described(check: Mapping[str, Any]) -> str:
    """A check that failed, in words."""
    return Judged(**{field.name: check[field.name] for field in dataclasses.fields(Judged)}).description


def _worst(checks: Iterable[Mapping[str, Any]], kind: str, usual: float) -> str:
    """The worst error of a kind, and its limit where that is not the usual one."""
    errors = [(check["error"], check["tolerance"]) for check in checks if check["kind"] == kind]
    if not errors:
        return "-"
    error, tolerance = max(errors, key=lambda one: float("inf") if one[0] is None else one[0] / one[1])
    other = f" ≤ {tolerance:.0e}" if tolerance != usual else ""
    return "none" if error is None else f"{error:.1e}{other}"


def _verdict(checks: Iterable[Mapping[str, Any]]) -> str:
    return "equal" if all(check["ok"] for check in checks) else "DIFFERS"


def conditions_lines(workers: Iterable[Mapping[str, Any]]) -> None:
    """What each Worker really computed with, a line each."""
    out = console.console()
    for worker in workers:
        conditions, precision = worker["conditions"], worker["precision_found"]
        facts = [f"{what} in {one['precision']} ({one['error']:.0e})" for what, one in precision.items()]
        if conditions["threads"]:
            facts.append(f"{conditions['threads']} threads")
        if conditions["onednn"] is not None:
            facts.append(f"oneDNN {('off', 'on')[conditions['onednn']]}")
        facts += [conditions["layout"], conditions["device"].rpartition("device:")[2].lower()]
        version = worker["versions"].get(worker["framework"])
        out.print(
            Text(f"{worker['framework']} {version} {worker['mode']}: {', '.join(facts)}", style="dim"), soft_wrap=True
        )
