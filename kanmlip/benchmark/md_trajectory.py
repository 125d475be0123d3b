"""The path that every contender of the MD benchmark follows: real dynamics of silver at 300 K, driven by ASE's EMT."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from kanmlip.dynamics.integrator import draw_momenta, make_dynamics
from kanmlip.dynamics.settings import MDSettings
from kanmlip.dynamics.start import bare
from kanmlip.errors import ConfigError, describe_choice

# Atoms → repeats of the 71-atom cell along each lattice vector.
SYSTEMS = {71: 1, 568: 2, 4544: 4}
# Steps of each contender, by number of atoms: some 300,000 atoms in all.
STEPS = {71: 5000, 568: 500, 4544: 50}
# 1 ps from twice the temperature on the lattice, half of which goes into the potential energy.
_EQUILIBRATION = MDSettings(ensemble="langevin", temperature_K=300.0, timestep_fs=5.0, steps=200, seed=1)


def starting_atoms(count: int) -> Atoms:
    """Silver at 300 K with fresh momenta: the paper's cell of 71 atoms after 1 ps, repeated.

    Repeats have the cell's own disorder, so that every size has the same number of neighbours an atom.

    Raises:
        ConfigError: If there is no such system.
    """
    if count not in SYSTEMS:
        raise ConfigError(describe_choice("--sizes", count, map(str, SYSTEMS)))
    atoms = _equilibrated().repeat(SYSTEMS[count])
    draw_momenta(atoms, _EQUILIBRATION.temperature_K, np.random.default_rng([_EQUILIBRATION.seed, count]))
    return atoms


@functools.cache
def _equilibrated() -> Atoms:
    """The cell of 71 atoms, bare."""
    from ase.calculators.emt import EMT

    from kanmlip.data.toy import silver_with_vacancy

    cell, random = silver_with_vacancy(), np.random.default_rng(_EQUILIBRATION.seed)
    cell.calc = EMT()
    draw_momenta(cell, 2 * _EQUILIBRATION.temperature_K, random)
    make_dynamics(cell, _EQUILIBRATION, "langevin", random).run(_EQUILIBRATION.steps)
    return bare(cell)


class Trajectory:
    """Positions and forces of an NVT run, made as far as they are asked for.

    The forces are EMT's. A contender that integrates with them moves through the same positions to the last bit, whatever its own
    forces are: no contender has more neighbours than another, and an untrained one does not tear the crystal apart.

    Attributes:
        start: Structure with momenta at step 0, without a calculator.
        settings: Ensemble, temperature, time step, seed.
        positions: [N, 3] of each step that was made, Å.
        forces: [N, 3] of the same, eV/Å.
    """

    def __init__(self, start: Atoms, settings: MDSettings) -> None:
        self.start = start
        self.settings = settings
        self.positions: list[NDArray[np.float64]] = []
        self.forces: list[NDArray[np.float64]] = []
        self._dynamics: MolecularDynamics | None = None

    @property
    def length(self) -> int:
        """Number of the last step that was made; -1 before the first."""
        return len(self.forces) - 1

    def reach(self, step: int) -> None:
        """Make every step up to this one."""
        if len(self.forces) <= step:
            dynamics = self._dynamics = self._dynamics or self._begin()
            while len(self.forces) <= step:
                dynamics.run(1)
                self.positions.append(dynamics.atoms.get_positions())
                self.forces.append(dynamics.atoms.get_forces())

    def _begin(self) -> MolecularDynamics:
        from ase.calculators.emt import EMT

        atoms = self.start.copy()
        atoms.calc = EMT()
        # In place: a simulation under way looks into these lists.
        self.positions[:], self.forces[:] = [atoms.get_positions()], [atoms.get_forces()]
        return make_dynamics(atoms, self.settings, self.settings.ensemble, np.random.default_rng(self.settings.seed))

    def save(self, path: Path, steps: int) -> None:
        """Write the first steps for another process."""
        self.reach(steps)
        np.savez(
            path,
            numbers=self.start.numbers,
            cell=np.asarray(self.start.cell),
            momenta=self.start.get_momenta(),
            positions=np.stack(self.positions[: steps + 1]),
            forces=np.stack(self.forces[: steps + 1]),
        )

    @classmethod
    def load(cls, path: Path, settings: MDSettings) -> Trajectory:
        """What :meth:`save` wrote; goes no further than that was without EMT."""
        with np.load(path, allow_pickle=False) as stored:
            start = Atoms(stored["numbers"], positions=stored["positions"][0], cell=stored["cell"], pbc=True, momenta=stored["momenta"])
            trajectory = cls(start, settings)
            trajectory.positions, trajectory.forces = list(stored["positions"]), list(stored["forces"])
        return trajectory
