"""`verify`: logits, loss and every gradient of each framework, held against the float64 reference; nothing is timed."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench import options, parity, screen
from bench.case import Case
from bench.child import WorkerDied
from bench.crew import Conditions, Crew
from impls.variants import VARIANTS


def main(asked: dict[str, Any]) -> int:
    variants = options.several("variant", asked["variant"], list(VARIANTS))
    cases = options.plain_cases(variants, asked, batch=options.positive("--batch", asked["batch"]))
    found = list(checks(cases, options.conditions(asked)))
    if asked["as_json"]:
        screen.print_json({"checks": found})
    else:
        screen.verify_table(found)
    return 0 if all(check["ok"] for check in found) else 1


def checks(cases: Sequence[Case], conditions: Conditions) -> Iterator[dict[str, Any]]:
    """Every check of every Case, the whole of each array; one Worker a framework, the reference once a variant.

    A row is variant, framework, mode, batch, what, kind, error (relative L2; None where there is none), tolerance, ok.
    """
    with tempfile.TemporaryDirectory(prefix="alexnet-bench-") as scratch:
        with Crew(conditions, Path(scratch) / "workers") as crew:
            for variant in dict.fromkeys(case.variant for case in cases):
                here = [case for case in cases if case.variant == variant]
                screen.tell(f"{variant}: {', '.join(case.framework for case in here)} against float64")
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    yield from _of_variant(here, crew, Path(folder))


def _of_variant(cases: Sequence[Case], crew: Crew, folder: Path) -> Iterator[dict[str, Any]]:
    proof = parity.prepare(cases[0].net, folder, batch=cases[0].batch, seed=cases[0].seed)
    if not proof.tie_free:
        screen.tell(f"{cases[0].variant}: no tie-free images in {parity.DRAWS} draws: gradients get the loose limits")
    for case in cases:
        for batch, limits in proof.proofs(case.batch):
            identity = {"variant": case.variant, "framework": case.framework, "mode": case.mode, "batch": batch}
            try:
                found = crew.ask(case, folder, batch, "verify", what=["logits", "gradients"], thorough=True)["checks"]
            except WorkerDied as died:
                yield identity | {"what": died.reason, "kind": "fault", "error": None, "tolerance": None, "ok": False}
                break
            yield from (identity | check for check in parity.judge(found, limits))
