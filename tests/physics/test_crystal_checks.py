"""The checks of the physics report against potentials whose answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.data import atomic_masses
from ase.io import write

from kanmlip.errors import ConfigError
from kanmlip.experiment.configure import compose_run
from kanmlip.physics.consistency import energy_force_consistency, extrapolated
from kanmlip.physics.crystal import reference_crystal, relaxed, strained
from kanmlip.physics.cutoff import crossing_jump, nearest_to_cutoff, smoothness_at_cutoff
from kanmlip.physics.elastic import elastic_constants
from kanmlip.physics.equation_of_state import equation_of_state
from kanmlip.physics.examination import PARTS, Examination, Questions
from kanmlip.physics.part import Part
from kanmlip.physics.reference import NOT_ASKED, Fresh, examine_reference
from kanmlip.physics.report import render
from tests.conftest import rattled_silver

SIGMA, EPSILON = 2.6, 0.2


def lennard_jones(cutoff: float = 2.5 * SIGMA, smooth: bool = True) -> LennardJones:
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=cutoff, ro=0.8 * cutoff, smooth=smooth)


def test_a_pair_potential_obeys_cauchy_and_its_bulk_moduli_agree() -> None:
    """Central forces at zero pressure give C12 = C44 (Born and Huang); (C11 + 2 C12)/3 is the curvature of E(V)."""
    part, crystal = equation_of_state(bulk("Ag", a=1.6 * SIGMA, cubic=True), lennard_jones())
    elastic = elastic_constants(crystal, lennard_jones()).values
    assert elastic["C12_GPa"] == pytest.approx(elastic["C44_GPa"], rel=2e-3)
    assert elastic["bulk_modulus_GPa"] == pytest.approx(part.values["bulk_modulus_GPa"], rel=5e-3)
    assert elastic["stable"] == 1
    assert np.abs(crystal.get_stress()).max() < 1e-4 * part.values["bulk_modulus_GPa"] * units.GPa


def test_silver_in_emt_is_the_silver_of_the_literature() -> None:
    """What ASE's tutorial of the equation of state finds for the same potential: 16.78 Å³ an atom, 100 GPa."""
    part, crystal = equation_of_state(reference_crystal([47]), EMT())
    assert part.values["volume_A3_per_atom"] == pytest.approx(16.78, abs=0.03)
    assert part.values["bulk_modulus_GPa"] == pytest.approx(100, abs=5)
    assert len(part.curves["energy_eV_per_atom"]) == 23
    elastic = elastic_constants(crystal, EMT()).values
    assert elastic["bulk_modulus_GPa"] == pytest.approx(part.values["bulk_modulus_GPa"], rel=0.01)
    assert elastic["C11_GPa"] > elastic["C12_GPa"] > elastic["C44_GPa"] > 30


def test_the_minimum_is_found_far_from_the_guess_and_its_absence_is_said() -> None:
    near = equation_of_state(reference_crystal([47]), EMT())[0].values
    far = equation_of_state(bulk("Ag", a=4.4, cubic=True), EMT())[0].values
    assert far["lattice_constant_A"] == pytest.approx(near["lattice_constant_A"], abs=1e-4)
    assert far["bulk_modulus_GPa"] == pytest.approx(near["bulk_modulus_GPa"], rel=1e-3)
    with pytest.raises(ConfigError, match=r"no minimum between 0\.90 and 1\.12"):
        equation_of_state(bulk("Ag", a=8.0, cubic=True), EMT())


def test_crystals_are_known_or_asked_for() -> None:
    assert len(reference_crystal([6])) == 8  # diamond
    for species, message in (([8, 72], "O, Hf: which crystal of them"), ([22], "Ti is not cubic")):
        with pytest.raises(ConfigError, match=message):
            reference_crystal(species)
    with pytest.raises(ConfigError, match="cubic cell along the axes only"):
        elastic_constants(bulk("Ag"), EMT())


def test_atoms_that_symmetry_does_not_hold_relax() -> None:
    crystal = bulk("Ag", cubic=True)
    crystal.positions[0] += 0.1
    assert np.abs(relaxed(crystal, EMT()).get_forces()).max() < 1e-4
    np.testing.assert_allclose(strained(crystal, np.diag([0.01, 0, 0])).cell.lengths(), np.array([1.01, 1, 1]) * 4.09)


