"""All pictures of one run, and in a line each what could not be drawn and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanmlip.data.graph import Graph
from kanmlip.data.labels import LABELS
from kanmlip.data.root import data_root
from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.config import RunConfig
from kanmlip.export.loading import LoadedRun
from kanmlip.kan import KANLayer
from kanmlip.pictures.functions import draw_functions, learned_functions, record_inputs
from kanmlip.pictures.learning import draw_learning, read_history
from kanmlip.pictures.parity import draw_elements, draw_parity
from kanmlip.pictures.predictions import SPLITS, errors_by_element, pairs_in, read_predictions, species_of


@dataclass
class Drawn:
    """What became of the pictures of a run.

    Attributes:
        paths: Files that were written.
        missing: One line for each picture that could not be drawn.
    """

    paths: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def attempt(self, name: str, draw: Callable[[], list[Path]]) -> None:
        """Draw, or note why not."""
        try:
            self.paths += draw()
        except KanmlipError as error:
            self.missing.append(f"{name}: {error}")


def draw_run(run: LoadedRun, folder: Path, functions: int, frames: int) -> Drawn:
    """Draw learning curves, parity plots, errors by element and learned functions.

    Args:
        run: The run.
        folder: Where to.
        functions: How many functions of a KAN layer.
        frames: Structures that the densities of their inputs are taken from.
    """
    drawn = Drawn()
    metrics: dict[str, Any] = read_json(run.folder / "metrics.json") or {}
    best = metrics.get("time/best_epoch")
    drawn.attempt("learning curves", lambda: draw_learning(read_history(run.folder / "history.csv"), int(best) if best else None, folder))
    drawn.attempt("parity", lambda: draw_parity(pairs_in(read_predictions(run.folder / "predictions.npz")), folder))
    drawn.attempt("errors by element", lambda: draw_all_elements(run, folder))
    drawn.attempt("learned functions", lambda: draw_all_functions(run, folder, functions, frames))
    return drawn


def draw_all_elements(run: LoadedRun, folder: Path) -> list[Path]:
    """Errors by element of every label of atoms, as pictures and as elements.json.

    Raises:
        ConfigError: If the species of the atoms are not known.
    """
    predictions = read_predictions(run.folder / "predictions.npz")
    numbers = species_of(run.config, predictions)
    labels = [name for name, label in LABELS.items() if label.per == "atom" and any(f"{s}/{name}_true" in predictions for s in SPLITS)]
    paths, content = [], {}
    for label in labels:
        errors = {
            split: errors_by_element(predictions, split, label, numbers[split])
            for split in numbers
            if f"{split}/{label}_true" in predictions
        }
        content[label] = {"unit": LABELS[label].unit, **errors}
        paths += draw_elements(errors, label, LABELS[label].unit, folder)
    write_json(folder / "elements.json", content)
    return [*paths, folder / "elements.json"]


def draw_all_functions(run: LoadedRun, folder: Path, most: int, frames: int) -> list[Path]:
    """The learned functions of every KAN layer of a run.

    Raises:
        ConfigError: If there is no KAN in it.
        DataError: If there are no structures to take inputs from.
    """
    if not run.config.has_kan:
        heads = "placement=none" if run.config.basis_name is None else f"placement.head.kind={run.config.placement.head.kind}"
        raise ConfigError(f"{heads} has no KAN")
    inputs = record_inputs(run.potential, sample(run.config, frames, run))
    paths = []
    for path, x in inputs.items():
        layer = run.potential.upstream.get_submodule(path)
        if isinstance(layer, KANLayer):
            paths += draw_functions(path, learned_functions(layer, x, most), folder)
    return paths


def sample(config: RunConfig, frames: int, run: LoadedRun) -> list[Graph]:
    """Batches of one structure: validation frames, spread over the set."""
    splits = config.dataset.load(data_root())
    available = splits.val or splits.train
    return [config.model.collate([atoms]).to(device=run.device) for atoms in available[:: -(-len(available) // frames)]]
