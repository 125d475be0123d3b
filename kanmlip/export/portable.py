"""A run folder without what only training needs: settings, versions and weights in one small folder that loads anywhere."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import yaml

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import write_text
from kanmlip.experiment.status import Status, write_status
from kanmlip.export.loading import LoadedRun, load_potential
from kanmlip.export.probe import Difference, check, compare, probe_graph
from kanmlip.training.checkpoints import CheckpointStore

# Files that say where a model comes from.
PROVENANCE = ("environment.json", "placement.json", "metrics.json")


def write_portable(run: LoadedRun, folder: Path) -> Difference | None:
    """Write a folder that ``kanmlip.export.ase.load`` and ``kanmlip.export.torchsim.load`` read, in the precision of ``run``.

    Args:
        run: In the precision that the folder shall have.
        folder: Must not be the run folder itself.

    Returns:
        What the folder, read back, differs by; none for models without energies.

    Raises:
        ConfigError: If ``folder`` is the run folder, or another run is in it.
        KanmlipError: If the folder is not the model.
    """
    if folder.resolve() == run.folder.resolve():
        raise ConfigError(f"--output={folder} is the run folder itself; choose another")
    trainer = run.config.trainer.model_copy(update={"precision": str(run.dtype).removeprefix("torch.")})
    plain = run.config.model_copy(update={"trainer": trainer}).to_plain()
    metadata = {"run_id": run.folder.name, "config": plain, "stats": asdict(run.stats)}
    weights = {name: value.cpu() for name, value in run.potential.state_dict().items()}
    CheckpointStore(folder / "checkpoints").save_best({"metadata": metadata, "model": weights})
    write_text(folder / "config.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
    write_status(folder, Status("done", run.folder.name))
    for name in PROVENANCE:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, folder / name)
    again = load_potential(folder, device=str(run.device))
    if "energy" not in run.config.model.predicts:
        return None
    graph = probe_graph(run)
    found = again.potential(graph)
    return check(compare(run.potential(graph), found["energy"], found["forces"]), run.dtype, folder.name)
