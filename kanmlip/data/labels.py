"""Energy, forces and stress of a structure: found under configurable keys, checked, and put where ASE keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from kanmlip.errors import DataError, describe_choice
from kanmlip.schema import Schema


class LabelKeys(Schema):
    """Names of the labels in a file; ASE's own names are moved to a calculator on reading, which makes no difference here.

    Attributes:
        energy: Total energy, eV.
        forces: Forces, eV/Å.
        stress: Stress, eV/Å³, ASE's sign; nine or six (Voigt) numbers.
        virial: Virial, eV, used as stress = -virial/V where there is no stress.
    """

    energy: str = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    virial: str | None = None


def available(atoms: Atoms) -> dict[str, Any]:
    """Everything a frame carries beside its geometry, by name."""
    found: dict[str, Any] = {**atoms.info, **{k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}}
    return found | (dict(atoms.calc.results) if atoms.calc is not None else {})


def extract(atoms: Atoms, keys: LabelKeys) -> dict[str, NDArray[np.float64]]:
    """The labels a frame has: ``energy`` [], ``forces`` [N, 3], ``stress`` [3, 3] (only where all directions are periodic).

    Raises:
        DataError: If what stands under a key is not so many numbers.
    """
    values = available(atoms)
    labels: dict[str, NDArray[np.float64]] = {}
    if keys.energy in values:
        labels["energy"] = _numbers(values, keys.energy, (1,)).reshape(())
    if keys.forces is not None and keys.forces in values:
        labels["forces"] = _numbers(values, keys.forces, (3 * len(atoms),)).reshape(len(atoms), 3)
    if not all(atoms.pbc):
        return labels
    if keys.stress is not None and keys.stress in values:
        labels["stress"] = full_stress(_numbers(values, keys.stress, (6, 9)))
    elif keys.virial is not None and keys.virial in values and has_volume(atoms):
        labels["stress"] = -full_stress(_numbers(values, keys.virial, (6, 9))) / atoms.get_volume()
    return labels


def _numbers(values: Mapping[str, Any], key: str, sizes: Sequence[int]) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values[key], dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"what it has under '{key}' is not numeric: {str(values[key])[:40]!r}") from None
    if numbers.size not in sizes:
        raise DataError(f"it has {numbers.size} numbers under '{key}', not {' or '.join(map(str, sizes))}")
    return numbers


def full_stress(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[3, 3] from nine numbers, or from six in Voigt order xx, yy, zz, yz, xz, xy."""
    if values.size == 6:
        xx, yy, zz, yz, xz, xy = values.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return values.reshape(3, 3)


def has_volume(atoms: Atoms) -> bool:
    """Whether the lattice vectors of the periodic directions are there and independent."""
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    return bool(np.linalg.det(vectors @ vectors.T) > 1e-12) if len(vectors) else True


def require_key(atoms: Atoms, key: str, name: str, setting: str, source: str) -> None:
    """Check that a frame has what a key names.

    Raises:
        DataError: Listing the keys in the file and the nearest one.
    """
    values = available(atoms)
    if key not in values:
        raise DataError(f"{source} has no {name} under that key: " + describe_choice(setting, key, values))


def fault(atoms: Atoms, labels: Mapping[str, NDArray[np.float64]], expected: Sequence[str], max_force: float) -> str | None:
    """Why a frame must not be trained on, or none."""
    if not np.isfinite(atoms.positions).all() or not np.isfinite(np.asarray(atoms.cell)).all():
        return "its positions or cell are not finite"
    if not has_volume(atoms):
        return f"it is periodic (pbc={''.join('T' if periodic else 'F' for periodic in atoms.pbc)}) but its cell has no volume"
    for name in expected:
        if name not in labels:
            return f"it has no {name}"
        if not np.isfinite(labels[name]).all():
            return f"its {name} is not finite"
    if "forces" in labels and (largest := float(np.abs(labels["forces"]).max())) > max_force:
        return f"it has a force of {largest:.4g} eV/Å, beyond dataset.max_force={max_force:g}"
    return None


def attach(atoms: Atoms, labels: Mapping[str, NDArray[np.float64]]) -> Atoms:
    """The bare structure with its labels in a ``SinglePointCalculator``."""
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    results: dict[str, Any] = {name: value for name, value in labels.items() if name != "energy"}
    if "energy" in labels:
        results["energy"] = float(labels["energy"])
    if "stress" in results:
        s = results["stress"]
        results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    bare.calc = SinglePointCalculator(bare, **results)
    return bare
