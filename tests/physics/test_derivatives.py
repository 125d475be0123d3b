"""Forces, stress and parameter gradients against finite differences, for every model × placement × basis, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms

from kanmlip.data.graph import Graph
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from tests.models.cases import Case, all_cases, build_case

CASES = all_cases()
STEP = 1e-4
Built = tuple[Case, Potential, Graph, ModelConfig]


@pytest.fixture(scope="module", params=CASES, ids=str)
def built(request: pytest.FixtureRequest, silver: list[Atoms]) -> Built:
    """A case, its potential in float64, the frames that it was built for and its settings; built once for all tests that change nothing."""
    potential, graph, model, _ = build_case(request.param, silver[:1], torch.float64)
    return request.param, potential, graph, model


def energy_of(potential, model, atoms: Atoms) -> float:
    return float(potential(model.collate([atoms]))["energy"])


def test_forces_are_minus_the_gradient_of_the_energy(built: Built, silver: list[Atoms]) -> None:
    _, potential, graph, model = built
    forces = potential(graph)["forces"].numpy()
    random = np.random.default_rng(5)
    for _ in range(3):
        direction = random.normal(size=forces.shape)
        direction /= np.linalg.norm(direction)
        energies = []
        for sign in (1, -1):
            moved = silver[0].copy()
            moved.positions += sign * STEP * direction
            energies.append(energy_of(potential, model, moved))
        numerical = -(energies[0] - energies[1]) / (2 * STEP)
        assert abs(numerical - (forces * direction).sum()) < 1e-5 * max(1.0, abs(numerical))


def test_stress_is_the_strain_gradient_per_volume(built: Built, silver: list[Atoms]) -> None:
    _, potential, graph, model = built
    stress = potential(graph, compute_stress=True)["stress"][0].numpy()
    random = np.random.default_rng(6)
    for _ in range(2):
        strain = random.normal(size=(3, 3))
        strain = (strain + strain.T) / (2 * np.linalg.norm(strain))
        energies = []
        for sign in (1, -1):
            deformed = silver[0].copy()
            deformed.set_cell(deformed.cell[:] @ (np.eye(3) + sign * STEP * strain), scale_atoms=True)
            energies.append(energy_of(potential, model, deformed))
        numerical = (energies[0] - energies[1]) / (2 * STEP) / silver[0].get_volume()
        assert abs(numerical - (stress * strain).sum()) < 1e-5


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_a_force_loss_equal_finite_differences_over_the_parameters(case: Case, silver: list[Atoms]) -> None:
    """Training on forces differentiates twice; a wrong second derivative in a layer shows here."""
    potential, graph, _, _ = build_case(case, silver[:1], torch.float64)
    potential.train()
    parameters = [p for p in potential.parameters() if p.requires_grad]

    def loss() -> torch.Tensor:
        output = potential(graph, compute_stress=True)
        return output["forces"].square().sum() + 100 * output["stress"].square().sum()

    gradients = torch.autograd.grad(loss(), parameters, allow_unused=True, materialize_grads=True)
    generator = torch.Generator().manual_seed(8)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    length = sum(float(d.square().sum()) for d in direction) ** 0.5
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True)) / length

    def loss_at(offset: float) -> float:
        shifted(offset)
        value = float(loss().detach())
        shifted(-offset)
        return value

    def shifted(offset: float) -> None:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p.add_(d, alpha=offset / length)

    # Fourth-order central difference.
    numerical = (8 * (loss_at(STEP) - loss_at(-STEP)) - (loss_at(2 * STEP) - loss_at(-2 * STEP))) / (12 * STEP)
    assert abs(numerical - analytic) < 1e-5 * max(abs(analytic), 1e-3)
