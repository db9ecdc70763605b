"""FRAMEWORKS: one record per framework, available without importing it."""

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from impls.accelerators import accelerator_of

if TYPE_CHECKING:  # it imports numpy, which the command line does not need
    from impls.net import Adapter


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable that a framework or a library of its own reads.

    In ``value``, ``{threads}`` is replaced by the number of threads (the variable is left out if there is none), and
    ``{cache}`` by the folder of compiled code. ``device`` (cpu, cuda ...) and ``preset`` limit the variable to those.
    """

    name: str
    value: str
    device: str | None = None
    preset: str | None = None


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework.

    Parameters
    ----------
    name
        As in ``--framework`` and, of a peer, its extra in pyproject.toml.
    adapter, package
        The modules to import: ours, and the framework itself.
    models
        The module of users' models, which times them as they are; none if empty.
    ports
        The module that reads and writes a user's model to compare it with its port (impls/port.py); none if empty.
    parts
        The module that times the modules of a user's model each alone (impls/parts.py); none if empty.
    loader
        The module of its loader of pictures (impls/loader.py); none if empty.
    distributions
        Names under which a package index ships it; the first one that is installed gives the version.
    modes, layouts
        The first of each is the default.
    teams
        Modes in which the ranks of a Team compute one pass together.
    splits
        How they can share a net besides each having the whole of it (impls/splits.py), in the first of these modes.
    counted_world
        Up to how many ranks of a net shared so send what is counted from its rows; None: any number.
    accelerators
        Kinds of device that it computes on besides the CPU (impls/accelerators.py).
    compiled, cuda_only
        Modes that compile, which are compared with each other and not with the rest; modes that only cuda has.
    in_default_run
        Takes part where no framework is named.
    peer
        False for the null Net, which is not among ``all``.
    also
        Packages that bring this framework with them.
    environment, prefixes, switches
        What its Worker is given; as regular expressions, families of variables that change its speed, and those of them
        that do so whatever their value.
    libraries
        Its own shared libraries, after ``lib``, as regular expressions: their copy or version decides its speed.
    cpu_build, gpu_build
        What pip installs for a CPU alone, where that is not the usual build, and for a GPU (requirements, with spaces
        between them).
    color
        In plots and reports.
    """

    name: str
    adapter: str
    package: str
    distributions: tuple[str, ...]
    modes: tuple[str, ...]
    layouts: tuple[str, ...]
    teams: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    counted_world: int | None = None
    accelerators: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    cuda_only: tuple[str, ...] = ()
    in_default_run: bool = False
    peer: bool = True
    also: tuple[str, ...] = ()
    environment: tuple[Variable, ...] = ()
    prefixes: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    cpu_build: str = ""
    gpu_build: str = ""
    color: str = ""
    models: str = ""
    ports: str = ""
    parts: str = ""
    loader: str = ""


TORCH = Framework(
    "torch",
    adapter="impls.torch_alexnet",
    package="torch",
    distributions=("torch",),
    modes=("eager", "compile", "cudagraphs"),
    layouts=("nchw", "channels_last"),
    teams=("eager",),
    splits=("towers", "hybrid"),
    accelerators=("cuda", "mps", "xpu"),
    compiled=("compile", "cudagraphs"),
    cuda_only=("cudagraphs",),
    in_default_run=True,
    also=("torchvision",),
    environment=(
        Variable("TORCHINDUCTOR_CACHE_DIR", "{cache}/inductor"),
        Variable("TRITON_CACHE_DIR", "{cache}/triton"),
    ),
    prefixes=("TORCH", "PYTORCH"),
    switches=("TORCH_SHOW_CPP_STACKTRACES", "TORCH_LOGS"),
    libraries=("torch_cpu", "torch_cuda"),
    cpu_build="torch --index-url https://download.pytorch.org/whl/cpu",
    gpu_build="torch>=2.6 torchvision",  # torchvision: its own AlexNet, for gpu-check
    color="#D55E00",
    models="impls.torch_model",
    ports="impls.torch_port",
    parts="impls.torch_parts",
    loader="impls.torch_loader",
)

TENSORFLOW = Framework(
    "tensorflow",
    adapter="impls.tf_alexnet",
    package="tensorflow",
    distributions=("tensorflow", "tensorflow-cpu"),
    modes=("graph", "xla"),
    layouts=("nhwc",),
    teams=("graph", "xla"),
    splits=("towers", "hybrid"),
    counted_world=1,
    accelerators=("cuda",),
    compiled=("xla",),
    in_default_run=True,
    also=("keras",),
    environment=(
        Variable("TF_ENABLE_ONEDNN_OPTS", "1", preset="equal"),
        Variable("TF_CUDNN_USE_AUTOTUNE", "1", preset="equal"),
        Variable("TF_CPP_MIN_LOG_LEVEL", "1"),
        Variable("TF_FORCE_GPU_ALLOW_GROWTH", "true"),  # several frameworks share the GPU, whatever the preset
        Variable("TF_XLA_FLAGS", '--tf_xla_persistent_cache_directory="{cache}/xla"', device="cpu"),
        Variable("KERAS_BACKEND", "tensorflow"),
    ),
    prefixes=("TF(?!_CLI|_VAR)", "XLA"),  # TF_CLI_ARGS and TF_VAR_x are Terraform's
    switches=("TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS"),
    libraries=("tensorflow_cc", "tensorflow_framework"),
    cpu_build="tensorflow-cpu",
    gpu_build="tensorflow[and-cuda]>=2.18",
    color="#0072B2",
    models="impls.tf_model",
    ports="impls.tf_port",
    parts="impls.tf_parts",
    loader="impls.tf_loader",
)

