"""Every row of the paper's Table 1 trains from one command (embedded data, seconds a run)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.application import train_preset

ROWS = {
    "allegro by basis": ("table2_none", "table2_bspline", "table2_gaussian", "table2_fourier"),
    "allegro by placement": ("table3_output", "table3_besides_output"),
    "nequip": ("table6_none", "table6_gaussian", "table6_bspline"),
    "mace": ("table7_none", "table7_output"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_rows_train_to_a_finite_error_from_one_command(name: str, tmp_path: Path) -> None:
    seeds = "1111,2222,3333" if name == "mace" else "1111"
    records = train_preset(ROWS[name], seeds, tmp_path)
    assert len(records) == len(ROWS[name]) * len(seeds.split(","))
    for record in records:
        assert record["status"] == "done"
        assert 0 < record["metrics"]["val/force_mae_eV_per_A"] < 1, record["run_id"]
        assert record["labels"]["basis"] is None or record["placement"]["replaced"]
        assert record["environment"]["dataset_sha256"]
        assert record["data"]["stand_in"]


@pytest.mark.slow
def test_the_rows_of_etgnn_train_on_charges(tmp_path: Path) -> None:
    records = train_preset(("table9_none", "table9_output_gaussian", "table9_output_bspline"), "1111", tmp_path, "toy_bec")
    assert {record["labels"]["basis"] for record in records} == {None, "gaussian", "bspline"}
    for record in records:
        metrics = record["metrics"]
        assert 0 < metrics["test/bec_mae_e"] < 2, record["run_id"]
        assert 0 < metrics["baseline/species_mean/test/bec_mae_e"] < 1
        assert record["labels"]["basis"] is None or len(record["placement"]["replaced"]) == 2
