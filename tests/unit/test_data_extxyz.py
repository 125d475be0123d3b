"""A user's own files: labels under any key, and one clear error for each way in which a file can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kanmlip.data.extxyz import ExtXYZ
from kanmlip.errors import DataError


def labelled(index: int, **drop: bool) -> Atoms:
    random = np.random.default_rng(index)
    places = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]]) + random.uniform(0, 1, (4, 3))
    atoms = Atoms("Ag4", positions=places, cell=[4.0, 4.2, 4.4], pbc=True)
    results: dict[str, Any] = {"energy": -10.0 - index, "forces": random.normal(size=(4, 3)), "stress": 0.01 * random.normal(size=6)}
    atoms.calc = SinglePointCalculator(atoms, **{name: value for name, value in results.items() if not drop.get(name)})
    return atoms


def write(path: Path, frames: list[Atoms]) -> str:
    ase.io.write(path, frames, format="extxyz")
    return str(path)


def dataset(train: str, **settings: Any) -> ExtXYZ:
    return ExtXYZ(name="extxyz", train=train, **settings)


def test_labels_arrive_unchanged_and_splits_are_disjoint(tmp_path: Path) -> None:
    frames = [labelled(i) for i in range(20)]
    config = dataset(write(tmp_path / "my.xyz", frames), val=0.2, test=0.1)
    splits = config.load(tmp_path)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [14, 4, 2]
    together = sorted(index for part in splits.indices.values() for index in part)
    assert together == list(range(20))
    for split, part in (("train", splits.train), ("val", splits.val)):
        for index, atoms in zip(splits.indices[split], part, strict=True):
            assert atoms.get_potential_energy() == frames[index].get_potential_energy()
            np.testing.assert_allclose(atoms.get_forces(), frames[index].get_forces(), atol=1e-8)
            np.testing.assert_allclose(atoms.get_stress(), frames[index].get_stress(), atol=1e-12)


@pytest.mark.parametrize(
    ("drop", "provides"),
    [
        ({}, {"energy", "forces", "stress"}),
        ({"stress": True}, {"energy", "forces"}),
        ({"forces": True, "stress": True}, {"energy"}),
    ],
)
def test_it_provides_what_the_file_has(tmp_path: Path, drop: dict[str, bool], provides: set[str]) -> None:
    config = dataset(write(tmp_path / "my.xyz", [labelled(i, **drop) for i in range(5)]), val=0.4)
    assert config.provides == provides
    assert set(config.load(tmp_path).train[0].calc.results) == provides


def test_labels_under_other_names_and_a_virial(tmp_path: Path) -> None:
    frames = [labelled(i) for i in range(5)]
    expected = [atoms.get_stress(voigt=False) for atoms in frames]
    for atoms in frames:
        results = atoms.calc.results
        atoms.info |= {"dft_energy": results["energy"], "dft_virial": -atoms.get_volume() * atoms.get_stress(voigt=False)}
        atoms.arrays["dft_forces"] = results["forces"]
        atoms.calc = None
    keys = {"energy_key": "dft_energy", "forces_key": "dft_forces", "virial_key": "dft_virial"}
    splits = dataset(write(tmp_path / "my.xyz", frames), val=0.2, **keys).load(tmp_path)
    for index, atoms in zip(splits.indices["train"], splits.train, strict=True):
        np.testing.assert_allclose(atoms.get_stress(voigt=False), expected[index], atol=1e-7)


def test_a_wrong_key_lists_the_keys_in_the_file(tmp_path: Path) -> None:
    frames = [labelled(i) for i in range(3)]
    for atoms in frames:
        atoms.info["dft_energy"] = 1.0
    path = write(tmp_path / "my.xyz", frames)
    with pytest.raises(DataError, match=r"dataset.energy_key=dft_enrgy.*dft_energy, energy, forces, stress.*Did you mean 'dft_energy'"):
        dataset(path, energy_key="dft_enrgy").check(tmp_path)
    with pytest.raises(DataError, match=r"dataset.forces_key=force is not known"):
        dataset(path, forces_key="force").check(tmp_path)


def test_bad_frames_are_named_by_index_and_never_used_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [labelled(i) for i in range(12)]
    frames[3].calc.results["forces"][1, 2] = 1e6
    frames[5].calc.results["energy"] = np.nan
    frames[7].calc.results.pop("forces")
    frames[9].positions[0, 0] = np.nan
    path = write(tmp_path / "my.xyz", frames)
    val = write(tmp_path / "val.xyz", [labelled(50)])
    with pytest.raises(DataError) as caught:
        dataset(path, val=val).load(tmp_path)
    for fragment in (
        "frame 3: it has a force of 1e+06",
        "frame 5: its energy",
        "frame 7: it has no forces",
        "frame 9: its positions",
        "dataset.on_bad_frame=drop, or without what some frames lack: dataset.forces_key=null",
    ):
        assert fragment in str(caught.value)
    splits = dataset(path, val=val, on_bad_frame="drop").load(tmp_path)
    assert splits.indices["train"] == [0, 1, 2, 4, 6, 8, 10, 11]
    assert "dropped 4 of 12 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no frames"),
        ("not a number\n", "frame 0 starts with 'not a number'"),
        ("0\nProperties=species:S:1:pos:R:3\n", "frame 0 has 0 atoms"),
        ("2\nProperties=species:S:1:pos:R:3 energy=1\nAg 0 0 0\n", "ends after 1 of 2 atoms"),
        ("1\nProperties=species:S:1:pos:R:3 energy=1\nAg 0 0\n", "cannot be parsed"),
    ],
)
def test_a_broken_file_is_one_message(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "broken.xyz"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        dataset(str(path)).load(tmp_path)


def test_a_missing_file_names_its_key_and_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "silver.xyz", [labelled(0)])
    with pytest.raises(DataError, match=r"dataset.train=.*silvr.xyz.*Did you mean '.*silver.xyz'"):
        dataset(str(tmp_path / "silvr.xyz")).check(tmp_path)
    with pytest.raises(DataError, match=r"dataset.val=.*there is no such file"):
        dataset(str(tmp_path / "silver.xyz"), val=str(tmp_path / "val.xyz")).check(tmp_path)
    with pytest.raises(DataError, match=r"dataset.val=1.5 must be a path or a share"):
        dataset(str(tmp_path / "silver.xyz"), val=1.5).check(tmp_path)


def test_the_fingerprint_follows_the_content_not_the_path(tmp_path: Path) -> None:
    one = write(tmp_path / "one.xyz", [labelled(i) for i in range(3)])
    same = write(tmp_path / "same.xyz", [labelled(i) for i in range(3)])
    other = write(tmp_path / "other.xyz", [labelled(i) for i in range(1, 4)])
    prints = [dataset(path).fingerprint(tmp_path) for path in (one, same, other)]
    assert prints[0] == prints[1] != prints[2]
    assert dataset(one, val=0.2).fingerprint(tmp_path) != prints[0]


def test_more_frames_than_there_are_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "my.xyz", [labelled(i) for i in range(10)])
    with pytest.raises(DataError, match=r"dataset.n_train=50, but extxyz has 9 train structures"):
        dataset(path, n_train=50).load(tmp_path)


def test_labels_that_only_later_frames_have_are_not_silently_unused(tmp_path: Path) -> None:
    path = write(tmp_path / "my.xyz", [labelled(0, forces=True, stress=True), *(labelled(i, stress=True) for i in range(1, 10))])
    with pytest.raises(DataError, match=r"has forces, but the first training frame has none.*dataset.forces_key=null"):
        dataset(path).load(tmp_path)
    splits = dataset(path, forces_key=None).load(tmp_path)
    assert set(splits.train[0].calc.results) == {"energy"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ('energy=abc pbc="F F F"', "frame 1: what it has under 'energy' is not numeric: 'abc'"),
        ('energy="1 2" pbc="F F F"', "frame 1: it has 2 numbers under 'energy', not 1"),
        ('energy=1 pbc="T T F"', "frame 1: it is periodic .pbc=TTF. but its cell has no volume"),
        ('energy=1 Lattice="3 0 0 6 0 0 0 0 3" pbc="T T F"', "frame 1: it is periodic .pbc=TTF. but its cell has no volume"),
    ],
)
def test_malformed_labels_and_cells_are_named_by_frame(tmp_path: Path, header: str, message: str) -> None:
    path = tmp_path / "my.xyz"
    frames = ['energy=1 pbc="F F F"', header, 'energy=1 pbc="F F F"']
    path.write_text("".join(f"1\nProperties=species:S:1:pos:R:3 {each}\nAg 0 0 0\n" for each in frames))
    val = tmp_path / "val.xyz"
    val.write_text('1\nProperties=species:S:1:pos:R:3 energy=1 pbc="F F F"\nAg 1 0 0\n')
    with pytest.raises(DataError, match=message):
        dataset(str(path), val=str(val)).load(tmp_path)
    assert dataset(str(path), val=str(val), on_bad_frame="drop").load(tmp_path).indices["train"] == [0, 2]
