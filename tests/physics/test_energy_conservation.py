"""A short NVE run of every model, placement and basis conserves energy as velocity Verlet can, while neighbours cross the cutoff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.io import read

from kanmlip.data.neighbours import neighbour_edges
from kanmlip.dynamics import MDSettings, simulate
from kanmlip.dynamics.files import read_thermo
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.placement.config import HeadConfig
from tests.conftest import rattled_silver
from tests.models.cases import Case, all_cases, build_case
from tests.models.settings import energy_models

TIMES = (2.0, 1.0)  # fs
DURATION = 32.0  # fs


class InMemory(Calculator):
    """A potential as it was built."""

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012 - ASE's own form

    def __init__(self, potential: Potential, model: ModelConfig) -> None:
        super().__init__()
        self.potential, self.model = potential, model

    def calculate(self, atoms=None, properties=("energy",), system_changes=()) -> None:  # type: ignore[no-untyped-def]
        super().calculate(atoms, properties, system_changes)
        output = self.potential(self.model.collate([self.atoms]))
        self.results = {"energy": float(output["energy"]), "free_energy": float(output["energy"]), "forces": output["forces"].numpy()}


def spreads(case: Case, silver: list[Atoms], folder: Path, head: HeadConfig | None = None) -> tuple[list[float], bool]:
    """Spread of the total energy (eV) for each time step over the same time, and whether a pair crossed the cutoff meanwhile."""
    potential, _, model, _ = build_case(case, silver, torch.float64, head)
    found, crossed = [], False
    for timestep in TIMES:
        atoms = rattled_silver(seed=5, amplitude=0.18)
        atoms.calc = InMemory(potential, model)
        settings = MDSettings(temperature_K=600, timestep_fs=timestep, steps=int(DURATION / timestep), interval=1, seed=1)
        here = folder / f"{case}-{timestep:g}"
        assert simulate(atoms, settings, here, cutoff=model.cutoff).status == "done"
        found.append(float(np.std(read_thermo(here / "thermo.csv")["conserved_eV"])))
        numbers = {neighbour_edges(frame, model.cutoff)[0].shape[1] for frame in read(here / "trajectory.xyz", ":")}
        crossed = crossed or len(numbers) > 1
    return found, crossed


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_the_error_of_the_energy_falls_with_the_square_of_the_time_step(case: Case, silver: list[Atoms], tmp_path: Path) -> None:
    (coarse, fine), crossed = spreads(case, silver, tmp_path)
    assert crossed
    # Second order: a quarter. A force that jumps leaves an error of first order, an energy that jumps one that does not fall at all.
    assert 3.5 < coarse / fine < 5
    assert fine < 16 * 1e-5


def test_an_energy_that_jumps_at_the_cutoff_is_seen(silver: list[Atoms], tmp_path: Path) -> None:
    """What these tests would say of the literal FastKAN head, whose energy jumps."""
    if "allegro" not in energy_models():
        pytest.skip("allegro is not installed")
    literal = HeadConfig(zero_preserving=False, norm="layer")
    with pytest.warns(UserWarning, match="jump"):
        (coarse, fine), crossed = spreads(Case("allegro", "output", "gaussian"), silver, tmp_path, literal)
    assert crossed
    assert fine > 0.6 * coarse or fine > 0.01
