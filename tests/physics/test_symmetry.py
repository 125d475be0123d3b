"""Rotation, permutation, translation: for every model × placement × basis, in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation

from kanmlip.data.graph import Graph
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from tests.models.cases import Case, all_cases, build_case

CASES = all_cases()
Built = tuple[Case, Potential, Graph, ModelConfig]


@pytest.fixture(scope="module", params=CASES, ids=str)
def built(request: pytest.FixtureRequest, silver: list[Atoms]) -> Built:
    """A case, its potential in float32, the frames that it was built for and its settings; built once for all tests that change nothing."""
    potential, graph, model, _ = build_case(request.param, silver[:1], torch.float32)
    return request.param, potential, graph, model


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_rotation_turns_forces_and_stress_and_leaves_the_energy(built: Built, silver: list[Atoms]) -> None:
    _, potential, graph, model = built
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
    turned = silver[0].copy()
    turned.set_cell(silver[0].cell[:] @ turn.T, scale_atoms=True)
    before, after = potential(graph, compute_stress=True), potential(model.collate([turned]), compute_stress=True)
    matrix = torch.as_tensor(turn)
    interaction = before["energy"] - potential(isolated(graph, model), compute_stress=False)["energy"] * len(turned)
    assert float((after["energy"] - before["energy"]).abs() / interaction.abs()) < 1e-5
    assert relative(after["forces"], before["forces"] @ matrix.T) < 1e-5
    assert relative(after["stress"], matrix @ before["stress"] @ matrix.T) < 1e-5


def isolated(graph, model):
    return model.collate([Atoms(numbers=[int(graph.atomic_numbers[0])], positions=[[0, 0, 0]])])


def test_permuting_atoms_permutes_forces(built: Built, silver: list[Atoms]) -> None:
    _, potential, graph, model = built
    order = np.random.default_rng(2).permutation(len(silver[0]))
    before, after = potential(graph), potential(model.collate([silver[0][order]]))
    assert relative(after["forces"], before["forces"][torch.as_tensor(order)]) < 1e-5
    assert float((after["energy"] - before["energy"]).abs()) < 1e-4


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_energy_does_not_depend_on_its_batch_nor_on_a_translation_or_the_choice_of_images(case: Case, silver: list[Atoms]) -> None:
    potential, graph, model, _ = build_case(case, silver, torch.float64)
    moved = silver[2].copy()
    moved.positions += [3.1, -7.7, 12.3]
    moved.wrap()
    alone = potential(model.collate([moved]))
    together = potential(graph)
    assert float((alone["energy"][0] - together["energy"][2]).abs()) < 1e-10
    torch.testing.assert_close(alone["forces"], together["forces"][graph.batch == 2], rtol=0, atol=1e-10)
