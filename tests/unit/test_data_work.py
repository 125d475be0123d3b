"""Units, signs and the order of stress components, told from the energies of frames that are alike; and what check says and draws."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from kanmlip.cli.data import main
from kanmlip.data.inspection import inspect
from kanmlip.data.labels import LabelKeys
from kanmlip.data.units import BOHR, GPA, HARTREE, KCAL_MOL
from kanmlip.data.work import balance, judge


def labelled(atoms: Atoms) -> Atoms:
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="module")
def trajectory() -> list[Atoms]:
    """Hot silver, four steps of 5 fs between frames, each slightly strained."""
    random = np.random.default_rng(0)
    atoms = bulk("Ag", cubic=True).repeat((2, 2, 1))
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=random)
    run = VelocityVerlet(atoms, 5 * units.fs)
    frames = []
    for _ in range(40):
        run.run(4)
        frame = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.set_cell(frame.cell[:] @ (np.eye(3) + 0.01 * random.normal(size=(3, 3))), scale_atoms=True)
        frames.append(labelled(frame))
    return frames


def spoiled(frames: list[Atoms], energy: float = 1.0, forces: float = 1.0, stress: float = 1.0, order: tuple[int, ...] = ()) -> list[Atoms]:
    """The frames with labels times factors, and the last three components of the stress in another order."""
    found = []
    for frame in frames:
        results = frame.calc.results
        voigt = stress * results["stress"]
        if order:
            voigt = np.concatenate([voigt[:3], voigt[3:][list(order)]])
        bare = Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=True)
        bare.calc = SinglePointCalculator(bare, energy=energy * results["energy"], forces=forces * results["forces"], stress=voigt)
        found.append(bare)
    return found


def problems(frames: list[Atoms]) -> list[str]:
    from kanmlip.data.labels import extract

    found = balance(frames, [extract(atoms, LabelKeys()) for atoms in frames])
    assert found is not None
    return judge(found)[1]


def test_right_labels_are_right(trajectory: list[Atoms]) -> None:
    assert problems(trajectory) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ({"energy": 1 / HARTREE}, "the energies are in hartree;"),
        ({"energy": 1 / KCAL_MOL}, "the energies are in kcal/mol;"),
        ({"forces": BOHR / HARTREE}, "the forces are in hartree/bohr;"),
        ({"forces": 1000.0}, "the forces are in meV/Å;"),
        ({"forces": -1.0}, "what is given as forces has the opposite sign"),
        ({"stress": -1.0}, "it is in eV/Å³ and has the opposite sign"),
        ({"stress": 1 / GPA}, "it is in GPa;"),
        ({"stress": -10 / GPA}, "it is in kbar and has the opposite sign"),
        ({"stress": -273.0}, "it is a virial in eV; name it by dataset.virial_key"),
        ({"order": (1, 2, 0)}, "in the order xz xy yz and not yz xz xy"),
        ({"order": (2, 0, 1)}, "in the order xy yz xz and not yz xz xy"),
    ],
)
def test_what_is_wrong_is_named(spoil: dict[str, float], said: str, trajectory: list[Atoms]) -> None:
    (problem,) = problems(spoiled(trajectory, **spoil))
    assert said in problem


def test_frames_that_are_not_alike_are_not_compared(trajectory: list[Atoms]) -> None:
    others = [labelled(bulk("Ag", cubic=True).repeat((1 + index % 2, 1, 1))) for index in range(12)]
    from kanmlip.data.labels import extract

    assert balance(others, [extract(atoms, LabelKeys()) for atoms in others]) is None


def test_check_says_it_and_draws_it(trajectory: list[Atoms], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.xyz", tmp_path / "bad.xyz"
    ase.io.write(good, trajectory, format="extxyz")
    frames = spoiled(trajectory, stress=-1.0)
    frames[7].calc.results["energy"] += 20.0
    ase.io.write(bad, frames, format="extxyz")
    assert main(["check", str(good)]) == 0
    assert "times the work of the forces" in capsys.readouterr().out
    assert main(["check", str(good), str(bad), "--picture", str(tmp_path)]) == 2
    said = capsys.readouterr().out
    assert "frames 7 lie more than 10 robust standard deviations" in said
    assert "have 40 structures in common" in said
    for name in ("data_check.png", "data_check.svg"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("pbc", ["T T T", "F F F", "T T F"])
def test_check_names_cells_without_volume_and_goes_on(trajectory: list[Atoms], pbc: str, tmp_path: Path) -> None:
    path = tmp_path / "singular.xyz"
    ase.io.write(path, trajectory, format="extxyz")
    lines = [re.sub(r'Lattice="[^"]*"', 'Lattice="9 0 0 9 0 0 0 0 9"', line).replace("T T T", pbc) for line in path.read_text().split("\n")]
    path.write_text("\n".join(lines))
    report = inspect(path, LabelKeys(), 150.0)
    faults = [problem for problem in report.problems if "no volume" in problem]
    assert len(faults) == (0 if pbc == "F F F" else 40)
    assert (report.work is None) == bool(faults)


def test_check_compares_the_frames_that_are_sound(trajectory: list[Atoms], tmp_path: Path) -> None:
    frames = spoiled(trajectory, stress=-1.0)
    frames[3].set_cell([[9, 0, 0], [9, 0, 0], [0, 0, 9]])
    frames[5].positions[1] = frames[5].positions[0]
    path = tmp_path / "some.xyz"
    ase.io.write(path, frames, format="extxyz")
    said = "\n".join(inspect(path, LabelKeys(), 150.0).problems)
    assert "frame 3: it is periodic (pbc=TTT) but its cell has no volume" in said
    assert "frame 5: atoms 0 and 1 are less than 0.2 Å apart" in said
    assert "it is in eV/Å³ and has the opposite sign" in said
