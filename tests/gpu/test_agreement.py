"""A potential computes on CUDA what it computes on the CPU: energies and forces to 1e-5, gradients of a force loss too."""

from __future__ import annotations

import copy

import pytest
import torch
from ase import Atoms

from tests.models.cases import Case, all_cases, build_case


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_energies_and_forces_agree_with_the_cpu(case: Case, silver: list[Atoms]) -> None:
    potential, graph, _, _ = build_case(case, silver)
    on_cpu = potential(graph, compute_stress=True)
    on_gpu = potential.to("cuda")(graph.to("cuda"), compute_stress=True)
    for name in ("forces", "stress"):
        scale = on_cpu[name].abs().max()
        assert float((on_gpu[name].cpu() - on_cpu[name]).abs().max() / scale) < 1e-5, name
    assert float(((on_gpu["energy"].cpu() - on_cpu["energy"]) / graph.num_atoms).abs().max()) < 1e-5


@pytest.mark.parametrize("case", all_cases(), ids=str)
def test_gradients_of_a_force_loss_agree_with_the_cpu_in_float64(case: Case, silver: list[Atoms]) -> None:
    potential, graph, _, _ = build_case(case, silver, torch.float64)
    other = copy.deepcopy(potential).to("cuda")
    gradients = []
    for model, batch in ((potential, graph), (other, graph.to("cuda"))):
        model.train()
        model(batch)["forces"].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-9 * float(gradients[0].abs().max()))
