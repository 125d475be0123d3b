"""Tensors as labels: found where ASE puts them, checked, and carried into graphs."""

from __future__ import annotations

import re
from io import StringIO

import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.units import Bohr

from kanmlip.data.faults import SUM_RULE_TOLERANCE, fault, imbalance, remark_on_sum_rule
from kanmlip.data.graph import batch_graphs
from kanmlip.data.labels import LABELS, TENSOR_LABELS, LabelKeys, attach, attached, extract, tensors_in
from kanmlip.data.neighbours import build_graphs, frame_to_graph
from kanmlip.data.statistics import compute_statistics
from kanmlip.errors import DataError
from tests.tensor_fakes import QUARTZ, quartz


def test_the_registry_says_what_a_label_is() -> None:
    assert [label.name for label in TENSOR_LABELS] == ["born_effective_charges", "dielectric_tensor"]
    born, dielectric = TENSOR_LABELS
    assert (born.shape(5), dielectric.shape(5)) == ((5, 3, 3), (3, 3))
    assert (LABELS["energy"].shape(5), LABELS["forces"].shape(5), LABELS["stress"].shape(5)) == ((), (5, 3), (3, 3))
    assert (born.key("mae"), born.key("mae_O"), dielectric.key("rmse")) == ("bec_mae_e", "bec_mae_O_e", "dielectric_rmse")
    assert tensors_in({"forces", "dielectric_tensor", "born_effective_charges"}) == [born, dielectric]
    # Every label has a key in a file, so that a dataset's settings can name it.
    assert {label.setting for label in LABELS.values()} | {"virial"} == set(LabelKeys.model_fields)


def test_charges_that_ase_moved_to_the_calculator_are_found_row_by_row() -> None:
    atoms = quartz()
    assert "born_effective_charges" not in atoms.arrays  # ASE moved them; were it to stop, they would be found among the arrays
    flat = atoms.calc.results["born_effective_charges"]
    assert flat.shape == (9, 9)
    charges = extract(atoms, LabelKeys())["born_effective_charges"]
    # Rows are directions of the field: Z_yz, the force along z of a field along y, is the sixth number.
    assert charges[0, 1, 2] == flat[0, 5] == -0.28228
    assert charges[0, 2, 1] == flat[0, 7] == 0.24173
    atoms.calc = None
    atoms.new_array("zeu", flat)
    np.testing.assert_array_equal(extract(atoms, LabelKeys(born="zeu"))["born_effective_charges"], charges)
    assert extract(atoms, LabelKeys()) == {}


def test_a_dielectric_tensor_needs_a_crystal_and_charges_do_not() -> None:
    atoms = quartz()
    atoms.info["eps"] = np.diag([2.0, 2.0, 2.1])
    keys = LabelKeys(dielectric="eps")
    assert extract(atoms, keys)["dielectric_tensor"].shape == (3, 3)
    atoms.pbc = (True, True, False)
    assert set(extract(atoms, keys)) == {"born_effective_charges"}


def test_too_few_numbers_are_named() -> None:
    atoms = quartz()
    atoms.calc = None
    atoms.new_array("born_effective_charges", np.zeros((9, 6)))
    with pytest.raises(DataError, match=r"it has 54 numbers under 'born_effective_charges', not 81"):
        extract(atoms, LabelKeys())
    atoms.info["dielectric_tensor"] = 2.3
    del atoms.arrays["born_effective_charges"]
    with pytest.raises(DataError, match=r"it has 1 numbers under 'dielectric_tensor', not 9"):
        extract(atoms, LabelKeys())


def test_true_and_false_are_no_numbers() -> None:
    frame = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 energy=T pbc="T T T"\nAg 0 0 0\n'
    with pytest.raises(DataError, match="under 'energy' is not numeric: 'True'"):
        extract(read(StringIO(frame), format="extxyz"), LabelKeys())


def test_what_cannot_be_right_is_a_fault() -> None:
    atoms, expected = quartz(), ["born_effective_charges"]
    labels = extract(atoms, LabelKeys())
    assert fault(atoms, labels, expected, 150.0) is None
    assert fault(atoms, {}, expected, 150.0) == "it has no born_effective_charges"
    broken = {"born_effective_charges": labels["born_effective_charges"].copy()}
    broken["born_effective_charges"][3, 1, 1] = np.nan
    assert fault(atoms, broken, expected, 150.0) == "its born_effective_charges is not finite"
    large = {"born_effective_charges": 1000 * labels["born_effective_charges"]}
    assert (
        fault(atoms, large, expected, 150.0)
        == "a component of its born_effective_charges is 3638, beyond the plausible 50 e; check the unit"
    )


