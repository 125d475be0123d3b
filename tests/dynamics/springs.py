"""Calculators that cost nothing and whose physics is known, none of which remembers the structure before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT


class Springs(Calculator):
    """Each atom bound to a place of its own: E = k/2 Σ |r − r0|²."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]

    def __init__(self, places: np.ndarray, stiffness: float = 2.0) -> None:
        super().__init__()
        self.places, self.stiffness = places, stiffness

    def calculate(self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.places
        energy = float(self.stiffness / 2 * (away**2).sum())
        self.results = {"energy": energy, "free_energy": energy, "forces": -self.stiffness * away}


class ForgetfulEMT(Calculator):
    """ASE's EMT with a new neighbour list for every structure: its own depends on the structures before, in the last digits."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def calculate(self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = EMT()
        self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}


class Repulsion(Calculator):
    """Every atom is driven away from the middle with a constant force, eV/Å: nothing holds."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, force: float) -> None:
        super().__init__()
        self.force = force

    def calculate(self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        away = self.atoms.positions - self.atoms.positions.mean(0)
        length = np.linalg.norm(away, axis=1, keepdims=True)
        self.results = {"energy": float(-self.force * length.sum()), "forces": self.force * away / length}


def silver_crystal() -> Atoms:
    """32 silver atoms where they belong."""
    return bulk("Ag", a=4.09, cubic=True).repeat(2)


def bound_silver() -> Atoms:
    """The same on springs."""
    atoms = silver_crystal()
    atoms.calc = Springs(atoms.get_positions())
    return atoms
