"""The sets of Born charges: their splits and the synthetic labeller."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from kanmlip.cli.data import main
from kanmlip.data.alpha_quartz_bec import AlphaQuartzBEC
from kanmlip.data.catalogue import whole_dataset
from kanmlip.data.root import data_root
from kanmlip.data.sio2_bec import SiO2BEC, volume_per_atom
from kanmlip.data.toy_bec import ToyBEC, synthetic_charges, synthetic_dielectric
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError, MissingDependencyError
from tests.tensor_fakes import quartz, random_rotation, rotated

SPLITS = ("train", "val", "test")
# First and last of RandomState(42).permutation(3992), as numpy 2.4 gives them.
ORDER_42 = [1487, 2097, 2987, 864, 2342, 1130, 1294, 860, 3507, 3174]


def from_conf(name: str, repository: Path, **settings: object):
    return whole_dataset(repository / "conf", name).model_copy(update=settings)


def real(name: str, repository: Path, **settings: object):
    dataset = from_conf(name, repository, **settings)
    if not (data_root() / dataset.folder / dataset.files["all"]).is_file():
        pytest.skip(f"the data root {data_root()} lacks dataset={name}; set KANMLIP_DATA")
    return dataset


def strained_quartz(index: int) -> Atoms:
    atoms = quartz()
    charges = atoms.calc.results["born_effective_charges"]
    atoms.calc = None
    atoms.set_cell(atoms.cell * (1 + 0.01 * ((7 * index) % 20)), scale_atoms=True)
    atoms.info["dielectric"] = (2 + 0.1 * index) * np.eye(3)
    atoms.new_array("born_effective_charges", charges + index)
    return atoms


def small_file(tmp_path: Path, frames: int = 20) -> Path:
    folder = tmp_path / "sio2_bec"
    folder.mkdir()
    path = folder / "all.extxyz"
    ase.io.write(path, [strained_quartz(i) for i in range(frames)], format="extxyz")
    return path


# ---- sio2_bec


def test_the_published_permutation_needs_no_files_to_be_checked(repository: Path) -> None:
    dataset: SiO2BEC = from_conf("sio2_bec", repository)
    parts = dataset.parts([""] * 3992)
    order = np.random.RandomState(42).permutation(3992).tolist()
    assert parts == {"train": sorted(order[:2395]), "val": sorted(order[2395:3193]), "test": sorted(order[3193:])}
    # The numbers themselves, should numpy's legacy generator ever change its stream.
    assert order[:5] == ORDER_42[:5]
    assert order[-5:] == ORDER_42[-5:]


def test_the_random_split_is_the_published_permutation(repository: Path) -> None:
    splits = real("sio2_bec", repository).load(data_root())
    assert [len(splits.indices[split]) for split in SPLITS] == [2395, 798, 799]
    order = np.random.RandomState(42).permutation(3992)
    assert set(splits.indices["train"]) == set(order[:2395])
    assert set(splits.indices["val"]) == set(order[2395:3193])
    assert set(splits.indices["test"]) == set(order[3193:])
    assert not splits.stand_in
    charges = splits.train[0].calc.results["born_effective_charges"]
    assert charges.shape == (6, 3, 3)
    # The first structure of the file, which the permutation puts into the training set.
    first = splits.train[splits.indices["train"].index(0)].calc.results["born_effective_charges"][0]
    assert (first[1, 2], first[2, 1]) == (0.75960967, 0.95733239)


def test_the_real_set_is_44_percent_zeros_and_keeps_the_sum_rule(repository: Path) -> None:
    splits = real("sio2_bec", repository, n_train=200, n_val=1, n_test=1).load(data_root())
    charges = np.array([atoms.calc.results["born_effective_charges"] for atoms in splits.train])
    assert (np.abs(charges) < 1e-5).mean() == pytest.approx(4 / 9, abs=1e-3)
    assert np.abs(charges.sum(1)).max() < 1e-7
    assert splits.train[0].calc.results["dielectric_tensor"].shape == (3, 3)


def test_the_largest_volumes_are_held_out_and_nothing_else_is_different(tmp_path: Path) -> None:
    texts = read_frames(small_file(tmp_path))
    settings = {"name": "sio2_bec", "folder": "sio2_bec", "files": {"all": "all.extxyz"}, "sha256": {}, "verify": False}
    dataset = SiO2BEC(**settings, title="t", stand_in=False, doi="d", licence="l")
    random, extrapolation = dataset, dataset.model_copy(update={"split": "volume_extrapolation"})
    volumes = np.array([volume_per_atom(text) for text in texts])
    np.testing.assert_allclose(volumes, [strained_quartz(i).get_volume() / 9 for i in range(20)])
    for each in (random, extrapolation):
        parts = each.parts(texts)
        assert [len(parts[split]) for split in SPLITS] == [12, 4, 4]
        assert sorted(chain.from_iterable(parts.values())) == list(range(20))
        assert parts == each.parts(texts)
    parts = extrapolation.parts(texts)
    assert volumes[parts["test"]].min() > volumes[parts["train"] + parts["val"]].max()
    # Validation is drawn from the same volumes as training.
    assert volumes[parts["val"]].min() < volumes[parts["train"]].max()
    assert dataset.model_copy(update={"split_seed": 1}).parts(texts) != random.parts(texts)
    splits = extrapolation.load(tmp_path)
    assert "largest volumes held out" in splits.label
    assert set(splits.test[0].calc.results) == {"born_effective_charges", "dielectric_tensor"}
    with pytest.raises(DataError, match="too few to be cut"):
        dataset.parts(texts[:4])


def test_the_polynomials_that_its_table_prints_need_scikit_learn_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_file(tmp_path)
    settings = {"name": "sio2_bec", "folder": "sio2_bec", "files": {"all": "all.extxyz"}, "sha256": {}, "verify": False}
    dataset = SiO2BEC(**settings, title="t", stand_in=False, doi="d", licence="l")
    monkeypatch.setattr("kanmlip.data.sio2_bec.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        dataset.check(tmp_path)
    assert main(["list"]) == 0
    assert "sio2_bec         not usable" in capsys.readouterr().out


# ---- alpha_quartz_bec


def test_alpha_quartz_is_cut_in_stretches_of_time_or_by_temperature(repository: Path) -> None:
    contiguous: AlphaQuartzBEC = from_conf("alpha_quartz_bec", repository)
    parts = contiguous.parts(201)
    assert [len(parts[split]) for split in SPLITS] == [120, 40, 41]
    assert sorted(chain.from_iterable(parts.values())) == list(range(201))
    # Six stretches: five borders in time, where neighbours are on both sides.
    owner = {index: split for split, members in parts.items() for index in members}
    assert sum(owner[i] != owner[i + 1] for i in range(200)) == 5
    parts = contiguous.model_copy(update={"split": "temperature"}).parts(201)
    assert max(parts["train"]) < min(parts["val"]) <= max(parts["val"]) == 100
    assert parts["test"] == list(range(101, 201))
    with pytest.raises(DataError, match=r"dataset\.n_cold=101"):
        contiguous.parts(50)


def test_the_first_101_quartz_frames_are_the_cold_ones(repository: Path) -> None:
    splits = real("alpha_quartz_bec", repository, split="temperature").load(data_root())
    spread = {split: np.std([a.calc.results["born_effective_charges"] for a in getattr(splits, split)], axis=0).mean() for split in SPLITS}
    assert spread["test"] > 1.2 * max(spread["train"], spread["val"])
    assert [len(splits.indices[split]) for split in SPLITS] == [80, 21, 100]


def test_quartz_frames_have_the_convention_of_our_own_linear_response(repository: Path) -> None:
    """In alpha-quartz |Z_xz, Z_yz| and |Z_zx, Z_zy| differ, in opposite ways for Si and O; thermal motion averages out."""
    splits = real("alpha_quartz_bec", repository, split="temperature").load(data_root())
    frames = [*splits.train, *splits.val]
    thermal = np.mean([atoms.calc.results["born_effective_charges"] for atoms in frames], axis=0)
    ours = quartz()
    for z, sign in ((14, 1), (8, -1)):
        for numbers, charges in (
            (frames[0].numbers, thermal),
            (ours.numbers, ours.calc.results["born_effective_charges"].reshape(-1, 3, 3)),
        ):
            of = charges[numbers == z]
            assert sign * (np.hypot(of[:, 0, 2], of[:, 1, 2]).mean() - np.hypot(of[:, 2, 0], of[:, 2, 1]).mean()) > 0.008


# ---- toy_bec


def test_the_toy_set_is_always_the_same_and_cut_4_1_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    toy = ToyBEC(name="toy_bec", n_frames=12)
    splits = toy.load(tmp_path)
    assert [len(splits.indices[split]) for split in SPLITS] == [8, 2, 2]
    again = toy.load(tmp_path)
    for one, other in zip(splits.train, again.train, strict=True):
        np.testing.assert_array_equal(one.calc.results["born_effective_charges"], other.calc.results["born_effective_charges"])
        # What is read back are the labels of the structure that is read back.
        np.testing.assert_allclose(synthetic_charges(one), one.calc.results["born_effective_charges"], atol=2e-8)
        np.testing.assert_allclose(synthetic_dielectric(one), one.calc.results["dielectric_tensor"], atol=1e-12)
    assert toy.fingerprint(tmp_path) != toy.model_copy(update={"structure_seed": 8}).fingerprint(tmp_path)


def test_synthetic_tensors_turn_with_the_structure_and_are_not_symmetric() -> None:
    atoms = ToyBEC(name="toy_bec", n_frames=6).make()[0]
    charges, dielectric = synthetic_charges(atoms), synthetic_dielectric(atoms)
    np.testing.assert_array_equal(charges.reshape(-1, 9), atoms.arrays["born_effective_charges"])
    for improper in (False, True):
        rotation = random_rotation(3, improper)
        turned = rotated(atoms, rotation)
        np.testing.assert_allclose(synthetic_charges(turned), rotation @ charges @ rotation.T, atol=1e-12)
        np.testing.assert_allclose(synthetic_dielectric(turned), rotation @ dielectric @ rotation.T, atol=1e-12)
    assert np.abs(charges.sum(0)).max() < 1e-12
    assert np.abs(charges - charges.transpose(0, 2, 1)).max() > 0.02
    np.testing.assert_allclose(dielectric, dielectric.T, atol=1e-15)
    # They depend on neighbours: atoms of one species differ by much more than the errors a model should reach.
    assert charges[atoms.numbers == 8].std(0).mean() > 0.05


def test_synthetic_charges_are_the_sums_they_are_said_to_be() -> None:
    atoms = ToyBEC(name="toy_bec", n_frames=6).make()[2]
    images = np.array(list(np.ndindex(5, 5, 5))) - 2
    places = (atoms.positions[None] + (images @ np.asarray(atoms.cell))[:, None]).reshape(-1, 3)

    def reach(length: float, scale: float) -> float:
        return float(np.exp(-(length - 2.105) / scale) * 0.5 * (1 + np.cos(np.pi * length / 4.0)))

    charges = np.zeros((len(atoms), 3, 3))
    for i, z in enumerate(atoms.numbers):
        q, p, t = {12: (1.9, 0.3, 1.2), 8: (-1.9, 0.4, 1.8)}[z]
        vectors = [place - atoms.positions[i] for place in places]
        near = [(np.linalg.norm(vector), vector / np.linalg.norm(vector)) for vector in vectors if 1e-6 < np.linalg.norm(vector) < 4.0]
        charges[i] = q * np.eye(3)
        for a, (length, unit) in enumerate(near):
            charges[i] += p * reach(length, 0.7) * np.outer(unit, unit)
            for b, (other_length, other) in enumerate(near):
                if a != b:
                    charges[i] += t * reach(length, 0.4) * reach(other_length, 2.0) * (unit @ other) * np.outer(unit, other)
    np.testing.assert_allclose(synthetic_charges(atoms), charges - charges.mean(0), atol=1e-12)


def test_synthetic_tensors_belong_to_the_crystal_not_to_its_cell() -> None:
    atoms = ToyBEC(name="toy_bec", n_frames=6).make()[1]
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    doubled = bare.repeat((2, 1, 1))
    np.testing.assert_allclose(synthetic_charges(doubled), np.tile(synthetic_charges(bare), (2, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(synthetic_dielectric(doubled), synthetic_dielectric(bare), atol=1e-12)
    shuffled = bare[::-1]
    np.testing.assert_allclose(synthetic_charges(shuffled), synthetic_charges(bare)[::-1], atol=1e-12)