JAX = Framework(
    "jax",
    adapter="impls.jax_alexnet",
    package="jax",
    distributions=("jax",),
    modes=("jit",),
    layouts=("nhwc",),
    teams=("jit",),
    splits=("towers", "hybrid"),
    counted_world=2,
    accelerators=("cuda",),
    compiled=("jit",),
    also=("flax",),
    environment=(
        Variable("NPROC", "{threads}"),
        Variable("PJRT_NPROC", "{threads}"),
        Variable("JAX_PLATFORMS", "cpu", device="cpu"),
        Variable("JAX_PLATFORMS", "cuda", device="cuda"),
        Variable("XLA_PYTHON_CLIENT_PREALLOCATE", "false"),  # several frameworks share the GPU, whatever the preset
        Variable("JAX_COMPILATION_CACHE_DIR", "{cache}/jax"),
        Variable("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0"),  # keep all that is compiled
        Variable("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1"),
    ),
    prefixes=("JAX", "XLA"),
    switches=("JAX_(DISABLE_JIT|DEBUG_NANS|DEBUG_INFS|ENABLE_CHECKS|LOG_COMPILES)", "XLA_FLAGS"),
    libraries=("jax_common",),
    gpu_build="jax[cuda13]>=0.7 optax>=0.2.3",  # optax: for a training step under the preset default
    color="#009E73",
    models="impls.jax_model",
    ports="impls.jax_port",
    loader="impls.jax_loader",
)

NULL = Framework(
    "null",
    adapter="impls.null_alexnet",
    package="numpy",
    distributions=("numpy",),
    modes=("noop", "part"),
    layouts=("nhwc",),
    teams=("noop", "part"),
    splits=("towers", "hybrid"),
    accelerators=("cuda",),
    peer=False,
    loader="impls.null_loader",
)

#: In the order of tables and plots.
FRAMEWORKS = {framework.name: framework for framework in (TORCH, TENSORFLOW, JAX, NULL)}
PEERS = {name: framework for name, framework in FRAMEWORKS.items() if framework.peer}


def load(name: str) -> "Adapter":
    """Import the adapter of a framework, and with it the framework: only a Worker does this."""
    return cast("Adapter", importlib.import_module(FRAMEWORKS[name].adapter))


def available() -> list[str]:
    """Installed frameworks of the default run, in the order of tables; imports none of them."""
    return [
        name
        for name, framework in FRAMEWORKS.items()
        if framework.in_default_run and importlib.util.find_spec(framework.package)
    ]


def version(name: str) -> str | None:
    """The installed version of a framework by its package metadata, or None."""
    from importlib import metadata  # the command line's --help does without

    for distribution in FRAMEWORKS[name].distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return None


def requirement(*names: str) -> str:
    """pip requirements of these frameworks (default: those of the default run), quoted for a shell."""
    extras = [name for name, peer in PEERS.items() if (name in names if names else peer.in_default_run)]
    return f"'alexnet-bench[{','.join(extras)}]'" if extras else "alexnet-bench"


def gpu_builds(asked: str = "") -> list[str]:
    """Names of the frameworks that have a GPU environment, among those asked for: a list with commas, or ``all``; by
    default those of the default run."""
    named = asked.replace(" ", "").split(",")
    return [
        name
        for name, peer in PEERS.items()
        if peer.gpu_build and ("all" in named or name in named or (peer.in_default_run and not asked))
    ]


def gpu_requirements(name: str) -> list[str]:
    """What pip installs in the GPU environment of a framework: its GPU build, and what a Worker needs besides."""
    return ["numpy>=1.26", "pillow>=10", *PEERS[name].gpu_build.split()]


def environment(device: str, threads: int | None, preset: str, cache: str) -> dict[str, str]:
    """Environment variables of every framework: a Worker gets them all, since one library may read another's."""
    kind = accelerator_of(device).kind
    return {
        variable.name: variable.value.format(threads=threads, cache=cache)
        for framework in FRAMEWORKS.values()
        for variable in framework.environment
        if variable.device in (None, kind)
        and variable.preset in (None, preset)
        and not (threads is None and "{threads}" in variable.value)
    }
