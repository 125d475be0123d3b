"""A run folder without what only training needs: settings, versions and weights in one small folder that loads anywhere."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import yaml

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import read_json, write_text
from kanmlip.experiment.status import Status, write_status
from kanmlip.export.loading import LoadedRun, load_potential
from kanmlip.export.probe import Difference, check, compare, probe_graph
from kanmlip.training.checkpoints import CheckpointStore

# Files that say where a model comes from.
PROVENANCE = ("environment.json", "placement.json", "metrics.json")
STATUS = "status.json"


def write_portable(run: LoadedRun, folder: Path) -> Difference | None:
    """Write a folder that ``kanmlip.export.ase.load`` and ``kanmlip.export.torchsim.load`` read, in the precision of ``run``.

    It is made and checked in a hidden folder inside of it. An earlier export of the same run is replaced; while that happens, which
    is a few renames, the folder has no status and is refused by whoever loads it.

    Args:
        run: In the precision that the folder shall have.
        folder: Must not be a run folder, nor hold an export of another run.

    Returns:
        What the folder, read back, differs by; none for models without energies.

    Raises:
        ConfigError: If ``folder`` is a run folder, or an export of another run is in it.
        KanmlipError: If what was made is not the model; the folder holds then what it held.
    """
    check_destination(folder, run.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new.") as made:
        part = Path(made)
        fill(part, run)
        difference = read_back(part, run, folder.name)
        move(part, folder)
    return difference


def check_destination(folder: Path, run_dir: Path) -> None:
    """Refuse to write where an export would destroy something else than an earlier export of the same run.

    Args:
        folder: Where the export is to go.
        run_dir: The run.

    Raises:
        ConfigError: If so.
    """
    if folder.resolve() == run_dir.resolve():
        raise ConfigError(f"--output={folder} is the run folder itself; choose another")
    if any((folder / name).exists() for name in ("history.csv", "checkpoints/last.ckpt", "checkpoints/last.ckpt.prev")):
        raise ConfigError(f"--output={folder} is the folder of a run, whose weights would be lost; choose another")
    status = read_json(folder / STATUS)
    owner = status.get("run_id") if isinstance(status, dict) else None
    if owner not in (None, run_dir.name):
        raise ConfigError(f"--output={folder} holds {owner}; choose another folder, or remove that one")


def fill(folder: Path, run: LoadedRun) -> None:
    """Write the files of an export."""
    trainer = run.config.trainer.model_copy(update={"precision": str(run.dtype).removeprefix("torch.")})
    plain = run.config.model_copy(update={"trainer": trainer}).to_plain()
    metadata = {"run_id": run.folder.name, "config": plain, "stats": asdict(run.stats)}
    weights = {name: value.cpu() for name, value in run.potential.state_dict().items()}
    CheckpointStore(folder / "checkpoints").save_best({"metadata": metadata, "model": weights})
    write_text(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    for name in PROVENANCE:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
    write_status(folder, Status("done", run.folder.name))


def read_back(folder: Path, run: LoadedRun, name: str) -> Difference | None:
    """What the model in a folder differs by from that in memory; none for models without energies.

    Raises:
        KanmlipError: If by more than rounding.
    """
    again = load_potential(folder, device=str(run.device))
    if "energy" not in run.config.model.predicts:
        return None
    graph = probe_graph(run)
    found = again.potential(graph)
    return check(compare(run.potential(graph), found["energy"], found["forces"]), run.dtype, name)


def move(made: Path, folder: Path) -> None:
    """Rename the files of one folder into another; the status, without which nothing loads, goes first and comes last."""
    (folder / STATUS).unlink(missing_ok=True)
    files = sorted((path for path in made.rglob("*") if path.is_file()), key=lambda path: path.name == STATUS)
    for path in files:
        target = folder / path.relative_to(made)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