def test_phonons_of_long_waves_are_sound() -> None:
    """Along Γ-X, ω = q √(C11/ρ) for longitudinal and q √(C44/ρ) for transverse waves; no frequency is imaginary."""
    pytest.importorskip("phonopy")
    from kanmlip.physics.phonons import phonon_band

    _, crystal = equation_of_state(reference_crystal([47]), EMT())
    elastic = elastic_constants(crystal, EMT()).values
    part = phonon_band(crystal, EMT())
    density = atomic_masses[47] * 4 / crystal.get_volume() * units._amu * 1e30  # kg/m³
    step, frequency = part.curves["distance"][1], part.curves["frequency_THz"][1]  # 1/Å without 2π
    sound = np.sort([np.sqrt(elastic[key] * 1e9 / density) for key in ("C44_GPa", "C44_GPa", "C11_GPa")])
    np.testing.assert_allclose(np.sort(frequency) * 1e12 / (step * 1e10), sound, rtol=0.03)
    assert part.values["lowest_THz"] > -1e-3
    assert part.values["acoustic_at_gamma_THz"] < 1e-3
    assert 4 < part.values["X_longitudinal_THz"] < 6  # experiment: 4.9
    with pytest.raises(ConfigError, match="monatomic fcc"):
        phonon_band(bulk("Fe", cubic=True), EMT())


@pytest.mark.parametrize(("polarisation", "name"), [((1, 1, 1), "L_longitudinal_THz"), ((1, -1, 0), "L_transverse_THz")])
def test_phonons_at_l_are_those_of_planes_that_move_against_each_other(polarisation: tuple[int, int, int], name: str) -> None:
    """At L neighbouring (111) planes swing in opposite directions: the force on an atom that is moved so gives the frequency."""
    pytest.importorskip("phonopy")
    from kanmlip.physics.phonons import phonon_band

    _, crystal = equation_of_state(reference_crystal([47]), EMT())
    planes = crystal.repeat(2)
    sign = np.round(np.cos(np.pi / crystal.cell[0, 0] * planes.positions.sum(1)))
    direction = np.array(polarisation) / np.linalg.norm(polarisation)
    planes.positions += 0.002 * sign[:, None] * direction
    planes.calc = EMT()
    stiffness = -(planes.get_forces() * sign[:, None] @ direction).mean() / 0.002 * units._e * 1e20  # N/m
    frequency = np.sqrt(stiffness / (atomic_masses[47] * units._amu)) / (2 * np.pi) / 1e12
    assert phonon_band(crystal, EMT()).values[name] == pytest.approx(frequency, rel=2e-4)


def test_a_cut_potential_jumps_by_its_value_at_the_cutoff() -> None:
    cutoff = 1.7 * SIGMA
    height = 4 * EPSILON * (1.7**-12 - 1.7**-6)

    class Cut(LennardJones):
        """Lennard-Jones without ASE's shift."""

        def calculate(self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Any = all_changes) -> None:
            super().calculate(atoms, ["energy", "forces"], system_changes)
            pairs = (self.atoms.get_all_distances() < cutoff).sum() / 2 - len(self.atoms) / 2
            self.results["energy"] += pairs * height

    dimer = Atoms("Ag2", positions=[[0, 0, 0], [0, 0, cutoff]])
    energy, force = crossing_jump(dimer, 1, np.array([0, 0, 1.0]), Cut(sigma=SIGMA, epsilon=EPSILON, rc=cutoff))
    assert energy == pytest.approx(abs(height), rel=1e-6)
    slope = 24 * EPSILON / SIGMA * (2 * 1.7**-13 - 1.7**-7)
    assert force == pytest.approx(abs(slope), rel=1e-3)


def test_a_shifted_potential_jumps_in_the_force_alone_and_a_smooth_one_nowhere() -> None:
    frame, cutoff = rattled_silver(), 1.7 * SIGMA
    shifted = smoothness_at_cutoff(frame, lennard_jones(cutoff, smooth=False), cutoff, (47,)).values
    assert shifted["largest_jump_eV"] < 1e-9
    assert min(shifted[f"{name}_force_jump_eV_per_A"] for name in ("dimer", "trimer", "frame")) > 0.01
    smooth = smoothness_at_cutoff(frame, lennard_jones(cutoff), cutoff, (47,))
    assert smooth.values["largest_jump_eV"] < 1e-9
    assert max(smooth.values[f"{name}_force_jump_eV_per_A"] for name in ("dimer", "trimer", "frame")) < 1e-5
    assert smooth.curves["energy_eV Ag-Ag"][-1] == 0


