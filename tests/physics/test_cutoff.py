"""Energies are continuous and C¹ when a neighbour crosses the cutoff, and an isolated atom keeps its energy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from kanmlip.data.graph import Graph
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from tests.models.cases import Case, all_cases, build_case
from tests.models.settings import build, energy_models

CASES = all_cases()
OFFSETS = np.array([-0.02, -0.01, -1e-3, -1e-6, 1e-6, 0.05])
Built = tuple[Case, Potential, Graph, ModelConfig]


@pytest.fixture(scope="module", params=CASES, ids=str)
def built(request: pytest.FixtureRequest, silver: list[Atoms]) -> Built:
    """A case, its potential in float64, the frames that it was built for and its settings; built once for all tests that change nothing."""
    potential, graph, model, _ = build_case(request.param, silver, torch.float64)
    return request.param, potential, graph, model


def clusters(cutoff: float) -> dict[str, list[Atoms]]:
    """A dimer, and a trimer whose third atom stays bound, with one distance passing through the cutoff."""
    dimers = [Atoms("Ag2", positions=[[0, 0, 0], [0, 0, cutoff + x]]) for x in OFFSETS]
    trimers = [Atoms("Ag3", positions=[[0, 0, 0], [0, 0, cutoff + x], [2.4, 0, 0.9]]) for x in OFFSETS]
    return {"dimer": dimers, "trimer": trimers}


@pytest.mark.parametrize("cluster", ["dimer", "trimer"])
def test_energy_and_forces_pass_smoothly_through_the_cutoff(built: Built, cluster: str) -> None:
    _, potential, _, model = built
    outputs = [potential(model.collate([atoms])) for atoms in clusters(model.cutoff)[cluster]]
    energies = np.array([float(output["energy"]) for output in outputs])
    pull = np.array([float(output["forces"][1, 2]) for output in outputs])
    # C0 and C1 at the crossing itself: 2e-6 Å apart on either side.
    assert abs(energies[3] - energies[4]) < 1e-9
    assert abs(pull[3] - pull[4]) < 1e-6
    if cluster == "dimer":
        # The pair's energy fades out: bounded by its value 0.02 Å inside, and nothing is left outside.
        assert abs(energies[2] - energies[5]) <= abs(energies[0] - energies[5]) + 1e-12
        assert pull[5] == 0
        # Twice continuously differentiable: the force falls at least as fast as the distance to the cutoff squared.
        assert abs(pull[2]) <= abs(pull[1]) * 0.011 + 1e-9


def test_an_isolated_atoms_energy_is_unchanged_by_the_swap(built: Built, silver: list[Atoms]) -> None:
    case, potential, _, model = built
    plain, _, stats = build(energy_models()[case.model], silver, torch.float64)
    atom = model.collate([Atoms("Ag", positions=[[0.3, 0.2, 0.1]])])
    energy = float(potential(atom)["energy"])
    assert energy == pytest.approx(float(plain.eval()(atom)["energy"]), abs=1e-9)
    assert energy == pytest.approx(stats.reference_energies[47], abs=1e-9)
    assert torch.equal(potential(atom)["forces"], torch.zeros(1, 3, dtype=torch.float64))
