"""A finished run folder as the model it trained: architecture from its settings, weights from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import torch

from kanmlip.data.statistics import DataStats
from kanmlip.errors import ConfigError, describe_choice
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.folders import results_root
from kanmlip.experiment.status import true_status
from kanmlip.experiment.validation import load_run_config
from kanmlip.kan import KAN
from kanmlip.models.potential import Potential
from kanmlip.placement.place import build_head, count_parameters, find_targets
from kanmlip.training.averaging import ParameterAverage
from kanmlip.training.checkpoints import CheckpointStore, UnreadableCheckpointError

Checkpoint = Literal["best", "last"]
CHECKPOINTS = ("best", "last")
DTYPES = {"float32": torch.float32, "float64": torch.float64}


class LoadOptions(TypedDict, total=False):
    """The keyword arguments of :func:`load_potential`, for those who pass them on."""

    checkpoint: Checkpoint
    dtype: str | torch.dtype | None
    device: str
    backend: str
    keep_hidden: bool


@dataclass(frozen=True)
class LoadedRun:
    """A trained model, ready to be evaluated.

    Attributes:
        potential: In evaluation mode on its device, with its KANs and with averaged weights; parameters ask for no gradients.
        config: The run's settings.
        species: Atomic numbers that the model knows, ascending.
        dtype: Precision of the network; geometry and total energies are float64 always.
        folder: The run folder.
        stats: What the model knows of its training set.
        device: Where the weights are.
    """

    potential: Potential
    config: RunConfig
    species: tuple[int, ...]
    dtype: torch.dtype
    folder: Path
    stats: DataStats
    device: torch.device


def load_potential(
    run: str | Path,
    *,
    checkpoint: Checkpoint = "best",
    dtype: str | torch.dtype | None = None,
    device: str = "cpu",
    backend: str = "auto",
    keep_hidden: bool = True,
) -> LoadedRun:
    """Build the model of a run again and give it the averaged weights of a checkpoint.

    Args:
        run: A run folder, the name of a run under the results root, or the beginning of one name there.
        checkpoint: ``best`` has the best validation error, ``last`` is where training stopped.
        dtype: float32 or float64; the precision of the training unless given.
        device: ``cpu``, ``cuda`` or ``auto``.
        backend: Which kernels compute the KANs; see :class:`kanmlip.kan.KANLayer`.
        keep_hidden: Keep the values between the layers of KANs for the forces; ``False`` takes less memory and more time, see
            :class:`kanmlip.kan.KAN`.

    Raises:
        ConfigError: If this is no run folder, its run is not finished, its weights do not fit, or an argument is none of the choices.
        MissingDependencyError: If the upstream package is not installed.
    """
    if checkpoint not in CHECKPOINTS:
        raise ConfigError(describe_choice("checkpoint", checkpoint, CHECKPOINTS))
    place_on = torch.device(resolve_device(device))
    folder = find_run(run)
    check_finished(folder)
    config = load_run_config(folder)
    precision = DTYPES[config.trainer.precision] if dtype is None else resolve_dtype(dtype)
    config.model.require_upstream()
    state = read_checkpoint(folder, checkpoint)
    stats = DataStats(**state["metadata"]["stats"])
    potential = config.model.build(stats, precision, config.seed)
    place_heads(potential, config, precision, backend, keep_hidden)
    fill(potential, config, state, f"{folder.name}: checkpoints/{checkpoint}.ckpt")
    potential.to(place_on).eval().requires_grad_(False)
    return LoadedRun(potential, config, tuple(stats.atomic_numbers), precision, folder, stats, place_on)


def find_run(run: str | Path) -> Path:
    """The run folder that a path, a name or the beginning of a name means.

    Raises:
        ConfigError: If there is none, or more than one; lists the candidates.
    """
    if Path(run).is_dir():
        return Path(run).absolute()
    root = results_root() / "runs"
    names = sorted(path.name for path in root.glob("*") if path.is_dir())
    matches = [name for name in names if name.startswith(str(run))] if str(run) else []
    if str(run) in names or len(matches) == 1:
        return root / (str(run) if str(run) in names else matches[0])
    if matches:
        raise ConfigError(f"run={run} is the beginning of {len(matches)} runs; choose one: {', '.join(matches)}")
    raise ConfigError(f"{describe_choice('run', run, names)} Or give the path of a run folder; runs are looked for in {root}")


def check_finished(folder: Path) -> None:
    """Refuse folders that hold no run, or one without a result.

    Raises:
        ConfigError: With the way out.
    """
    status = true_status(folder)
    if status is None or not (folder / "config.yaml").is_file():
        raise ConfigError(f"run={folder} is no run folder: it lacks config.yaml or status.json; give one that kanmlip-train made")
    if status.status != "done":
        raise ConfigError(
            f"run={folder.name} is not finished, its status is '{status.status}'; give the command that started it again, "
            f"which resumes or repeats it, then try again"
        )


def resolve_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """A precision by its name or as torch has it.

    Raises:
        ConfigError: If it is neither float32 nor float64.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ConfigError(describe_choice("dtype", name, DTYPES))
    return DTYPES[name]


