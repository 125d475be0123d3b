"""Stresses and energies that cannot be: refused with the frame's index, while what real data reach is not."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kanmlip.cli.data import main
from kanmlip.data.extxyz import ExtXYZ
from kanmlip.data.faults import fault
from kanmlip.data.labels import LabelKeys, extract
from kanmlip.data.xyz_file import parse_frame
from kanmlip.errors import DataError


def file(folder: Path, stress: str = "0.1 0 0 0 0.1 0 0 0 0.1", name: str = "stress", energy: str = "-3", element: str = "Ag") -> Path:
    """Eight frames, the last but one with this stress and energy."""
    frames = []
    for index in range(8):
        own = (stress, energy) if index == 6 else ("0.1 0 0 0 0.1 0 0 0 0.1", "-3")
        header = f'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3:forces:R:3 energy={own[1]} {name}="{own[0]}" pbc="T T T"'
        frames.append(f"2\n{header}\n{element} 0 0 0.0{index} 0 0 0.1\n{element} 2 2 2 0 0 -0.1\n")
    path = folder / "my.xyz"
    path.write_text("".join(frames))
    return path


def load(path: Path, **settings: str) -> None:
    ExtXYZ.model_validate({"name": "extxyz", "train": str(path), "val": 0.3, **settings}).load(path.parent)


@pytest.mark.parametrize(
    ("name", "settings"), [("stress", {}), ("dft_stress", {"stress_key": "dft_stress"}), ("virial", {"virial_key": "virial"})]
)
def test_a_stress_that_is_not_symmetric_is_refused(name: str, settings: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"frame 6: its stress is not symmetric \((xz|zx) is .*; write its nine numbers as xx xy xz yx"):
        load(file(tmp_path, "1 2 3 4 5 6 7 8 9", name), **settings)
    # Rounding and rough convergence are not meant.
    load(file(tmp_path, "0.1234 0.0052 0 0.0051 0.1 0.01 0 0.0101 0.1", name), **settings)
    load(file(tmp_path, "1e-6 3e-6 0 0 0 0 0 0 0", name), **settings)


def test_the_numbers_of_a_stress_are_named_as_they_stand_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape("(xy is 2, yx 0 eV/Å³)")):
        load(file(tmp_path, "1 2 0 0 1 0 0 0 1"))


@pytest.mark.parametrize("stress", ["1e5 0 0 0 1e5 0 0 0 1e5", "0 -150 0 -150 0 0 0 0 0"])
def test_a_stress_that_nothing_withstands_is_refused(stress: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"frame 6: a component of its stress is (1e\+05|150), beyond the plausible 100 eV/Å³; check the unit"
    ):
        load(file(tmp_path, stress))
    load(file(tmp_path, "-31 0 0 0 -31 0 0 0 -31"))


@pytest.mark.parametrize(("element", "energy", "good"), [
    ("Ag", "1e300", False), ("Ag", "-1e6", False), ("H", "2.1e5", False), ("H", "1.9e5", True),
    ("Ag", "-289474.0", True), ("Au", "-1071000.0", True),  # all electrons: 5,319 and 19,680 hartree an atom
])  # fmt: skip
def test_an_energy_that_no_atoms_have_is_refused(element: str, energy: str, good: bool, tmp_path: Path) -> None:
    path = file(tmp_path, energy=energy, element=element)
    if good:
        load(path)
        return
    with pytest.raises(
        DataError, match=r"frame 6: its energy is .* eV an atom, beyond the plausible .*; give that of the whole cell in eV"
    ):
        load(path)


def test_check_names_such_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(file(tmp_path, "1 2 3 4 5 6 7 8 9"))]) == 2
    assert "PROBLEM frame 6: its stress is not symmetric" in capsys.readouterr().out
    assert main(["check", str(file(tmp_path, energy="1e300"))]) == 2
    assert "PROBLEM frame 6: its energy is 5e+299 eV an atom" in capsys.readouterr().out


def test_nine_numbers_arrive_as_ase_has_them(tmp_path: Path) -> None:
    path = file(tmp_path, "0.1 0.02 0.03 0.02 0.4 0.05 0.03 0.05 0.6")
    frame = "\n".join(path.read_text().split("\n")[24:28])
    found = parse_frame(frame, path, 6)
    whole = ase.io.read(path, index=6)
    assert isinstance(whole, Atoms)
    labels = extract(found, LabelKeys())
    np.testing.assert_array_equal(labels["stress"], whole.get_stress(voigt=False))
    assert fault(found, labels, ["energy", "forces", "stress"], 150.0) is None


@pytest.mark.parametrize(("count", "reason"), [(20, "the cell is the same in all frames that are compared"), (3, "no frames are compared")])
def test_check_says_that_a_stress_was_not_checked(count: int, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        atoms = Atoms("Ag2", positions=[[0, 0, 0], [2, 2, 2]] + 0.05 * random.normal(size=(2, 3)), cell=[4, 4, 4], pbc=True)
        spring = atoms.positions - [[0, 0, 0], [2, 2, 2]]
        atoms.calc = SinglePointCalculator(atoms, energy=0.5 * (spring**2).sum(), forces=-spring, stress=[0.1, 0.1, 0.1, 0, 0, 0])
        frames.append(atoms)
    ase.io.write(tmp_path / "nvt.xyz", frames, format="extxyz")
    assert main(["check", str(tmp_path / "nvt.xyz")]) == 0
    assert f"stress: its sign and unit could not be checked, since {reason};" in capsys.readouterr().out
