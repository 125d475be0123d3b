"""Every row of the paper's Table 1 trains from one command (embedded data, seconds a run)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.application import assert_trained, train_preset

ROWS = {
    "allegro by basis": ("table2_none", "table2_bspline", "table2_gaussian", "table2_fourier"),
    "allegro by placement": ("table3_output", "table3_besides_output"),
    # NequIP's, of Table 6, train in test_reproduce.py.
    "mace": ("table7_none", "table7_output"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_rows_train_to_a_finite_error_from_one_command(name: str, tmp_path: Path) -> None:
    records = train_preset(ROWS[name], "1111", tmp_path)
    assert len(records) == len(ROWS[name])
    for record in records:
        assert_trained(record)


@pytest.mark.slow
def test_the_rows_of_etgnn_train_on_charges(tmp_path: Path) -> None:
    records = train_preset(("table9_none", "table9_output_gaussian", "table9_output_bspline"), "1111", tmp_path, "toy_bec")
    assert {record["labels"]["basis"] for record in records} == {None, "gaussian", "bspline"}
    for record in records:
        metrics = record["metrics"]
        assert 0 < metrics["test/bec_mae_e"] < 2, record["run_id"]
        assert 0 < metrics["baseline/species_mean/test/bec_mae_e"] < 1
        assert record["labels"]["basis"] is None or len(record["placement"]["replaced"]) == 2
