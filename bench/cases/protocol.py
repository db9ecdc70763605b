"""Protocol: how a Run measures, frozen and hashed. Every number that affects a sample is a field."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Fields that Protocols stored before them do not have; None, as those had it, leaves the hash as it was.
ADDED = ("burn_in_later", "least_iterations", "loader_turn")


def set_by_option(default: Any, scale: float = 1) -> Any:
    """A field set by the option of its name (``max_time_s``: --max-time), given as ``scale`` times its value."""
    return dataclasses.field(default=default, metadata={"scale": scale})


@dataclass(frozen=True, slots=True)
class Protocol:
    """How to measure: interleaved Turns in Rounds, or, unless ``paired``, one framework after the other (classic)."""

    name: str = "rounds"
    rounds: int = set_by_option(5)
    burn_in: int = set_by_option(10)
    """Minimum. With ``gate``, burn-in continues until the series is steady, at most to the cap."""
    burn_in_later: int | None = None
    """The same in Rounds after the first; None: as in the first."""
    iterations: int = set_by_option(10)
    """Samples per Case and Round, rounded up to an even number."""
    least_iterations: int | None = None
    """To how few ``max_time_s`` may reduce them; None: only the number of Rounds is reduced."""
    paired: bool = True
    gate: bool = True
    gate_window: int = 5
    gate_ratio: float = 1.02
    burn_in_gpu_s: float = 0.5
    """Minimum burn-in of a GPU, whose clocks rise under load."""
    burn_in_cap: int = 60
    burn_in_cap_s: float = 30.0
    turn_ms: float = 200.0
    turn_lengths: tuple[int, ...] = (1, 2, 5)
    loader_turn: int | None = None
    """Least iterations per Turn in a Run with loaders, whose workers deliver in bursts."""
    block_cap_s: float = 60.0
    worker_limit_s: float = set_by_option(600.0)
    """Time after which a request to a Worker counts as hung."""
    max_time_s: float | None = set_by_option(None)
    target_ci: float | None = set_by_option(None, scale=100)  # percent
    """Stop after a Round if every 95 % half-width is at most this fraction. ``rounds`` is then a maximum, and
    ``target_from`` a minimum: stopping sooner reduces the coverage of intervals."""
    target_from: int = 8
    noise_repeats: int = 2
    """How often a Round disturbed by noise is repeated."""
    sync_attempts: int = 3
    shared_workers: bool = False
    """Use one set of Workers for all groups of a Round, for many small nets whose processes would take longer to start
    than to time."""
    seed: int = set_by_option(0)

    @property
    def hash(self) -> str:
        known = dataclasses.asdict(self)
        return digest({name: value for name, value in known.items() if value is not None or name not in ADDED})

    def options(self) -> dict[str, str]:
        """The text of each option that sets a field, by the field; empty for None."""
        texts = {}
        for field in (field for field in dataclasses.fields(self) if field.metadata):
            value, scale = getattr(self, field.name), field.metadata["scale"]
            texts[field.name] = str(value) if isinstance(value, int) else f"{scale * value:.6g}" if value else ""
        return texts

    def turn_length(self, burn_in_medians_ns: Sequence[float]) -> int:
        """Iterations per Turn: the fewest that fill ``turn_ms`` for the fastest slot; the same for all."""
        fastest_ms = min(burn_in_medians_ns) / 1e6
        enough = [length for length in self.turn_lengths if length * fastest_ms >= self.turn_ms]
        return max(min(enough, default=self.turn_lengths[-1]), self.loader_turn or 1)

    def least_burn_in(self, round_: int) -> int:
        """Minimum burn-in of a Round, counted from 0."""
        return self.burn_in if round_ == 0 or self.burn_in_later is None else self.burn_in_later

    def window(self, round_: int) -> int:
        """Iterations on either side of the gate in a Round, counted from 0."""
        return self.gate_window if round_ == 0 or self.burn_in_later is None else max(1, self.burn_in_later // 2)

    def lead(self, turn_length: int, iteration_ns: float) -> int:
        """Iterations at the start of a Turn that are no samples: the first after a switch takes 3 ms longer, which is
        little beside an iteration that fills a Turn."""
        return int(turn_length > 1 and iteration_ns / 1e6 < self.turn_ms)

    def cycles(self, turn_length: int, iterations: int | None = None) -> list[int]:
        """The turn length of each cycle of a Round of so many iterations, by default the Protocol's.

        A slot has two Turns per cycle, so an odd number of iterations is rounded up. The last cycle may be shorter.
        """
        whole, rest = divmod(-(-(iterations or self.iterations) // 2), turn_length)
        return [turn_length] * whole + [rest] * (rest > 0)


#: The benchmark article's protocol: batch 32, exactly 10 burn-in, 100 iterations, one framework after the other.
CLASSIC = Protocol(name="classic", rounds=1, iterations=100, paired=False, gate=False)


def digest(facts: object) -> str:
    """A short hash of plain data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
