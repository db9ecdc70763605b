"""Settings: what of the check depends on the kind of device, one record for CPUs and one for accelerators."""

from dataclasses import dataclass, replace

from impls import accelerator_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Sizes, precisions and limits of the steps.

    ``variants`` are the nets of the Run, whose last the other steps take. ``timed`` are its precisions, ``verified``
    those in which its nets are compared with float64, ``verified_others`` those of all other nets. ``size`` and
    ``verified_size`` are pixels, None for a variant's own. ``peer_batch``, ``peer_mode`` and
    ``peer_layout`` are of the Run with other programs' nets, which is of owt at its own size, in ``peer_precision``.
    ``batches`` of the sweep; ``until_full``: they grow from then on, until the device's memory is full. ``limits_s``
    are by name of the step, seconds.
    """

    verified: tuple[str, ...]
    verified_others: tuple[str, ...]
    verified_size: int | None
    timed: tuple[str, ...]
    variants: tuple[str, ...]
    size: int | None
    batch: int
    rounds: int
    aa_rounds: int
    iterations: int | None
    peer_batch: int
    peer_mode: str
    peer_layout: str
    peer_precision: str
    batches: tuple[int, ...]
    until_full: bool
    limits_s: dict[str, float]


#: As much as a GPU needs to show what it can; most of the time is that of compilers.
ACCELERATOR = Settings(
    verified=("fp32", "tf32", "bf16"),
    verified_others=("fp32", "tf32", "bf16"),
    verified_size=None,
    timed=("fp32", "bf16"),
    variants=("tutorial", "owt"),
    size=None,
    batch=128,
    rounds=3,
    aa_rounds=5,
    iterations=None,
    peer_batch=128,
    peer_mode="compile",
    peer_layout="channels_last",
    peer_precision="bf16",
    batches=(128,),
    until_full=True,
    limits_s={
        "env": 45,
        "verify": 120,
        "run": 180,
        "peers": 90,
        "profile": 45,
        "sweep": 75,
        "train": 50,
        "memory": 15,
        "aa": 60,
        "report": 25,
    },
)

#: The same steps, small enough for two cores. A CPU has no tf32.
CPU = Settings(
    verified=("fp32", "bf16"),
    verified_others=("fp32",),
    verified_size=99,
    timed=("fp32",),
    variants=("half_width",),
    size=None,  # of its own size the reference values need not be computed
    batch=2,
    rounds=1,
    aa_rounds=3,  # the fewest with an interval
    iterations=4,
    peer_batch=2,
    peer_mode="eager",
    peer_layout="nchw",
    peer_precision="fp32",
    batches=(2, 4, 8),
    until_full=False,
    limits_s={
        "env": 90,
        "verify": 270,
        "run": 200,
        "peers": 90,
        "profile": 90,
        "sweep": 90,
        "train": 90,
        "memory": 30,
        "aa": 90,
        "report": 60,
    },
)


def settings_of(device: str) -> Settings:
    """The settings of a kind of device, without a precision that it lacks."""
    if device == "cpu":
        return CPU
    if accelerator_of(device).tf32:
        return ACCELERATOR
    kept = tuple(precision for precision in ACCELERATOR.verified if precision != "tf32")
    return replace(ACCELERATOR, verified=kept, verified_others=kept)
