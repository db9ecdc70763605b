"""Protocol: how a Run measures, frozen and hashed; every number that shapes a sample is a field here."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def option(default: Any, scale: float = 1) -> Any:
    """A field that the option of its name sets (--max-time of ``max_time_s``), in units of which ``scale`` make 1."""
    return dataclasses.field(default=default, metadata={"scale": scale})


@dataclass(frozen=True, slots=True)
class Protocol:
    """Turn by turn in Rounds, unless ``paired`` is False (the classic protocol: one framework after the other)."""

    name: str = "rounds"
    rounds: int = option(5)
    burn_in: int = option(10)
    """The floor; never fewer. With ``gate`` a series burns in until it is steady, at most to the cap."""
    iterations: int = option(10)
    """A Round's samples of one Case, rounded up to an even number."""
    paired: bool = True
    gate: bool = True
    gate_window: int = 5
    gate_ratio: float = 1.02
    burn_in_gpu_s: float = 0.5
    """A GPU burns in at least so long: its clocks rise with work."""
    burn_in_cap: int = 60
    burn_in_cap_s: float = 30.0
    turn_ms: float = 200.0
    turn_lengths: tuple[int, ...] = (1, 2, 5)
    block_cap_s: float = 60.0
    worker_limit_s: float = option(600.0)
    """Longest that one request to a Worker may take before it counts as hung."""
    max_time_s: float | None = option(None)
    target_ci: float | None = option(None, scale=100)  # percent
    """Stop after a whole Round when every 95 % half-width is at most this share, never before ``target_from`` Rounds:
    an interval that is looked at sooner covers less than it says. ``rounds`` are then the most there may be."""
    target_from: int = 8
    noise_repeats: int = 2
    """How often a Round that noise disturbed is measured again."""
    sync_attempts: int = 3
    shared_workers: bool = False
    """In each Round one set of Workers goes through all groups, in place of fresh ones for each: for many small nets,
    whose processes would take longer to start than to time."""
    seed: int = option(0)

    @property
    def hash(self) -> str:
        return digest(dataclasses.asdict(self))

    def options(self) -> dict[str, str]:
        """The text of each option that sets a field, by the field; empty for None."""
        texts = {}
        for field in (field for field in dataclasses.fields(self) if field.metadata):
            value, scale = getattr(self, field.name), field.metadata["scale"]
            texts[field.name] = str(value) if isinstance(value, int) else f"{scale * value:.6g}" if value else ""
        return texts

    def turn_length(self, burn_in_medians_ns: Sequence[float]) -> int:
        """Iterations in one Turn: the fewest that fill ``turn_ms`` for the fastest slot, the same for all."""
        fastest_ms = min(burn_in_medians_ns) / 1e6
        enough = [length for length in self.turn_lengths if length * fastest_ms >= self.turn_ms]
        return min(enough, default=self.turn_lengths[-1])

    def cycles(self, turn_length: int) -> list[int]:
        """The turn length of each cycle of a Round. A slot has two Turns in a cycle, so an odd number of iterations is
        rounded up by one; the last cycle is shorter where whole ones would do too many."""
        whole, rest = divmod(-(-self.iterations // 2), turn_length)
        return [turn_length] * whole + [rest] * (rest > 0)


#: The benchmark article's own protocol: batch 32, exactly 10 burn-in, 100 iterations, one framework after the other.
CLASSIC = Protocol(name="classic", rounds=1, iterations=100, paired=False, gate=False)


def digest(facts: object) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