def test_a_frame_without_a_pair_near_the_cutoff_leaves_dimers_and_trimers() -> None:
    alone, cutoff = Atoms("Ag", cell=[3] * 3, pbc=True), 1.7 * SIGMA
    far = Atoms("Ag2", positions=[[0, 0, 0], [0, 0, 20]])
    for frame in (alone, far):
        assert nearest_to_cutoff(frame, cutoff) is None
        values = smoothness_at_cutoff(frame, lennard_jones(cutoff), cutoff, (47,)).values
        assert "frame_jump_eV" not in values
        assert values["largest_jump_eV"] == max(values["dimer_jump_eV"], values["trimer_jump_eV"])


def test_what_computed_the_labels_stands_beside_the_run(tmp_path: Path) -> None:
    config = compose_run(["model=allegro", "dataset=toy", "budget=smoke"])
    write(tmp_path / "frame.xyz", rattled_silver((1, 1, 1)))
    run: Any = SimpleNamespace(config=config, species=(47,))
    examined = examine_reference(run, Questions(structure=tmp_path / "frame.xyz"), lambda _: None)
    assert examined is not None
    assert examined.parts["equation_of_state"].values["bulk_modulus_GPa"] == pytest.approx(100, abs=5)
    assert examined.parts["elastic_constants"].values["stable"] == 1
    assert examined.parts["consistency"].values["force_error_eV_per_A"] < 1e-6
    assert [name for name, part in examined.parts.items() if part.missing == NOT_ASKED] == ["nve", "cutoff"]
    own = Examination("a run", "output gaussian", dict.fromkeys(PARTS, Part({"x_eV": 1.0})))
    assert "| | output gaussian | MLP | EMT (labels) |" in render(own, replace(own, head="MLP"), examined)
    iron = bulk("Fe", cubic=True)
    iron.calc = Fresh(EMT)
    with pytest.raises(ConfigError, match="EMT does not compute Fe2"):
        iron.get_forces()


def test_the_pair_nearest_to_the_cutoff_is_brought_there() -> None:
    frame = rattled_silver()
    pair = nearest_to_cutoff(frame, 4.0)
    assert pair is not None
    moved, direction, offset = pair
    frame.positions[moved] += offset * direction
    distances = [frame.get_distance(other, moved, mic=True) for other in range(len(frame)) if other != moved]
    assert np.min(np.abs(np.array(distances) - 4.0)) < 1e-9
    assert abs(offset) < 0.1


class Wrong(Calculator):
    """EMT with one force, or the stress, a little off."""

    implemented_properties: ClassVar = ["energy", "forces", "stress"]

    def __init__(self, force: float = 0.0, stress: float = 0.0) -> None:
        super().__init__()
        self.force, self.stress = force, stress

    def calculate(self, atoms: Any = None, properties: Sequence[str] = (), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = EMT()
        self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(), "stress": copy.get_stress()}
        self.results["forces"][3, 1] += self.force
        self.results["stress"][0] += self.stress


def test_forces_that_are_no_derivatives_are_found() -> None:
    frame = rattled_silver((1, 1, 1))
    right = energy_force_consistency(frame, Wrong()).values
    assert right["force_error_eV_per_A"] < 1e-6
    assert right["force_scale_eV_per_A"] > 0.01
    assert right["stress_error_meV_per_A3"] < 1e-4
    assert energy_force_consistency(frame, Wrong(force=0.01)).values["force_error_eV_per_A"] > 1e-3
    assert energy_force_consistency(frame, Wrong(stress=1e-4)).values["stress_error_meV_per_A3"] > 0.01


def test_extrapolation_removes_the_second_and_the_fourth_order() -> None:
    assert extrapolated([2 + 3 * h**2 + 5 * h**4 for h in (0.4, 0.2, 0.1)]) == pytest.approx(2, abs=1e-12)
