"""The TorchSim model of a run: the interface's own check, the model in memory system by system, and dynamics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms
from ase.build import bulk

from kanmlip.errors import ConfigError, DataError
from kanmlip.export import ase as export_ase
from kanmlip.export.loading import LoadedRun, load_potential
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import PRECISIONS, TOLERANCE, WITH_SEVEN_KANS, make_run, patchwork

ts = pytest.importorskip("torch_sim", reason="needs TorchSim; run: pip install torch-sim-atomistic")
torchsim = pytest.importorskip("kanmlip.export.torchsim")


@pytest.mark.parametrize(("case", "precision"), PRECISIONS)
def test_a_batch_equals_the_model_in_memory(
    case: str, precision: str, run_of: Callable[..., Made], loaded_of: Callable[[str, str], LoadedRun]
) -> None:
    _, potential, config = run_of(case, precision=precision)
    frames = [rattled_silver(seed=9), rattled_silver((2, 1, 1), seed=4)]
    model = torchsim.TorchSimModel(loaded_of(case, precision))
    output = model(ts.io.atoms_to_state(frames, model.device, model.dtype))
    expected = potential(config.model.collate(frames), compute_stress=True)
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(output[name], expected[name], rtol=0, atol=TOLERANCE[precision] * (16 if name == "energy" else 1))


def test_every_basis_is_in_a_batch(silver: list[Atoms], tmp_path: Path) -> None:
    pytest.importorskip("allegro")
    run = load_potential(make_run(tmp_path, silver, "allegro-all", *WITH_SEVEN_KANS["allegro-all"])[0])
    assert set(patchwork(run).values()) == {1}
    frames = [rattled_silver(seed=9), rattled_silver((2, 1, 1), seed=4)]
    output = torchsim.TorchSimModel(run)(ts.io.atoms_to_state(frames, torch.device("cpu"), torch.float64))
    expected = run.potential(run.config.model.collate(frames))
    for name in ("energy", "forces"):
        torch.testing.assert_close(output[name], expected[name], rtol=0, atol=1e-9)


def test_upstream_accepts_the_model(silver: list[Atoms], tmp_path: Path) -> None:
    pytest.importorskip("nequip")
    from torch_sim.models.interface import validate_model_outputs

    # Upstream checks with silicon and iron.
    frames = [bulk("Si", cubic=True), bulk("Fe", cubic=True).repeat(2)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.1, seed=seed)
        atoms.calc = silver[0].calc.__class__(atoms, energy=-1.0 * len(atoms))
    run_dir, _, _ = make_run(tmp_path, frames, "nequip-output", "trainer.loss.forces=0", "trainer.loss.stress=0")
    validate_model_outputs(torchsim.load(run_dir), torch.device("cpu"), torch.float64)


def test_energy_is_kept_in_nve(run_of: Callable[..., Made]) -> None:
    run_dir, _, _ = run_of("nequip-output")
    model = torchsim.load(run_dir)
    atoms = bulk("Ag", cubic=True).repeat((2, 2, 1))
    final = ts.integrate(system=atoms, model=model, integrator=ts.integrators.nve, n_steps=10, temperature=300, timestep=0.001, seed=1)
    atoms_after = final.to_atoms()[0]
    atoms_after.calc = export_ase.load(run_dir)
    assert float(final.energy) == pytest.approx(atoms_after.get_potential_energy(), abs=1e-9)
    assert float((final.positions - torch.tensor(atoms.positions)).abs().max()) > 1e-3


def test_states_in_float32_are_answered_in_float32_and_open_ones_without_images(run_of: Callable[..., Made]) -> None:
    run_dir, potential, config = run_of("nequip-output")
    cluster = Atoms("Ag3", positions=[[0, 0, 0], [0, 0, 2.8], [0, 2.7, 0.2]], cell=[3.0, 3.0, 3.0], pbc=False)
    model = torchsim.load(run_dir)
    model.compute_stress = False
    output = model(ts.io.atoms_to_state([cluster], model.device, torch.float32))
    assert set(output) == {"energy", "forces"}
    assert output["forces"].dtype == torch.float32
    torch.testing.assert_close(output["forces"].double(), potential(config.model.collate([cluster]))["forces"], rtol=0, atol=1e-5)


def test_what_the_model_cannot_do_is_refused(run_of: Callable[..., Made]) -> None:
    run = load_potential(run_of("nequip-output")[0])
    model = torchsim.TorchSimModel(run)
    with pytest.raises(DataError, match=r"the structure has Au"):
        model(ts.io.atoms_to_state([bulk("Au")], model.device, model.dtype))
    state = ts.io.atoms_to_state([bulk("Ag", cubic=True)], model.device, model.dtype)
    fields = {name: getattr(state, name) for name in ("positions", "atomic_numbers", "cell", "pbc")}
    torch.testing.assert_close(model(fields)["energy"], model(state)["energy"])
    fields["positions"] = torch.where(torch.arange(4)[:, None] == 2, torch.nan, fields["positions"])
    with pytest.raises(DataError, match=r"atom 2 of the structure is at \[nan nan nan\]"):
        model(fields)
    with pytest.raises(ConfigError, match="forces come with the energy"):
        model.compute_forces = False

    class Tensors:
        name, predicts = "etgnn", frozenset({"dielectric_tensor"})

    tensors = replace(run, config=type("Config", (), {"model": Tensors})())
    with pytest.raises(ConfigError, match="model=etgnn predicts dielectric_tensor and no energy"):
        torchsim.TorchSimModel(tensors)
