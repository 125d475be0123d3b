"""Sweeps: a dead job leaves the others alone, finished runs are skipped, the summary names what did not finish."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kanmlip.evaluation.structure_errors import unpack
from tests.integration.application import FAKE, FORKING, epochs_done, interrupt, records, results, statuses, train

LAUNCHERS = {"basic": (), "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")}
MODULES = {"basic": FORKING, "joblib": "kanmlip.cli.train"}
# basis has no effect without a KAN, so that six jobs are four runs.
FOUR_RUNS = ("-m", *FAKE, "trainer.max_epochs=2", "placement=none,output", "seed=1,2")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_of_four_jobs_kills_itself(launcher: str, tmp_path: Path) -> None:
    done = train(*FOUR_RUNS, *LAUNCHERS[launcher], folder=tmp_path, module=MODULES[launcher], KANMLIP_TEST_FAULT="2:kill:swap")
    assert done.returncode == 1, done.stdout + done.stderr
    by_status = {run: status["status"] for run, status in statuses().items()}
    dead = [run for run, status in by_status.items() if status != "done"]
    assert len(by_status) == 4
    assert len(dead) == 1
    assert dead[0].startswith("fake-output-gaussian-fake-s2-")
    assert by_status[dead[0]] == "failed"
    assert statuses()[dead[0]]["reason"] == "killed by SIGKILL"
    assert "3 of 4 runs done" in done.stdout
    assert f"not done: {dead[0]}" in done.stdout
    assert set(records()) == set(by_status) - set(dead)

    summary = json.loads(next(results().glob("sweeps/*.json")).read_text())
    assert {row["run_id"]: row["status"] for row in summary["runs"]} == by_status
    assert "seed=1,2" in summary["arguments"]

    # The same command again; it does not matter here that the runs were made by the other launcher.
    again = train(*FOUR_RUNS, folder=tmp_path, module=FORKING)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("finished before, skipped") == 3
    assert f"{dead[0]}: resumed" in again.stdout
    assert "4 of 4 runs done" in again.stdout
    # Nothing of Hydra's in the working folder, and next to nothing among the results.
    assert list(tmp_path.iterdir()) == []
    assert {path.name for path in results().iterdir()} == {"runs", "records", "sweeps", "hydra"}
    assert [path.name for path in (results() / "hydra").iterdir()] == ["multirun.yaml"]
    assert not list(results().glob("sweeps/*.stop"))


def test_jobs_that_are_the_same_run_are_run_once(tmp_path: Path) -> None:
    done = train("-m", *FAKE, "basis=gaussian,bspline", "seed=1", folder=tmp_path, KANMLIP_TEST_FAULT="1:raise")
    assert done.returncode == 1
    assert len(statuses()) == 1
    assert next(iter(statuses().values()))["attempts"] == 1, "a failed run is not tried again by a later job of the same sweep"
    assert "0 of 1 runs done" in done.stdout


def test_nothing_starts_when_one_combination_is_wrong(tmp_path: Path) -> None:
    done = train("-m", *FAKE, "placement=none,output,all", folder=tmp_path)
    assert done.returncode == 2
    assert "placement=all is not known; choose from: none, output" in done.stderr
    assert "in job 2: " in done.stderr
    assert "Traceback" not in done.stderr
    assert list(results().iterdir()) == []


def test_ctrl_c_ends_a_parallel_sweep_resumably(tmp_path: Path) -> None:
    arguments = ("-m", *FAKE, "trainer.max_epochs=60", "seed=1,2,3", *LAUNCHERS["joblib"])
    code, output = interrupt(*arguments, folder=tmp_path, when=lambda: len(epochs_done()) == 2, KANMLIP_TEST_DELAY="0.1")
    assert code == 130, output
    assert {status["status"] for status in statuses().values()} == {"interrupted"}
    assert "-s3-" not in "".join(statuses()), "no further job may start"
    assert "0 of 3 runs done" in output


def test_run_folder_holds_everything(tmp_path: Path) -> None:
    done = train(*FAKE, "placement=output", "basis=bspline", "seed=5", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run_id, record = next(iter(records().items()))
    folder = results() / "runs" / run_id
    present = {path.name for path in folder.iterdir()}
    wanted = {
        "config.yaml",
        "status.json",
        "metrics.json",
        "environment.json",
        "history.csv",
        "predictions.npz",
        "placement.json",
        "checkpoints",
    }
    assert wanted <= present
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert record["labels"] == {"model": "fake", "placement": "output", "basis": "bspline", "dataset": "fake", "budget": "smoke", "seed": 5}
    assert record["data"]["n_train"] == 4
    assert record["data"]["n_test"] == 2
    assert record["environment"]["dataset_sha256"] == "f" * 64
    assert record["environment"]["versions"]["torch"]
    assert record["environment"]["finished"] >= record["environment"]["started"]
    assert record["placement"]["replaced"][0]["path"] == "readout"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == record["metrics"]
    assert metrics["params/total"] == record["placement"]["parameters_total"]
    with np.load(folder / "predictions.npz") as predictions:
        error = np.abs(predictions["val/forces_pred"] - predictions["val/forces_true"]).mean()
    assert metrics["val/force_mae_eV_per_A"] == pytest.approx(error, rel=1e-6)
    columns = {name: unpack(text) for name, text in record["structures"]["val"].items()}
    assert columns["force_abs_eV_per_A"].sum() / columns["num_atoms"].sum() / 3 == pytest.approx(error, rel=1e-4)
    assert unpack(record["history"]["updates"])[-1] == metrics["time/updates"]

    # A record that was lost is made again from the run folder, without another run.
    (results() / "records" / f"{run_id}.json").unlink()
    assert train(*FAKE, "placement=output", "basis=bspline", "seed=5", folder=tmp_path).returncode == 0
    assert records()[run_id] == record
    assert statuses()[run_id]["attempts"] == 1
