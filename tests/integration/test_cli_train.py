"""``kanmlip-train`` from the outside: help, exit codes, messages, skip, resume, force, time limits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.application import FAKE, environment, epochs_done, interrupt, results, statuses, train


def test_help_is_fast_and_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['kanmlip-train', '--help']\n"
        "from kanmlip.cli.train import main\n"
        "try: main()\n"
        "except SystemExit as error: assert not error.code, error\n"
        "print('HEAVY', {'torch', 'nequip', 'mace', 'lightning', 'wandb', 'ase'} & set(sys.modules))\n"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=True)
    after = os.times()  # of the processor: other tests run beside this one
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    assert "HEAVY set()" in done.stdout
    assert "placement: all, besides_output, none, output" in done.stdout
    assert seconds < 3.0


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["trainer.max_epoch=3"], ["trainer.max_epoch=3", "trainer.batch_size", "Did you mean 'trainer.max_epochs'?"]),
        (["model=etgnn", "dataset=ag"], ["model=etgnn dataset=ag", "born_effective_charges", "models for dataset=ag: allegro"]),
        (["dataset=extxyz", "dataset.train=no_such_file.xyz"], ["dataset.train", "no_such_file.xyz"]),
        (["seed=1,2"], ["seed=1,2", "add -m"]),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(arguments: list[str], fragments: list[str], tmp_path: Path) -> None:
    done = train(*arguments, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("kanmlip-train: ") == 1
    for fragment in fragments:
        assert fragment in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert list(results().iterdir()) == []


def test_finished_is_skipped_and_force_runs_again(tmp_path: Path) -> None:
    first = train(*FAKE, folder=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    (run_id,) = statuses()
    history = results() / "runs" / run_id / "history.csv"
    before = history.stat().st_mtime_ns
    second = train(*FAKE, "logger=none", "trainer.device=cpu", folder=tmp_path)
    assert second.returncode == 0
    assert "finished before, skipped" in second.stdout
    assert history.stat().st_mtime_ns == before
    third = train(*FAKE, "force=true", folder=tmp_path)
    assert third.returncode == 0, third.stdout + third.stderr
    assert "started again" in third.stdout
    assert history.stat().st_mtime_ns > before
    assert list(statuses()) == [run_id]


def test_ctrl_c_leaves_a_run_that_the_same_command_resumes(tmp_path: Path) -> None:
    arguments = (*FAKE, "trainer.max_epochs=40")
    code, output = interrupt(*arguments, folder=tmp_path, when=lambda: max(epochs_done(), default=0) >= 3, KANMLIP_TEST_DELAY="0.1")
    assert code == 130, output
    assert "the same command resumes it" in output
    ((run_id, status),) = statuses().items()
    assert status["status"] == "interrupted"
    assert status["pid"] is None
    rows = (results() / "runs" / run_id / "history.csv").read_text().splitlines()
    assert 3 < len(rows) < 41, "some epochs done, not all"
    again = train(*arguments, folder=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"{run_id}: resumed" in again.stdout
    assert statuses()[run_id]["attempts"] == 2
    finished = (results() / "runs" / run_id / "history.csv").read_text().splitlines()
    assert finished[: len(rows) - 1] == rows[:-1], "epochs before the interruption are not done again"
    assert len(finished) == 41


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("memory", "oom", "MemoryError: no room"),
        ("data", "failed", "frame 3 has no energy"),
    ],
)
def test_how_a_run_ended_is_told(kind: str, status: str, reason: str, tmp_path: Path) -> None:
    done = train(*FAKE, "seed=3", folder=tmp_path, KANMLIP_TEST_FAULT=f"3:{kind}")
    assert done.returncode == (2 if kind == "data" else 1), "input that turns out to be wrong is no failed run"
    (found,) = statuses().values()
    assert (found["status"], found["reason"]) == (status, reason)
    assert found["error"], "the error's last lines"
    assert reason in done.stderr


def test_time_limit(tmp_path: Path) -> None:
    done = train(*FAKE, "seed=3", "timeout_s=3", folder=tmp_path, KANMLIP_TEST_FAULT="3:sleep")
    assert done.returncode == 1
    (found,) = statuses().values()
    assert found["status"] == "timeout"
    assert found["resumable"]
