"""A small silver set that needs no download: 71 atoms with a vacancy, labelled by ASE's effective-medium potential."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from pydantic import Field

from kanmlip.data.base import DatasetConfig, Splits
from kanmlip.data.labels import LabelKeys
from kanmlip.data.root import cache_root
from kanmlip.data.selection import load_selected
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError

RECIPE_VERSION = 1
DECIMALS = 8


class Toy(DatasetConfig):
    """Snapshots of a Langevin run of the paper's 71-atom Ag cell, made on first use and kept in the cache.

    Attributes:
        temperature_K: Of the thermostat.
        interval: Steps of 5 fs between snapshots.
        equilibration: Steps before the first.
        n_frames: Snapshots.
        trajectory_seed: Seed of velocities and thermostat.
    """

    temperature_K: float = Field(1000.0, gt=0)  # noqa: N815 - the unit's own case
    interval: int = Field(10, ge=1)
    equilibration: int = Field(200, ge=0)
    n_frames: int = Field(120, ge=3)
    trajectory_seed: int = Field(7, ge=0)

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"energy", "forces", "stress"})

    def fingerprint(self, root: Path) -> str:
        """sha256 of the recipe, not of the file: rounding that differs between machines must not rename a run."""
        recipe = {
            "version": RECIPE_VERSION,
            **self.model_dump(include={"temperature_K", "interval", "equilibration", "n_frames", "trajectory_seed"}),
        }
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    def load(self, root: Path) -> Splits:
        """See :meth:`DatasetConfig.load`; the frames are cut into train, val and test in a random order."""
        path = cache_root() / "toy" / f"{self.fingerprint(root)[:16]}.extxyz"
        frames = self.cached(path)
        if frames is None:
            print(f"making the toy set: {self.n_frames} snapshots of 71 Ag atoms with EMT labels", flush=True)
            write_frames(path, simulate(self))
            frames = read_frames(path)
        order = np.random.default_rng(self.trajectory_seed).permutation(len(frames)).tolist()
        train, val = int(len(order) * 2 / 3), int(len(order) * 5 / 6)
        parts = {"train": sorted(order[:train]), "val": sorted(order[train:val]), "test": sorted(order[val:])}
        chosen, indices, counts = {}, {}, []
        for split, available in parts.items():
            drawn = self.draw(available, {"train": self.n_train, "val": self.n_val, "test": self.n_test}[split], split)
            labels = sorted(self.provides)
            chosen[split], indices[split] = load_selected(path, frames, drawn, LabelKeys(), labels, self.max_force, self.on_bad_frame)
            counts.append(f"{len(indices[split])} of {len(available)} {split}")
        subset = f"{', '.join(counts)} frames (drawn with seed {self.subset_seed})"
        return Splits(
            **chosen,
            label=f"toy: 71-atom Ag with a vacancy, EMT labels at {self.temperature_K:g} K; {subset}",
            stand_in=True,
            sha256=self.fingerprint(root),
            subset=subset,
            indices=indices,
        )

    def cached(self, path: Path) -> list[str] | None:
        """The frames of an earlier run; none if there is no whole file of them."""
        try:
            frames = read_frames(path) if path.is_file() else []
        except DataError:
            frames = []
        return frames if len(frames) == self.n_frames else None


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

    from kanmlip.data.labels import attach

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


def write_frames(path: Path, frames: list[Atoms]) -> None:
    """Write an extended-XYZ file in one piece.

    Raises:
        DataError: If the folder cannot be written to.
    """
    import ase.io

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.extxyz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(temporary, frames, format="extxyz")
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; let KANMLIP_CACHE name a folder that can be") from error
