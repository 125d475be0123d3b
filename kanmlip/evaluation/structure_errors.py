"""Errors structure by structure, short enough for a record: what a bootstrap over structures is made of. In need of numpy alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanmlip.data.labels import LABELS

Array = NDArray[np.float64]

# Splits whose errors a verdict may rest on; errors of the training set are in the metrics.
SPLITS = ("val", "test")
# Of a larger set those evenly spaced in its order are kept, so that a record stays below 100 kB. No set of the study is larger.
MAX_STRUCTURES = 1000
DIGITS = 5
# Symmetry makes components zero (44 % of those of the Born charges of I-42d SiO2), and predicting zero there is no achievement.
# Which ones, the labels themselves say without knowing a space group: over the SiO2 set they are below 1e-6 or above 1e-4, nothing
# between. Where no symmetry is left, as in a molecular-dynamics run, no component is so small and all of them count. A crystal
# turned out of its axes has none of these zeros either: the figure depends on the axes, unlike the others.
SYMMETRY_ZERO = 1e-5


@dataclass(frozen=True)
class Columns:
    """Names of what is kept of a label: sums of absolute errors, of squares, and of the components that symmetry leaves free."""

    absolute: str
    square: str
    free: str | None = None
    free_count: str | None = None


COLUMNS = {
    "forces": Columns("force_abs_eV_per_A", "force_square_eV2_per_A2"),
    "stress": Columns("stress_abs_eV_per_A3", "stress_square_eV2_per_A6"),
    "born_effective_charges": Columns("bec_abs_e", "bec_square_e2", "bec_free_abs_e", "bec_free_count"),
    "dielectric_tensor": Columns("dielectric_abs", "dielectric_square", "dielectric_free_abs", "dielectric_free_count"),
}


def structure_errors(predictions: Mapping[str, Array]) -> dict[str, dict[str, str]]:
    """Errors of every structure of the validation and test sets, as a record keeps them.

    Args:
        predictions: Arrays of a run's ``predictions.npz``: ``<split>/<label>_true`` and ``…_pred`` as in
            :class:`kanmlip.evaluation.assessment.Evaluation`, ``<split>/num_atoms`` [S] and ``<split>/frame`` [S].

    Returns:
        Split → column → S numbers of five significant digits, separated by blanks. Columns are ``frame`` (index in the source),
        ``num_atoms``, ``energy_error_eV`` (predicted − true, of the whole structure) and for each other label those of
        :data:`COLUMNS`, sums over the structure's components (3N of forces, 9 of a stress, 9N of Born charges, 9 of a dielectric
        tensor). Of more than :data:`MAX_STRUCTURES` structures those evenly spaced in the set's order are kept.
    """
    found = {}
    for split in SPLITS:
        members = {name.removeprefix(f"{split}/"): array for name, array in predictions.items() if name.startswith(f"{split}/")}
        if "num_atoms" in members:
            columns = _columns(members)
            kept = kept_structures(len(members["num_atoms"]))
            found[split] = {name: pack(values[kept]) for name, values in columns.items()}
    return found


def kept_structures(count: int) -> NDArray[np.int64]:
    """Positions [≤ MAX_STRUCTURES] of the structures of a set that a record keeps."""
    if count <= MAX_STRUCTURES:
        return np.arange(count)
    return np.arange(MAX_STRUCTURES) * count // MAX_STRUCTURES


def pack(values: Iterable[Any]) -> str:
    """Numbers as text, five significant digits unless they are integers; JSON lists would take a line a number."""
    return " ".join(str(int(value)) if isinstance(value, int | np.integer) else f"{value:.{DIGITS}g}" for value in values)


def unpack(text: str) -> Array:
    """The numbers of :func:`pack`.

    Raises:
        ValueError: If a word is no number.
    """
    return np.array([float(word) for word in text.split()])


def _columns(members: Mapping[str, Array]) -> dict[str, Any]:
    atoms = np.asarray(members["num_atoms"]).astype(np.int64)
    columns: dict[str, Any] = {"frame": np.asarray(members["frame"]).astype(np.int64), "num_atoms": atoms}
    if "energy_true" in members:
        columns["energy_error_eV"] = members["energy_pred"] - members["energy_true"]
    structure = np.repeat(np.arange(len(atoms)), atoms)
    for name, names in COLUMNS.items():
        if f"{name}_true" not in members:
            continue
        true = members[f"{name}_true"].astype(np.float64)
        error = np.abs(members[f"{name}_pred"] - true).reshape(len(true), -1)
        of = structure if LABELS[name].per == "atom" else np.arange(len(true))
        columns[names.absolute] = _summed(error, of, len(atoms))
        columns[names.square] = _summed(error**2, of, len(atoms))
        if names.free is not None and names.free_count is not None:
            free = (np.abs(true) > SYMMETRY_ZERO).reshape(error.shape)
            columns[names.free] = _summed(error * free, of, len(atoms))
            columns[names.free_count] = np.rint(_summed(free.astype(np.float64), of, len(atoms))).astype(int)
    return columns


def _summed(values: Array, structure: NDArray[np.int64], structures: int) -> Array:
    """Sums over the components of each structure, [S]."""
    total = np.zeros(structures)
    np.add.at(total, structure, values.sum(1))
    return total