def test_the_sum_rule_is_looked_at_by_its_mean_over_atoms() -> None:
    labels = extract(quartz(), LabelKeys())
    assert imbalance(labels) == pytest.approx(0.01811 / 9, abs=1e-5)
    assert imbalance({}) == 0.0
    assert remark_on_sum_rule({0: imbalance(labels)}) is None
    off = {"born_effective_charges": labels["born_effective_charges"] + 2 * SUM_RULE_TOLERANCE}
    remark = remark_on_sum_rule({4: imbalance(labels), 7: imbalance(off)})
    assert remark is not None
    assert "in 1 of 2 frames" in remark
    assert "frame 7" in remark


def test_graphs_carry_tensors_and_batches_keep_their_order(silver) -> None:
    atoms = quartz()
    labels = extract(atoms, LabelKeys()) | {"dielectric_tensor": np.diag([2.0, 2.0, 2.1])}
    first = frame_to_graph(attach(atoms, labels), 3.0)
    second = frame_to_graph(attach(atoms, {name: 2 * value for name, value in labels.items()}), 3.0)
    joined = batch_graphs([first, second])
    charges = torch.tensor(labels["born_effective_charges"])
    torch.testing.assert_close(joined.labels["born_effective_charges"], torch.cat([charges, 2 * charges]))
    assert joined.labels["dielectric_tensor"].shape == (2, 3, 3)
    assert joined.labels["dielectric_tensor"][1, 2, 2] == 4.2
    assert set(attached(silver[0])) == {"energy", "forces", "stress"}
    assert attached(silver[0])["stress"].shape == (1, 3, 3)


def test_labels_of_other_positions_are_not_carried() -> None:
    atoms = quartz()
    atoms.calc = SinglePointCalculator(atoms, born_effective_charges=np.zeros((9, 3, 3)))
    assert set(attached(atoms)) == {"born_effective_charges"}
    atoms.positions[0, 0] += 0.1
    assert attached(atoms) == {}


def test_statistics_need_no_energies_but_not_some() -> None:
    atoms = quartz()
    labels = extract(atoms, LabelKeys())
    stats = compute_statistics(build_graphs([attach(atoms, labels)] * 2, 3.0), 3.0)
    assert stats.atomic_numbers == (8, 14)
    assert stats.reference_energies == {8: 0.0, 14: 0.0}
    assert stats.force_rms == 1.0
    assert stats.avg_num_neighbors > 4
    mixed = [attach(atoms, labels), attach(atoms, {**labels, "energy": np.asarray(-1.0)})]
    with pytest.raises(DataError, match="1 of 2 training structures have no energy"):
        compute_statistics(build_graphs(mixed, 3.0), 3.0)


def test_our_own_quartz_obeys_its_symmetry_and_is_in_units_of_e() -> None:
    """P3_2 21: the threefold screw axis turns the tensors of an orbit into one another, and the twofold axis keeps silicon's."""
    atoms = quartz()
    charges = extract(atoms, LabelKeys())["born_effective_charges"]
    silicon, oxygen = charges[atoms.numbers == 14], charges[atoms.numbers == 8]
    # Formal charges of 4 and -2 bound what a mixed ionic and covalent oxide has; atomic units or milli-e would lie far off.
    assert 3.0 < np.trace(silicon.mean(0)) / 3 < 4.0
    assert -2.0 < np.trace(oxygen.mean(0)) / 3 < -1.5
    angle = 2 * np.pi / 3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    two = np.diag([1.0, -1.0, -1.0])
    for operation in (turn, turn @ turn, two):
        for orbit in (silicon, oxygen):
            for tensor in orbit:
                image = operation @ tensor @ operation.T
                assert np.abs(orbit - image).max((1, 2)).min() < 3e-5
    # Nothing makes them symmetric.
    assert np.abs(oxygen - oxygen.transpose(0, 2, 1)).max() > 0.05


def test_the_quartz_frame_is_the_structure_of_its_inputs() -> None:
    atoms, lines = quartz(), (QUARTZ / "quartz_pw.in").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ATOMIC_POSITIONS crystal"))
    rows = [line.split() for line in lines[start + 1 : start + 1 + len(atoms)]]
    assert [row[0] for row in rows] == atoms.get_chemical_symbols()
    difference = np.array([row[1:] for row in rows], dtype=np.float64) - atoms.get_scaled_positions(wrap=False)
    np.testing.assert_allclose(difference - np.round(difference), 0, atol=1e-7)
    (celldm,) = re.findall(r"celldm\(1\)=([\d.]+)", "\n".join(lines))
    assert float(celldm) * Bohr == pytest.approx(atoms.cell.lengths()[0], rel=1e-6)
    assert "zeu=.true." in (QUARTZ / "quartz_ph.in").read_text()
