"""A small silver set that needs no download: 71 atoms with a vacancy, labelled by ASE's effective-medium potential."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from pydantic import Field

from kanmlip.data.labels import attach
from kanmlip.data.made import DECIMALS, MadeDataset


class Toy(MadeDataset):
    """Snapshots of a Langevin run of the paper's 71-atom Ag cell, made on first use and kept in the cache.

    Attributes:
        temperature_K: Of the thermostat.
        interval: Steps of 5 fs between snapshots.
        equilibration: Steps before the first.
        n_frames: Snapshots.
        trajectory_seed: Seed of velocities and thermostat.
    """

    recipe_version: ClassVar[int] = 1
    recipe_fields: ClassVar[frozenset[str]] = frozenset({"temperature_K", "interval", "equilibration", "n_frames", "trajectory_seed"})

    temperature_K: float = Field(1000.0, gt=0)  # noqa: N815 - the unit's own case
    interval: int = Field(10, ge=1)
    equilibration: int = Field(200, ge=0)
    n_frames: int = Field(120, ge=3, le=10**6)
    trajectory_seed: int = Field(7, ge=0, lt=2**32)  # what numpy's RandomState takes

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"energy", "forces", "stress"})

    def label_source(self) -> Calculator:
        """See :meth:`DatasetConfig.label_source`."""
        from ase.calculators.emt import EMT

        return EMT()

    @property
    def title(self) -> str:
        """See :attr:`MadeDataset.title`."""
        return f"71-atom Ag with a vacancy, EMT labels at {self.temperature_K:g} K"

    @property
    def order_seed(self) -> int:
        """See :attr:`MadeDataset.order_seed`."""
        return self.trajectory_seed

    def make(self) -> list[Atoms]:
        """See :meth:`MadeDataset.make`."""
        return simulate(self)


def silver_with_vacancy() -> Atoms:
    """The paper's cell: 3 × 3 × 2 fcc cells of 4.1605 Å less one atom."""
    from ase.build import bulk

    atoms = bulk("Ag", a=4.1605, cubic=True).repeat((3, 3, 2))
    del atoms[0]
    return atoms


def simulate(settings: Toy) -> list[Atoms]:
    """Snapshots with energy, forces and stress of the positions as they are written (rounded).

    Deterministic on one machine. Rounding differs between processors and grows along a trajectory, so that another machine may
    make other snapshots of the same ensemble; :meth:`Toy.fingerprint` therefore names the recipe.
    """
    from ase import units
    from ase.calculators.emt import EMT
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    atoms = silver_with_vacancy()
    atoms.calc = EMT()
    random = np.random.RandomState(settings.trajectory_seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=settings.temperature_K, rng=random)
    with warnings.catch_warnings():
        # ASE ≥ 3.28 warns that keeping the centre of mass fixed is not exactly canonical, which training data need not be.
        warnings.simplefilter("ignore", FutureWarning)
        dynamics = Langevin(atoms, 5 * units.fs, temperature_K=settings.temperature_K, friction=0.02 / units.fs, rng=random)
    dynamics.run(settings.equilibration)
    snapshots = []
    for _ in range(settings.n_frames):
        dynamics.run(settings.interval)
        snapshot = atoms.copy()
        snapshot.wrap()
        snapshot.positions = np.round(snapshot.positions, DECIMALS)
        snapshot.calc = EMT()
        labels = {
            "energy": np.asarray(snapshot.get_potential_energy()),
            "forces": snapshot.get_forces(),
            "stress": snapshot.get_stress(voigt=False),
        }
        snapshots.append(attach(snapshot, labels))
    return snapshots