def resolve_device(device: str) -> str:
    """``auto`` as what there is, others checked.

    Raises:
        ConfigError: If there is no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        kind, index = device, 0
    if kind not in ("cpu", "cuda"):
        raise ConfigError(describe_choice("device", device, ("auto", "cpu", "cuda")))
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={device}, but torch finds no CUDA device; choose device=cpu")
    if kind == "cuda" and index >= torch.cuda.device_count():
        raise ConfigError(
            f"device={device}, but torch finds {torch.cuda.device_count()} CUDA device(s), counted from 0; choose one of them"
        )
    return device


def read_checkpoint(folder: Path, checkpoint: str) -> dict[str, Any]:
    """What a checkpoint of a run holds, on the CPU.

    Raises:
        ConfigError: If it is missing or cannot be read.
    """
    path = folder / "checkpoints" / f"{checkpoint}.ckpt"
    store = CheckpointStore(folder / "checkpoints")
    try:
        state = store.load_best(torch.device("cpu")) if checkpoint == "best" else store.load_last(torch.device("cpu"))
    except ConfigError:
        raise
    except (UnreadableCheckpointError, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__}); train the run again with force=true") from error
    if state is None or not {"model", "metadata"} <= state.keys():
        raise ConfigError(f"{path} is missing or holds no weights; train the run again with force=true")
    return state


def place_heads(potential: Potential, config: RunConfig, dtype: torch.dtype, backend: str = "auto", keep_hidden: bool = True) -> None:
    """Put untrained KANs where the run's placement has them; their scales, grids and weights come with a checkpoint.

    Raises:
        ConfigError: If there is no such backend.
    """
    placement = config.placement
    for path, group in find_targets(potential.upstream, config.model, config.model.placements[placement.name]).items():
        module = potential.upstream.get_submodule(path)
        network, head = build_head(config.model.swap(module, group, placement), placement.head, config.basis, count_parameters(module))
        potential.upstream.set_submodule(path, head.to(dtype=dtype))
        if isinstance(network, KAN):
            choose_backend(network, backend)
            network.keep_hidden = keep_hidden


def choose_backend(kan: KAN, backend: str) -> None:
    """Set the kernels of a KAN.

    Raises:
        ConfigError: If there is no such backend.
    """
    try:
        kan.set_backend(backend)
    except ValueError as error:
        raise ConfigError(f"backend={backend}: {error}") from error


def fill(potential: Potential, config: RunConfig, state: dict[str, Any], source: str) -> None:
    """Load the averaged weights of a checkpoint.

    Raises:
        ConfigError: If they are of another architecture, as when upstream or kanmlip changed since.
    """
    constants = upstream_constants(potential)
    try:
        potential.load_state_dict(state["model"])
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise ConfigError(
            f"{source} does not fit the model that its config.yaml describes ({lines[min(1, len(lines) - 1)][:200]}); "
            f"environment.json names the versions it was made with"
        ) from error
    restore_precision(potential, constants, state["model"])
    if "average" in state:  # last.ckpt keeps trained and averaged weights apart, best.ckpt has the averaged ones only
        average = ParameterAverage(potential, config.trainer.ema_decay)
        average.load_state_dict(state["average"])
        with torch.no_grad():
            for parameter, mean in zip(average.parameters, average.average, strict=False):  # empty where nothing was averaged
                parameter.copy_(mean)


def upstream_constants(potential: Potential) -> dict[str, torch.Tensor]:
    """What upstream's modules were built with and training does not change, such as coupling coefficients and reference energies."""
    kans = tuple(f"{path}." for path, module in potential.named_modules() if isinstance(module, KAN))
    return {name: value.clone() for name, value in potential.named_buffers() if value.is_floating_point() and not name.startswith(kans)}


@torch.no_grad()
def restore_precision(potential: Potential, constants: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    """Undo what a checkpoint of another precision rounded of the constants; others than rounded ones stay as the checkpoint has them.

    Reference energies of -1000 eV would be wrong by 20 µeV an atom, and upstream's converters, which compute coupling coefficients
    anew, would write another model than that in memory.
    """
    for name, value in potential.named_buffers():
        exact, stored = constants.get(name), weights.get(name)
        if exact is None or stored is None or stored.dtype == value.dtype:
            continue
        if torch.allclose(value, exact, rtol=1e-6, atol=1e-7, equal_nan=True):
            value.copy_(exact)
