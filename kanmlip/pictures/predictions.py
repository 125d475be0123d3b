"""What a run predicted beside what is true, out of predictions.npz: pairs of numbers by split and label, errors by element."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import NDArray

from kanmlip.data.labels import LABELS
from kanmlip.data.root import data_root
from kanmlip.errors import ConfigError, DataError
from kanmlip.experiment.config import RunConfig

SPLITS = ("train", "val", "test")
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Pairs:
    """One label of one split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        label: Its name.
        unit: Of the values; energies are per atom.
        true: [M], every component by itself.
        predicted: [M].
    """

    split: str
    label: str
    unit: str
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.predicted - self.true).mean())

    @property
    def rmse(self) -> float:
        """Root mean square error."""
        return float(np.sqrt(np.square(self.predicted - self.true).mean()))


def read_predictions(path: Path) -> Arrays:
    """The arrays of a predictions.npz.

    Raises:
        ConfigError: If there is no such file.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist: the run did not finish, or this is an exported folder, which has none; name the run itself"
        )
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored}


def pairs_in(predictions: Arrays) -> list[Pairs]:
    """Every label of every split, splits in their usual order."""
    found = []
    for split in SPLITS:
        for name in predictions:
            if not name.startswith(f"{split}/") or not name.endswith("_true"):
                continue
            label = name.removeprefix(f"{split}/").removesuffix("_true")
            true = np.asarray(predictions[name], dtype=np.float64)
            predicted = np.asarray(predictions[f"{split}/{label}_pred"], dtype=np.float64)
            unit = LABELS[label].unit
            if label == "energy":
                atoms = np.asarray(predictions[f"{split}/num_atoms"], dtype=np.float64)
                true, predicted, unit = true / atoms, predicted / atoms, f"{unit}/atom"
            found.append(Pairs(split, label, unit, true.ravel(), predicted.ravel()))
    return found


def errors_by_element(predictions: Arrays, split: str, label: str, numbers: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Errors of a label of atoms, one entry a species.

    Args:
        predictions: From :func:`read_predictions`.
        split: Which set.
        label: Such as ``forces``; [N, ...] in the predictions.
        numbers: Atomic numbers [N].

    Returns:
        Symbol → ``mae``, ``rmse`` of a component, in the label's unit, and the number of ``atoms``.

    Raises:
        ConfigError: If there are not as many species as atoms.
    """
    error = np.asarray(predictions[f"{split}/{label}_pred"], dtype=np.float64) - np.asarray(predictions[f"{split}/{label}_true"])
    if len(error) != len(numbers):
        raise ConfigError(f"{split} set: {len(numbers)} atoms in the data, {len(error)} in predictions.npz; the data have changed since")
    table = {}
    for number in sorted(set(numbers.tolist())):
        own = error[numbers == number]
        table[chemical_symbols[number]] = {
            "mae": float(np.abs(own).mean()),
            "rmse": float(np.sqrt(np.square(own).mean())),
            "atoms": float(len(own)),
        }
    return table


def species_of(config: RunConfig, predictions: Arrays) -> dict[str, NDArray[np.int64]]:
    """Atomic numbers [N] of each split: from the predictions where they are there, else from the run's data.

    Raises:
        ConfigError: If neither has them.
    """
    splits = [split for split in SPLITS if f"{split}/num_atoms" in predictions]
    if all(f"{split}/atomic_numbers" in predictions for split in splits):
        return {split: np.asarray(predictions[f"{split}/atomic_numbers"], dtype=np.int64) for split in splits}
    try:
        loaded = config.dataset.load(data_root())
    except DataError as error:
        raise ConfigError(f"species of the atoms are needed, but the run's data are not here: {error}") from error
    return {split: np.concatenate([atoms.numbers for atoms in getattr(loaded, split)]).astype(np.int64) for split in splits}
