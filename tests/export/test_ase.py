"""The ASE calculator of a run folder is the model in memory: same energy, forces and stress, cached as ASE caches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError

from kanmlip.errors import DataError
from kanmlip.export import ase as export_ase
from kanmlip.export.loading import LoadedRun
from kanmlip.kan import KAN
from kanmlip.models.potential import Potential
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import PRECISIONS, TOLERANCE


@pytest.mark.parametrize(("case", "precision"), [*PRECISIONS, ("allegro-besides_output", "float64")])
def test_the_calculator_equals_the_model_in_memory(
    case: str, precision: str, run_of: Callable[..., Made], loaded_of: Callable[[str, str], LoadedRun]
) -> None:
    _, potential, config = run_of(case, precision=precision)
    atoms = rattled_silver(seed=9)
    expected = potential(config.model.collate([atoms]), compute_stress=True)
    atoms.calc = export_ase.KanmlipCalculator(loaded_of(case, precision))
    tolerance = TOLERANCE[precision]
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"]), abs=tolerance * len(atoms))
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"].numpy(), rtol=0, atol=tolerance)
    np.testing.assert_allclose(atoms.get_stress(voigt=False), expected["stress"][0].numpy(), rtol=0, atol=tolerance)
    assert np.abs(atoms.get_forces()).max() > 1e-2  # equal zeros would prove nothing


@pytest.mark.parametrize("basis", ["bspline", "fourier", "chebyshev", "relu", "truncated_power", "adaptive_gaussian"])
def test_every_basis_comes_back(basis: str, run_of: Callable[..., Made]) -> None:
    run_dir, potential, config = run_of("nequip-output", basis=basis)
    atoms = rattled_silver(seed=9)
    expected = potential(config.model.collate([atoms]))
    for backend in ("auto", "reference"):
        atoms.calc = export_ase.load(run_dir, backend=backend)
        assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"]), abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), expected["forces"].numpy(), rtol=0, atol=1e-9)


def test_hidden_values_are_kept_unless_told_otherwise(run_of: Callable[..., Made]) -> None:
    """Recomputed ones are the same to the last bit."""
    run_dir, _, _ = run_of("allegro-all")
    atoms = rattled_silver(seed=9)
    forces = []
    for options in ({}, {"keep_hidden": False}):
        atoms.calc = export_ase.load(run_dir, **options)
        kans = [module for module in atoms.calc.run.potential.modules() if isinstance(module, KAN)]
        assert {kan.keep_hidden for kan in kans} == {not options}
        forces.append(atoms.get_forces())
    assert np.array_equal(*forces)


def test_the_precision_can_be_chosen(run_of: Callable[..., Made]) -> None:
    run_dir, _, _ = run_of("allegro-output", precision="float32")
    atoms = rattled_silver(seed=9)
    atoms.calc = export_ase.load(run_dir, dtype="float64")
    assert {p.dtype for p in atoms.calc.run.potential.parameters()} == {torch.float64}
    fine = atoms.get_forces()
    atoms.calc = export_ase.load(run_dir)
    coarse = atoms.get_forces()
    assert 0 < np.abs(fine - coarse).max() < 1e-5


def test_results_are_kept_until_the_structure_changes(run_of: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    atoms = rattled_silver(seed=9)
    atoms.calc = export_ase.load(run_of("nequip-none")[0])
    calls = []
    forward = Potential.__call__
    monkeypatch.setattr(Potential, "__call__", lambda self, *args, **kwargs: calls.append(1) or forward(self, *args, **kwargs))
    first = atoms.get_forces()
    atoms.get_potential_energy()
    atoms.get_potential_energy(force_consistent=True)
    assert len(calls) == 1
    atoms.get_stress()
    assert len(calls) == 2, "nobody had asked for stress before"
    atoms.rattle(0.01, seed=1)
    moved = atoms.get_forces()
    atoms.get_stress()
    assert len(calls) == 3, "who asked for stress once gets it with the forces"
    assert np.abs(moved - first).max() > 1e-3


def test_forces_are_the_slope_of_the_energy(run_of: Callable[..., Made]) -> None:
    atoms = rattled_silver(seed=9)
    atoms.calc = export_ase.load(run_of("mace-output")[0])
    force = atoms.get_forces()[3, 1]
    energies = []
    for step in (1e-4, -2e-4):
        atoms.positions[3, 1] += step
        energies.append(atoms.get_potential_energy())
    assert force == pytest.approx(-(energies[0] - energies[1]) / 2e-4, abs=1e-6)


def test_what_the_model_cannot_know_is_refused(run_of: Callable[..., Made]) -> None:
    calculator = export_ase.load(run_of("nequip-none")[0])
    gold = Atoms("AgAu", positions=[[0, 0, 0], [0, 0, 2.8]], calculator=calculator)
    with pytest.raises(DataError, match=r"the structure has Au, which .* was not trained on; it knows Ag"):
        gold.get_forces()
    with pytest.raises(DataError, match="no atoms"):
        Atoms(calculator=calculator).get_potential_energy()
    dimer = Atoms("Ag2", positions=[[0, 0, 0], [0, 0, 2.8]], calculator=calculator)
    assert np.abs(dimer.get_forces()).max() > 1e-3
    with pytest.raises(PropertyNotImplementedError, match="needs a cell with a volume"):
        dimer.get_stress()


def test_the_stress_of_a_slab_is_its_virial_over_the_volume_of_the_cell(run_of: Callable[..., Made]) -> None:
    slab = rattled_silver(seed=9)
    slab.center(vacuum=6.0, axis=2)
    slab.calc = export_ase.load(run_of("nequip-output")[0])
    closed = slab.copy()
    slab.pbc = (True, True, False)
    closed.calc = slab.calc
    stress = closed.get_stress()
    assert np.abs(stress[:2]).max() > 1e-5
    np.testing.assert_allclose(slab.get_stress(), stress, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda atoms: atoms.positions.__setitem__((3, 1), np.nan), r"atom 3 of the structure is at \[.* nan .*must be finite"),
        (lambda atoms: atoms.positions.__setitem__(slice(None), np.inf), "atom 0 of the structure is at"),
        (lambda atoms: atoms.cell.__setitem__((2, 2), np.nan), "the structure's cell is .* must be finite"),
        (lambda atoms: atoms.set_cell(np.zeros((3, 3))), r"periodic along a, b, c, .* no vectors or dependent ones; .*pbc=False"),
        (lambda atoms: (atoms.set_cell(np.diag([0, 0, 9.0])), atoms.set_pbc([True, False, True])), "periodic along a, c, "),
        (lambda atoms: atoms.set_cell([[5, 0, 0], [5, 0, 0], [0, 0, 5]]), "no vectors or dependent ones"),
    ],
)
def test_structures_without_distances_are_refused(change: Callable[[Atoms], object], message: str, run_of: Callable[..., Made]) -> None:
    """A search for neighbours would leave out the atom, or never end."""
    atoms = rattled_silver(seed=9)
    atoms.calc = export_ase.load(run_of("nequip-none")[0])
    atoms.get_potential_energy()
    change(atoms)
    with pytest.raises(DataError, match=message):
        atoms.get_forces()
