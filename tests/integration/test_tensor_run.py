"""A whole run of a tensor model from the command line: labels, losses, metrics, baselines, record, predictions."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest

from tests.integration.application import records, results, train
from tests.tensor_fakes import quartz


def test_a_tensor_model_trains_without_a_flag_and_leaves_a_record(tmp_path: Path) -> None:
    done = train("model=fake_tensors", "dataset=toy_bec", "budget=smoke", "trainer.max_epochs=3", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records().values()
    metrics = record["metrics"]
    for split in ("train", "val", "test"):
        for key in ("bec_mae_e", "bec_rmse_e", "bec_mae_O_e", "bec_mae_Mg_e", "bec_mae_off_diagonal_e", "bec_mae_free_e", "dielectric_mae"):
            assert 0 < metrics[f"{split}/{key}"] < 5, key
        assert metrics[f"baseline/species_mean/{split}/bec_mae_e"] > 0
    assert record["config"]["trainer"]["monitor"] == "val/bec_mae_e"
    assert "toy_bec" in record["data"]["label"]
    (folder,) = (results() / "runs").iterdir()
    with np.load(folder / "predictions.npz") as predictions:
        error = predictions["test/born_effective_charges_pred"] - predictions["test/born_effective_charges_true"]
        numbers = predictions["test/atomic_numbers"]
    assert np.abs(error).mean() == pytest.approx(metrics["test/bec_mae_e"], rel=1e-5)
    assert numbers.shape == error.shape[:1]
    # Finished is finished.
    again = train("model=fake_tensors", "dataset=toy_bec", "budget=smoke", "trainer.max_epochs=3", folder=tmp_path)
    assert again.returncode == 0
    assert len(records()) == 1


def test_a_users_own_charges_train(tmp_path: Path) -> None:
    frames = []
    for index in range(8):
        atoms = quartz()
        charges = atoms.calc.results["born_effective_charges"]
        atoms.calc = None
        atoms.rattle(0.02, seed=index)
        atoms.new_array("zeu", charges)
        frames.append(atoms)
    ase.io.write(tmp_path / "my.xyz", frames, format="extxyz")
    arguments = ("model=fake_tensors", "dataset=extxyz", "dataset.train=my.xyz", "dataset.val=0.25", "budget=smoke")
    refused = train(*arguments, folder=tmp_path)
    assert refused.returncode == 2
    assert "dataset.energy_key=energy is not known; choose from: label, zeu." in refused.stderr
    assert "dataset.born_key" in refused.stderr
    done = train(*arguments, "dataset.born_key=zeu", "trainer.loss.dielectric_tensor=0", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records().values()
    assert record["metrics"]["val/bec_mae_Si_e"] > 0
    assert "val/dielectric_mae" not in record["metrics"]
