"""Fixtures for every test: single-threaded torch, caches and results in temporary folders, silver structures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

CACHE = os.environ.get("KANMLIP_CACHE")  # before tests have their own


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _isolated_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the repository; the cache is shared within a session, so that the toy set is made once a worker.

    Compiled kernels are shared by all workers, and with whoever calls the tests if that one says where they are: they take a minute and
    more, and are named after everything that they depend on.
    """
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path_factory.mktemp("results")))
    own = tmp_path_factory.getbasetemp()
    if not (own / "cache").exists():
        (own / "cache").mkdir()
        kernels = Path(CACHE or own.parent).absolute() / "kernels"
        kernels.mkdir(parents=True, exist_ok=True)
        (own / "cache" / "kernels").symlink_to(kernels, target_is_directory=True)
    monkeypatch.setenv("KANMLIP_CACHE", str(own / "cache"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def rattled_silver(repeat: tuple[int, int, int] = (2, 2, 1), seed: int = 0, amplitude: float = 0.12) -> Atoms:
    """A rattled, slightly sheared fcc Ag cell with energy, forces and stress from ASE's EMT."""
    atoms = bulk("Ag", cubic=True).repeat(repeat)
    random = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += amplitude * random.normal(size=atoms.positions.shape)
    atoms.calc = EMT()
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, stress=stress)
    return atoms


@pytest.fixture(scope="session")
def silver() -> list[Atoms]:
    """Four rattled 16-atom Ag cells."""
    return [rattled_silver(seed=seed) for seed in range(4)]


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return Path(__file__).parents[1]
