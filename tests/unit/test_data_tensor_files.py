"""Users' own files with tensors: read as ASE writes them, checked, and described."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kanmlip.cli.data import main
from kanmlip.data.extxyz import ExtXYZ
from kanmlip.errors import DataError
from tests.tensor_fakes import quartz
from tests.unit.test_data_tensor_sets import strained_quartz


def own(path: Path, frames: list[Atoms], **settings: object) -> ExtXYZ:
    ase.io.write(path, frames, format="extxyz")
    return ExtXYZ(name="extxyz", train=str(path), val=0.2, **settings)


def test_own_files_may_have_tensors_instead_of_energies(tmp_path: Path) -> None:
    frames = [strained_quartz(i) for i in range(10)]
    dataset = own(tmp_path / "my.xyz", frames, dielectric_key="dielectric")
    dataset.check(tmp_path)
    assert dataset.provides == {"born_effective_charges", "dielectric_tensor"}
    splits = dataset.load(tmp_path)
    for index, atoms in zip(splits.indices["train"], splits.train, strict=True):
        expected = frames[index].arrays["born_effective_charges"].reshape(-1, 3, 3)
        np.testing.assert_allclose(atoms.calc.results["born_effective_charges"], expected, atol=1e-8)
        np.testing.assert_allclose(atoms.calc.results["dielectric_tensor"], frames[index].info["dielectric"])


def test_what_ase_reads_and_writes_again_is_read_the_same(tmp_path: Path) -> None:
    """ASE takes the charges out of the arrays on reading and writes them out of the calculator, together with what else is there."""
    atoms = quartz()
    flat = atoms.calc.results["born_effective_charges"]
    dielectric = np.array([[2.3, 0.1, 0.2], [0.3, 2.4, 0.4], [0.5, 0.6, 2.5]])
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, born_effective_charges=flat, dielectric_tensor=dielectric)
    path = tmp_path / "my.xyz"
    frames = [atoms] * 5
    for _ in range(2):
        ase.io.write(path, frames, format="extxyz")
        frames = ase.io.read(path, ":", format="extxyz")
        assert "born_effective_charges" not in frames[0].arrays
        results = ExtXYZ(name="extxyz", train=str(path), val=0.2, allow_shared=True).load(tmp_path).train[0].calc.results
        assert set(results) == {"energy", "born_effective_charges", "dielectric_tensor"}
        assert results["born_effective_charges"][0, 1, 2] == flat[0, 5] == -0.28228
        np.testing.assert_array_equal(results["born_effective_charges"].reshape(-1, 9), flat)
        np.testing.assert_array_equal(results["dielectric_tensor"], dielectric)


def test_own_files_may_have_both_and_under_other_names(tmp_path: Path) -> None:
    frames = [strained_quartz(i) for i in range(10)]
    for atoms in frames:
        atoms.info["energy"] = -1.0
        atoms.arrays["zeu"] = atoms.arrays.pop("born_effective_charges")
    dataset = own(tmp_path / "my.xyz", frames, born_key="zeu")
    assert dataset.provides == {"energy", "born_effective_charges"}
    assert set(dataset.load(tmp_path).train[0].calc.results) == {"energy", "born_effective_charges"}
    with pytest.raises(DataError, match=r"dataset.born_key=zeuu is not known.*Did you mean 'zeu'"):
        own(tmp_path / "my.xyz", frames, born_key="zeuu").check(tmp_path)
    with pytest.raises(DataError, match=r"energy under that key"):
        own(tmp_path / "none.xyz", [_bare(atoms) for atoms in frames]).check(tmp_path)


def _bare(atoms: Atoms) -> Atoms:
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def test_tensors_that_only_later_frames_have_are_named_by_their_key(tmp_path: Path) -> None:
    frames = [strained_quartz(i) for i in range(10)]
    for atoms in frames:
        atoms.info["energy"] = -1.0
    del frames[0].arrays["born_effective_charges"]
    with pytest.raises(DataError, match=r"has born_effective_charges, but the first training frame has none.*dataset.born_key=null"):
        own(tmp_path / "my.xyz", frames).load(tmp_path)


def test_a_cell_that_is_not_neutral_is_remarked_upon_and_still_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Frame i has i e too much on every atom; frame 0 is as ph.x left it.
    dataset = own(tmp_path / "my.xyz", [strained_quartz(i) for i in range(10)])
    splits = dataset.load(tmp_path)
    assert len(splits.train) == 8
    said = capsys.readouterr().err
    assert "frames the Born effective charges do not add up to zero" in said
    assert main(["check", str(tmp_path / "my.xyz")]) == 2
    printed = capsys.readouterr().out
    assert "PROBLEM in 9 of 10 frames the Born effective charges do not add up to zero (worst: frame 9, by 9 e an atom" in printed
    assert "born_effective_charges: in 10 of 10 frames" in printed


def test_check_describes_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atoms = strained_quartz(0)
    ase.io.write(tmp_path / "my.xyz", atoms, format="extxyz")
    assert main(["check", "--dielectric-key", "dielectric", str(tmp_path / "my.xyz")]) == 0
    said = capsys.readouterr().out
    assert "born_effective_charges: a third of the trace is +3.351 e on average for Si" in said
    assert "dielectric_tensor: in 1 of 1 frames" in said
    assert "acoustic sum rule: missed by 0.002 e an atom at most" in said
