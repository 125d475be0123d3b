"""A model and a dataset that train in moments, with faults on demand, for tests of sweeps and of the command line.

``KANMLIP_TEST_FAULT=<seed>:<kind>`` makes the run with that seed end as ``kind`` says, ``<seed>:<kind>:swap`` only if its MLP
is to become a KAN; ``KANMLIP_TEST_DELAY=<seconds>`` slows every evaluation down; ``KANMLIP_TEST_HOLD=<file>`` has every process stop
in the middle of its run for as long as that file exists.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from torch import Tensor, nn

from kanmlip.data.base import DatasetConfig, Splits
from kanmlip.data.graph import Graph
from kanmlip.data.statistics import DataStats
from kanmlip.errors import DataError, DivergenceError
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import EnergyPotential, Potential
from kanmlip.placement.config import PlacementConfig
from kanmlip.placement.head import ScalarKAN, Swap

WIDTHS = (4, 8, 1)
# Two an epoch and some in the preflight: four epochs or more.
EVALUATIONS_BEFORE_HOLD = 16
_seed = 0
_evaluations = 0


class PairModel(nn.Module):
    """An MLP on Gaussians of the distance."""

    def __init__(self) -> None:
        super().__init__()
        self.readout = nn.Sequential(nn.Linear(WIDTHS[0], WIDTHS[1]), nn.SiLU(), nn.Linear(WIDTHS[1], WIDTHS[2]))


class PairPotential(EnergyPotential):
    """Sum of a function of the distances."""

    def energy(self, graph: Graph, positions: Tensor, cell: Tensor) -> Tensor:
        time.sleep(float(os.environ.get("KANMLIP_TEST_DELAY", "0")))
        hold()
        centre, neighbour = graph.edge_index
        shift = torch.einsum("ei,eij->ej", graph.edge_cell_shift.to(cell.dtype), cell[graph.batch[centre]])
        distance = (positions[neighbour] - positions[centre] + shift).norm(dim=1, keepdim=True)
        dtype = next(self.upstream.parameters()).dtype
        features = torch.exp(-((distance - torch.tensor([2.0, 3.0, 4.0, 5.0], dtype=distance.dtype)) ** 2)).to(dtype)
        pair = self.upstream.readout(features).squeeze(1).to(torch.float64)
        return torch.zeros(graph.num_structures, dtype=torch.float64).index_add(0, graph.batch[centre], pair)


class FakeModel(ModelConfig):
    """A pair potential with one MLP."""

    targets: ClassVar = {"output": ("readout",)}
    placements: ClassVar = {"none": (), "output": ("output",)}
    requires: ClassVar = {}

    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        global _seed  # noqa: PLW0603 - swap is not told the seed
        _seed = seed
        fault(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return PairPotential(PairModel().to(dtype))

    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        fault(_seed, "swap")
        return Swap(WIDTHS, ScalarKAN)


class FakeDataset(DatasetConfig):
    """Rattled argon."""

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"energy", "forces", "stress"})

    def load(self, root: Path) -> Splits:
        random = np.random.default_rng(0)
        frames = [argon(random) for _ in range(8)]
        return Splits(
            train=frames[:4],
            val=frames[4:6],
            test=frames[6:],
            label="argon, Lennard-Jones",
            stand_in=False,
            sha256=self.fingerprint(root),
            subset="all 8 frames",
            indices={"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7]},
        )

    def fingerprint(self, root: Path) -> str:
        return "f" * 64


def argon(random: np.random.Generator) -> Atoms:
    """Eight atoms in a box with labels."""
    grid = np.stack(np.meshgrid(*[[0, 3.7]] * 3), -1).reshape(-1, 3)
    atoms = Atoms("Ar8", positions=grid + 0.2 * random.normal(size=(8, 3)), cell=[7.4] * 3, pbc=True)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=3.6)
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def hold() -> None:
    """Wait while the file exists that ``KANMLIP_TEST_HOLD`` names, once this process has made some evaluations."""
    global _evaluations  # noqa: PLW0603 - of the whole process
    _evaluations += 1
    path = os.environ.get("KANMLIP_TEST_HOLD")
    while path and _evaluations > EVALUATIONS_BEFORE_HOLD and Path(path).exists():
        time.sleep(0.02)


def fault(seed: int, place: str = "") -> None:
    """End this process as the environment asks, if the seed and the place are those named."""
    wanted, kind, where = (os.environ.get("KANMLIP_TEST_FAULT", "") + "::").split(":")[:3]
    if (wanted, where) != (str(seed), place):
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "raise":
        raise RuntimeError("a fault was asked for")
    if kind == "memory":
        raise MemoryError("no room")
    if kind == "diverge":
        raise DivergenceError("the loss became NaN in epoch 1")
    if kind == "data":
        raise DataError("frame 3 has no energy")
    if kind == "sleep":
        time.sleep(60)
