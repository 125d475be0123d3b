"""The adapters change nothing of what the upstream packages compute, and leave the process as they found it."""

from __future__ import annotations

import builtins
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import all_changes

from kanmlip.errors import MissingDependencyError
from kanmlip.models.base import ModelConfig
from tests.models.settings import build, energy_models


@pytest.mark.parametrize("name", ["allegro", "nequip"])
def test_energies_forces_and_stress_equal_those_of_nequips_own_output_module(name: str, silver: list[Atoms]) -> None:
    model = energy_models()[name]
    potential, graph, _ = build(model, silver, torch.float64)
    potential.eval()
    ours = potential(graph, compute_stress=True)
    theirs = potential.upstream(potential.inputs(graph, graph.positions.clone(), graph.cell))
    for key, theirs_key in {"energy": "total_energy", "forces": "forces", "stress": "stress"}.items():
        torch.testing.assert_close(ours[key].flatten(), theirs[theirs_key].detach().flatten(), rtol=0, atol=1e-12)


def test_mace_equals_its_own_calculator(silver: list[Atoms]) -> None:
    potential, graph, _ = build(energy_models()["mace"], silver[:1], torch.float64)
    from mace.calculators import MACECalculator

    potential.eval()
    ours = potential(graph, compute_stress=True)
    calculator = MACECalculator(models=potential.upstream, device="cpu", default_dtype="float64")
    atoms = silver[0].copy()
    calculator.calculate(atoms, ["energy", "forces", "stress"], all_changes)
    assert ours["energy"].item() == pytest.approx(calculator.results["energy"], abs=1e-10)
    torch.testing.assert_close(ours["forces"], torch.as_tensor(calculator.results["forces"]), rtol=0, atol=1e-10)
    expected = torch.as_tensor(calculator.results["stress"])
    torch.testing.assert_close(ours["stress"][0].flatten()[[0, 4, 8, 5, 2, 1]], expected, rtol=0, atol=1e-10)


IN_A_FRESH_PROCESS = """
import os, sys
import e3nn, torch
from tests.conftest import rattled_silver
from tests.models.settings import build, energy_models
torch.manual_seed(3)
expected = torch.rand(3)
torch.manual_seed(3)
build(energy_models()[sys.argv[1]], [rattled_silver()], torch.float64)
assert torch.equal(torch.rand(3), expected), "random state"
assert torch.get_default_dtype() == torch.float32, "default dtype"
assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD" not in os.environ, "torch.load would unpickle anything"
assert not e3nn.get_optimization_defaults()["jit_script_fx"], "models could not be copied any more"
"""


@pytest.mark.parametrize("name", energy_models())
def test_building_leaves_process_wide_state_alone(name: str, repository: Path) -> None:
    # A process of its own: other tests here import parts of mace that kanmlip does not, and those set the variable too.
    command = [sys.executable, "-c", IN_A_FRESH_PROCESS, name]
    clean = {key: value for key, value in os.environ.items() if key != "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"}
    done = subprocess.run(command, cwd=repository, env=clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", energy_models().values(), ids=energy_models())
def test_the_seed_alone_decides_the_initial_weights(model: ModelConfig, silver: list[Atoms]) -> None:
    weights = []
    for seed in (1, 1, 2):
        potential, _, _ = build(model, silver[:1], seed=seed)
        weights.append(torch.cat([p.detach().flatten() for p in potential.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("model", energy_models().values(), ids=energy_models())
def test_a_missing_upstream_is_one_line_that_says_what_to_install(
    model: ModelConfig, silver: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = next(iter(model.requires))
    find_spec, real_import = importlib.util.find_spec, builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == absent:
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else find_spec(name, *rest))
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingDependencyError, match="pip install") as caught:
        build(model, silver[:1])
    assert "\n" not in str(caught.value)
    assert f"model={model.name}" in str(caught.value)
