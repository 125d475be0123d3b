"""When a simulation has left everything physical behind: numbers that are not finite, atoms that fly apart or into each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from numpy.typing import NDArray

from kanmlip.data.neighbours import search_cell
from kanmlip.errors import KanmlipError


class UnstableError(KanmlipError):
    """A simulation whose atoms fly apart or collapse, or whose energy or forces are not finite."""


@dataclass(frozen=True)
class Limits:
    """Beyond these a simulation is stopped.

    Attributes:
        step_A: Longest way of an atom in one step, Å; hydrogen at 3,000 K makes about 0.1 in 1 fs.
        force_eV_per_A: Largest force on an atom, eV/Å.
        heating: Highest instantaneous temperature, as a multiple of the thermostat's or of 300 K, whichever is more.
        touching: Shortest distance of two atoms, as a share of the sum of their covalent radii.
    """

    step_A: float = 0.5  # noqa: N815 - the unit's own case
    force_eV_per_A: float = 1000.0  # noqa: N815
    heating: float = 10.0
    touching: float = 0.4


class Watch:
    """Looks at every step of a simulation.

    Args:
        atoms: The structure at the start; atoms that are alone there may stay so.
        cutoff: Å; an atom without a neighbour within it feels nothing.
        temperature_K: Wanted.
        limits: See :class:`Limits`.
    """

    def __init__(self, atoms: Atoms, cutoff: float, temperature_K: float, limits: Limits | None = None) -> None:  # noqa: N803
        self.limits = limits or Limits()
        self.cutoff = cutoff
        self.hottest = self.limits.heating * max(temperature_K, 300.0)
        self.alone = self._alone(self._pairs(atoms)[0], len(atoms))
        self.before = atoms.get_positions()

    def check(self, atoms: Atoms, thorough: bool) -> None:
        """Look at the structure after a step.

        Args:
            atoms: With its calculator's results.
            thorough: Look at distances too, which needs a neighbour list.

        Raises:
            UnstableError: In one line what is wrong with which atom.
        """
        forces = atoms.get_forces()
        # Not asked for again where the calculator has it: ASE compares two structures for every question.
        energy = atoms.calc.results["energy"] if "energy" in atoms.calc.results else atoms.get_potential_energy()
        if not np.isfinite(energy) or not np.isfinite(forces).all() or not np.isfinite(atoms.positions).all():
            raise UnstableError(f"the energy is {energy:g} eV and {int((~np.isfinite(forces)).sum())} force components are not finite")
        pull = np.linalg.norm(forces, axis=1)
        if pull.max() > self.limits.force_eV_per_A:
            raise UnstableError(f"the force on atom {pull.argmax()} ({atoms.symbols[pull.argmax()]}) is {pull.max():.0f} eV/Å")
        way = np.linalg.norm(atoms.positions - self.before, axis=1)
        self.before = atoms.get_positions()
        if way.max() > self.limits.step_A:
            raise UnstableError(f"atom {way.argmax()} ({atoms.symbols[way.argmax()]}) moved by {way.max():.2f} Å in one step")
        if atoms.get_temperature() > self.hottest:
            raise UnstableError(f"the temperature is {atoms.get_temperature():.0f} K, above {self.hottest:.0f} K")
        if thorough:
            self._check_distances(atoms)

    def _check_distances(self, atoms: Atoms) -> None:
        i, j, distance = self._pairs(atoms)
        lost = self._alone(i, len(atoms)) & ~self.alone
        if lost.any():
            index = int(np.flatnonzero(lost)[0])
            raise UnstableError(
                f"{int(lost.sum())} atom(s) flew apart: atom {index} ({atoms.symbols[index]}) has no neighbour within {self.cutoff:g} Å"
            )
        share = distance / (covalent_radii[atoms.numbers[i]] + covalent_radii[atoms.numbers[j]])
        if share.size and share.min() < self.limits.touching:
            k = int(share.argmin())
            pair = f"{i[k]} ({atoms.symbols[i[k]]}) and {j[k]} ({atoms.symbols[j[k]]})"
            raise UnstableError(f"atoms {pair} are {distance[k]:.2f} Å apart: they fell into each other")

    def _pairs(self, atoms: Atoms) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        from matscipy.neighbours import neighbour_list

        cell, positions = search_cell(atoms, self.cutoff)
        i, j, distance = neighbour_list("ijd", positions=positions, cell=cell, pbc=atoms.pbc, cutoff=self.cutoff)
        return i, j, distance

    @staticmethod
    def _alone(i: NDArray[np.int64], number: int) -> NDArray[np.bool_]:
        return np.asarray(np.bincount(i, minlength=number) == 0)
