"""The same structure in another precision, with atoms in other copies of the cell or in another order; and what is only near to it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from kanmlip.cli.data import main
from kanmlip.data.extxyz import ExtXYZ
from kanmlip.data.same_structure import first_of_each, outline
from kanmlip.errors import DataError

Change = Callable[[Atoms, np.random.Generator], Atoms]


def written(atoms: Atoms, random: np.random.Generator) -> Atoms:
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    text.seek(0)
    found = ase.io.read(text, format="extxyz")
    assert isinstance(found, Atoms)
    return found


def four_decimals(atoms: Atoms, random: np.random.Generator) -> Atoms:
    return Atoms(atoms.numbers, np.round(atoms.positions, 4), cell=np.round(atoms.cell[:], 4), pbc=atoms.pbc)


def unwrapped(atoms: Atoms, random: np.random.Generator) -> Atoms:
    copies = random.integers(-1, 2, (len(atoms), 3)) * atoms.pbc
    return Atoms(atoms.numbers, atoms.positions + copies @ atoms.cell[:], cell=atoms.cell, pbc=atoms.pbc)


def reordered(atoms: Atoms, random: np.random.Generator) -> Atoms:
    return atoms[random.permutation(len(atoms))]


def with_other_open_vectors(atoms: Atoms, random: np.random.Generator) -> Atoms:
    return Atoms(atoms.numbers, atoms.positions, cell=np.where(atoms.pbc[:, None], atoms.cell[:], 0.0), pbc=atoms.pbc)


def everything(atoms: Atoms, random: np.random.Generator) -> Atoms:
    return four_decimals(reordered(unwrapped(written(atoms, random), random), random), random)


def samples(random: np.random.Generator) -> list[Atoms]:
    """Disordered, of two species, with each choice of periodic directions; and a perfect crystal, in which many atoms are alike."""
    found = []
    for pbc in product([False, True], repeat=3):
        grid = np.array(list(product(range(4), repeat=3))) * [3.0, 2.9, 2.1]
        cell = np.diag([12.5, 12.1, 8.9]) + 0.8 * random.normal(size=(3, 3))
        found.append(Atoms("Ag40Cu24", grid + 0.3 * random.normal(size=grid.shape), cell=cell, pbc=pbc))
    return [*found, bulk("NaCl", "rocksalt", a=5.6402, cubic=True).repeat(2)]


@pytest.mark.parametrize("change", [written, four_decimals, unwrapped, reordered, with_other_open_vectors, everything])
def test_the_same_structure_is_recognised(change: Change) -> None:
    random = np.random.default_rng(0)
    frames = samples(random)
    copies = [change(atoms, random) for atoms in frames]
    assert first_of_each([outline(atoms) for atoms in frames + copies]) == 2 * list(range(len(frames)))


def test_a_hundred_frames_are_found_again_whatever_the_precision() -> None:
    random = np.random.default_rng(1)
    frames = [Atoms("Ag71", random.uniform(0, 12, (71, 3)), cell=[12.48, 12.48, 8.32], pbc=True) for _ in range(100)]
    copies = [everything(atoms, random) for atoms in frames]
    assert first_of_each([outline(atoms) for atoms in frames + copies]) == 2 * list(range(100))


def moved(distance: float) -> Change:
    def change(atoms: Atoms, random: np.random.Generator) -> Atoms:
        found = atoms.copy()
        step = random.normal(size=3)
        found.positions[int(random.integers(len(atoms)))] += distance * step / np.linalg.norm(step)
        return found

    return change


def strained(atoms: Atoms, random: np.random.Generator) -> Atoms:
    found = atoms.copy()
    found.set_cell(atoms.cell[:] * 1.0001, scale_atoms=True)
    return found


def swapped(atoms: Atoms, random: np.random.Generator) -> Atoms:
    """Two atoms of different species in each other's place."""
    found = atoms.copy()
    pair = [0, int(np.flatnonzero(atoms.numbers != atoms.numbers[0])[0])]
    found.positions[pair] = found.positions[pair[::-1]]
    return found


@pytest.mark.parametrize("change", [moved(3e-4), moved(1e-3), moved(0.1), strained, swapped])
def test_what_is_only_near_is_another_structure(change: Change) -> None:
    random = np.random.default_rng(2)
    frames = samples(random)
    copies = [everything(change(atoms, random), random) for atoms in frames]
    assert first_of_each([outline(atoms) for atoms in frames + copies]) == list(range(2 * len(frames)))


def test_other_periodic_directions_and_frames_that_are_left_out() -> None:
    atoms = samples(np.random.default_rng(3))[7]
    slab = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=[True, True, False])
    found = outline(atoms)
    assert first_of_each([None, found, outline(slab), None, found, None]) == [0, 1, 2, 3, 1, 5]


def test_thousands_of_frames_take_seconds() -> None:
    random = np.random.default_rng(4)
    crystal = bulk("Ag", cubic=True).repeat(3)
    trajectory = []
    velocity = 1e-3 * random.normal(size=crystal.positions.shape)
    for _ in range(2000):  # some 1 fs apart
        crystal.positions += velocity
        velocity = 0.9 * velocity + 4e-4 * random.normal(size=velocity.shape)
        trajectory.append(outline(crystal))
    start = time.perf_counter()
    assert first_of_each(trajectory) == list(range(2000))
    assert first_of_each(2000 * [trajectory[0]]) == 2000 * [0]
    assert time.perf_counter() - start < 20


def labelled(frames: list[Atoms]) -> list[Atoms]:
    for index, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 - 0.1 * index, forces=0.1 * np.ones((len(atoms), 3)))
    return frames


def test_check_and_training_refuse_such_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(5)
    pool = [samples(random)[7] for _ in range(8)]
    train, val = tmp_path / "train.xyz", tmp_path / "val.xyz"
    ase.io.write(train, labelled([*pool[:6], everything(pool[2], random)]), format="extxyz")
    ase.io.write(val, labelled([pool[6], everything(pool[4], random)]), format="extxyz")
    config = ExtXYZ(name="extxyz", train=str(train), val=str(val))
    with pytest.raises(DataError, match=r"frame 1 of dataset.val has the structure of frame 4 of dataset.train"):
        config.load(tmp_path)
    assert len(config.model_copy(update={"allow_shared": True}).load(tmp_path).train) == 7
    assert main(["check", str(train), str(val)]) == 2
    said = capsys.readouterr().out
    assert "PROBLEM frame 6 has the structure of frame 2" in said
    assert f"{train} and {val} have 1 structures in common (the first: frame 1 of the second)" in said
