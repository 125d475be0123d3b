"""What a record keeps of single structures and of the course of training: enough for every metric, and little."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kanmlip.data.neighbours import frame_to_graph
from kanmlip.evaluation.assessment import evaluate
from kanmlip.evaluation.metrics import METRICS
from kanmlip.evaluation.structure_errors import MAX_STRUCTURES, kept_structures, pack, structure_errors, unpack
from kanmlip.report.records import read_evidence
from kanmlip.training.history import MAX_EPOCHS, condense, read_history
from tests.fakes import PairPotential, pair_frames
from tests.unit.test_report_tables import record, write


def test_sums_over_structures_are_the_metrics() -> None:
    graphs = [frame_to_graph(atoms, 3.5) for atoms in pair_frames(7)]
    evaluation = evaluate(PairPotential(seed=3), graphs, 3, "cpu")
    errors = structure_errors({f"val/{name}": array for name, array in evaluation.predictions.items()})
    columns = {name: unpack(text) for name, text in errors["val"].items()}
    atoms, energy = columns["num_atoms"], columns["energy_error_eV"]
    assert set(atoms) == {4, 8}, "sizes must differ, or a mean over structures could pass for one over atoms"
    found = {
        "energy_mae_eV_per_atom": np.abs(energy / atoms).mean(),
        "energy_mae_eV_per_cell": np.abs(energy).mean(),
        "energy_rmse_meV_per_atom": 1e3 * np.sqrt(((energy / atoms) ** 2).mean()),
        "force_mae_eV_per_A": columns["force_abs_eV_per_A"].sum() / (3 * atoms.sum()),
        "force_rmse_meV_per_A": 1e3 * np.sqrt(columns["force_square_eV2_per_A2"].sum() / (3 * atoms.sum())),
        "stress_mae_meV_per_A3": 1e3 * columns["stress_abs_eV_per_A3"].sum() / (9 * len(atoms)),
        "stress_rmse_meV_per_A3": 1e3 * np.sqrt(columns["stress_square_eV2_per_A6"].sum() / (9 * len(atoms))),
    }
    assert set(found) == set(METRICS) - {"stress_zero_rmse_meV_per_A3"}
    for name, value in found.items():
        assert value == pytest.approx(evaluation.metrics[name], rel=1e-4), name


def test_charges_are_summed_by_structure_with_their_free_components() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(5, 3, 3))
    true[:, 0, 1] = 0.0
    pred = true + rng.normal(size=true.shape)
    errors = structure_errors(
        {
            "test/num_atoms": np.array([2, 3]),
            "test/frame": np.array([7, 4]),
            "test/born_effective_charges_true": true,
            "test/born_effective_charges_pred": pred,
            "train/num_atoms": np.array([1]),
        }
    )
    assert set(errors) == {"test"}
    columns = {name: unpack(text) for name, text in errors["test"].items()}
    assert list(columns["frame"]) == [7, 4]
    assert columns["bec_free_count"].tolist() == [16, 24]
    error = np.abs(pred - true)
    assert columns["bec_abs_e"] == pytest.approx([error[:2].sum(), error[2:].sum()], rel=1e-4)
    error[:, 0, 1] = 0.0
    assert columns["bec_free_abs_e"] == pytest.approx([error[:2].sum(), error[2:].sum()], rel=1e-4)


def test_a_large_set_is_thinned_evenly_and_stays_small() -> None:
    kept = kept_structures(2 * MAX_STRUCTURES + 500)
    assert len(set(kept.tolist())) == MAX_STRUCTURES
    assert set(np.diff(kept).tolist()) == {2, 3}
    assert (kept[0], kept[-1]) == (0, 2 * MAX_STRUCTURES + 497)
    count = 3 * MAX_STRUCTURES
    arrays: dict[str, np.ndarray] = {"num_atoms": np.full(count, 2), "frame": np.arange(count)}
    for name, shape in (("energy", (count,)), ("forces", (2 * count, 3)), ("stress", (count, 3, 3))):
        arrays |= {f"{name}_true": np.zeros(shape), f"{name}_pred": np.random.default_rng(1).normal(size=shape)}
    assert len(json.dumps(structure_errors({f"val/{name}": array for name, array in arrays.items()}))) < 100_000


def test_numbers_keep_five_digits_and_what_is_not_finite() -> None:
    assert pack([0.123456789, 1e-7 / 3, float("nan"), 12]) == "0.12346 3.3333e-08 nan 12"
    assert np.isnan(unpack(pack([1.0, float("nan")]))).tolist() == [False, True]


def test_a_long_history_is_thinned_and_keeps_its_end(tmp_path: Path) -> None:
    lines = ["epoch,lr,train/loss,val/force_mae_eV_per_A,time/train_s"]
    lines += [f"{epoch},0.01,1.0,{1 / epoch},{2.5 * epoch}" for epoch in range(1, 1002)]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    columns = {name: unpack(text) for name, text in condense(read_history(tmp_path / "history.csv"), updates_per_epoch=30).items()}
    assert set(columns) == {"epoch", "updates", "time/train_s", "val/force_mae_eV_per_A"}
    assert len(columns["epoch"]) <= MAX_EPOCHS
    assert (columns["epoch"][-1], columns["updates"][-1], columns["time/train_s"][-1]) == (1001, 30030, 2502.5)
    assert columns["val/force_mae_eV_per_A"] == pytest.approx(1 / columns["epoch"], rel=1e-4)
    assert read_history(tmp_path / "nowhere.csv") == []


def test_records_of_both_forms_are_read_and_share_a_row(tmp_path: Path) -> None:
    new = record(seed=2222) | {"schema_version": 2, "science_version": 1, "structures": {"val": {"num_atoms": "71"}}, "history": None}
    evidence = read_evidence(write(tmp_path, record(seed=1111), new))
    assert [made.structures for made in evidence.records] == [None, {"val": {"num_atoms": "71"}}]
    from kanmlip.report.grouping import group_by_settings

    assert [list(group.by_seed) for group in group_by_settings(evidence.records)] == [[1111, 2222]]
