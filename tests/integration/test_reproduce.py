"""``kanmlip-reproduce`` from the outside, with the fakes: killed and started again, failures, wrong input."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from kanmlip.cli.reproduce import main
from kanmlip.experiment.record import RECORD_FORM
from kanmlip.reproduction import session
from tests.integration.application import FAKES, assert_trained, environment, records, results, statuses

COST = {"frame_s": 0.01, "memory_MB": 500, "disk_MB": 1}
RUNS = {
    "stages": [
        {"name": "first", "runs": [{"preset": "fake_none", "rows": ["1.1", "2.1"]}, {"preset": "fake_output", "rows": ["1.2"]}]},
        {"name": "second", "runs": [{"preset": "toy_of_ours", "beside": "3"}]},
    ],
    "benchmarks": {"rows": ["4.1"], "steps": {}},
    "costs": {
        "start_s": 1, "evaluation": 1, "heads": {"none": 1}, "all_frames": {"fake": [4, 2]}, "models": {"fake": {"smoke": COST}},
    },
}  # fmt: skip


STUDY = {
    "citation": "none",
    "column_sets": {"errors": [{"key": "f", "metric": "val/force_mae_eV_per_A", "heading": "val F MAE", "unit": "eV/Å", "decimals": 4}]},
    "tables": {
        "1": {"title": "Argon of ours", "dataset": "fake", "columns": "errors",
              "rows": [{"label": "Fake, MLP", "match": {"model": "fake", "placement": "none"}}]},
    },
}  # fmt: skip


@pytest.fixture
def reproduction(tmp_path: Path) -> Path:
    path = tmp_path / "reproduction.yaml"
    path.write_text(yaml.safe_dump({"runs": RUNS, **STUDY}))
    return path


def options(reproduction: Path, *arguments: str) -> list[str]:
    return ["--reproduction", str(reproduction), "--config-dir", str(FAKES), "--seeds", "1", *arguments]


def command(reproduction: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "kanmlip.cli.reproduce", *options(reproduction, *arguments)]


def reproduce(reproduction: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    call = command(reproduction, *arguments)
    return subprocess.run(call, env=environment(**extra), capture_output=True, text=True, timeout=400, check=False)


def epochs_by_run() -> dict[str, int]:
    return {path.parent.name: len(path.read_text().splitlines()) - 1 for path in results().glob("runs/*/history.csv")}


def test_killed_anywhere_it_goes_on_and_loses_at_most_an_epoch(
    reproduction: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--stages", "first", "--jobs", "2")
    call = command(reproduction, *arguments)
    process = subprocess.Popen(call, env=environment(KANMLIP_TEST_DELAY="0.05"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not (len(epochs_by_run()) == 2 and min(epochs_by_run().values()) >= 3):
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)  # its workers are not told: they must notice, and what comes next must wait for them
    process.wait()
    at_kill = epochs_by_run()
    for run, epochs in at_kill.items():
        kept = torch.load(results() / "runs" / run / "checkpoints" / "last.ckpt", weights_only=True)["tally"]["epoch"]
        assert kept >= epochs, "every epoch of the history is in the checkpoint"
    again = reproduce(reproduction, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    for run in at_kill:
        assert f"{run}: resumed" in again.stdout
        assert statuses()[run]["attempts"] == 2
    assert len(records()) == len(statuses()) == 2
    assert epochs_by_run() == dict.fromkeys(records(), 30)
    assert "2 of 2 runs done" in again.stdout
    assert "Argon of ours" in (results() / "tables" / "smoke" / "table1.md").read_text(), "tables of the file that was given"
    # A third time there is nothing to do, even where only the records are left, as in a fresh clone.
    shutil.rmtree(results() / "runs")
    assert main(options(reproduction, *arguments, "--dry-run")) == 0
    assert "2 runs, 0 to do" in capsys.readouterr().out
    # The report is logged all the same.
    logged: list[str] = []
    monkeypatch.setattr(session, "log_report", lambda settings, _, budget: logged.append(f"{settings.project} {budget}"))
    assert main(options(reproduction, *arguments, "logger=wandb")) == 0
    assert logged == ["kanmlip smoke"]


def test_renewing_begins_again_what_is_older_and_goes_on_with_what_was_begun(reproduction: Path) -> None:
    first = ("--stages", "first", "--jobs", "1")
    assert reproduce(reproduction, *first).returncode == 0
    begun, waiting = (path.parent.name for path in sorted(results().glob("runs/*/status.json"), key=lambda path: path.stat().st_mtime))
    for run in (begun, waiting):
        make_older(run)
    arguments = (*first, "--renew")
    call = command(reproduction, *arguments)
    process = subprocess.Popen(call, env=environment(KANMLIP_TEST_DELAY="0.05"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None and not 3 <= epochs_by_run().get(begun, 0) < 25:
        time.sleep(0.05)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert set(records()) == {waiting}, "its record was of the run before"
    again = reproduce(reproduction, *arguments)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{begun}: resumed" in again.stdout, "no epoch is trained twice"
    assert f"{waiting}: started again" in again.stdout
    assert {run: record["schema_version"] for run, record in records().items()} == dict.fromkeys((begun, waiting), RECORD_FORM)
    assert "2 runs, 0 to do" in reproduce(reproduction, *arguments, "--dry-run").stdout
    # A record that is lost is made of its folder, with --renew too.
    (results() / "records" / f"{begun}.json").unlink()
    before = statuses()
    assert reproduce(reproduction, *arguments).returncode == 0
    assert len(records()) == 2
    assert statuses() == before


def make_older(run: str) -> None:
    path = results() / "records" / f"{run}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1}))


def test_a_failure_leaves_the_others_alone_and_is_tried_again(reproduction: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failing = reproduce(reproduction, "--stages", "first", "--jobs", "2", KANMLIP_TEST_FAULT="1:kill:swap")
    assert failing.returncode == 1
    (dead,) = (run for run, status in statuses().items() if status["status"] != "done")
    assert dead.startswith("fake-output-gaussian-fake-s1-")
    assert len(records()) == 1
    assert "1 of 2 runs done" in failing.stdout
    assert f"not done: {dead}" in failing.stdout
    assert main(options(reproduction, "--stages", "first", "--dry-run")) == 0
    assert "2 runs, 1 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--stages", "frist"], ["--stages=frist", "Did you mean 'first'?"]),
        (["--tables", "7"], ["--tables=7", "choose from: 1, 2, 3, 4"]),
        (["--seeds", "1,x"], ["--seeds=1,x", "'x' is no seed"]),
        (["--stages", "first", "--jobs", "0"], ["--jobs=0 must be 1 or more"]),
        (["--stages", "second"], ["toy_of_ours", "experiment=toy_of_ours budget=smoke seed=1"]),
        (["--stages", "first", "trainer.optimizer.lr=0.1"], ["trainer.optimizer.lr=0.1 changes what"]),
        (["--stages", "first", "seed=1,2"], ["seed=1,2 names several values"]),
    ],
)
def test_wrong_input_is_one_message_and_starts_nothing(
    reproduction: Path, arguments: list[str], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(options(reproduction, *arguments)) == 2
    printed = capsys.readouterr().err
    assert all(fragment in printed for fragment in fragments), printed
    assert list(results().iterdir()) == []


def test_a_file_that_makes_no_tables_is_refused_before_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "reproduction.yaml"
    path.write_text(yaml.safe_dump({"runs": RUNS}))
    assert main(options(path, "--stages", "first")) == 2
    assert f"{path} does not describe tables" in capsys.readouterr().err
    assert list(results().iterdir()) == []


@pytest.mark.slow
def test_rows_of_a_table_from_one_command_without_any_files(tmp_path: Path) -> None:
    """The real thing in small: Table 6 at smoke, its data made under the name of the set that is missing, and named in the table."""
    call = [sys.executable, "-m", "kanmlip.cli.reproduce", "--budget", "smoke", "--tables", "6", "--stages", "other_models", "--jobs", "2"]
    done = subprocess.run(call, env=environment(KANMLIP_DATA=str(tmp_path)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "STAND-INS" in done.stdout
    assert {record["labels"]["basis"] for record in records().values()} == {None, "gaussian", "bspline"}
    for record in records().values():
        assert_trained(record)
    table = (results() / "tables" / "smoke" / "table6.md").read_text()
    assert "EMT labels" in table
    printed = [line for line in table.split("**")[0].splitlines() if "(control, ours)" not in line]
    assert len(printed) >= 5
    assert not any("no run" in line for line in printed), "every row of the paper has values"
