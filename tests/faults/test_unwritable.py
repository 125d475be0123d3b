"""Runs that cannot be begun: the command says why, and does not take them for interrupted."""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from kanmlip.experiment.stop import STOP_FILE_VARIABLE
from kanmlip.experiment.word import Word, forget, leave, take, words_folder
from tests.faults import forked
from tests.faults.conftest import RUN, Scene

REASON = r"cannot be written (Not a directory)"


@pytest.fixture
def blocked(scene: Scene) -> Scene:
    """A results root where the folder of run folders is a file."""
    scene.results.mkdir()
    (scene.results / "runs").write_text("")
    return scene


def start(scene: Scene, *arguments: str) -> tuple[int, str]:
    return forked.train(*arguments, output=scene.results.with_suffix(".out"), KANMLIP_RESULTS=str(scene.results))


def test_a_run_folder_that_cannot_be_written_is_a_failure_with_its_reason(blocked: Scene) -> None:
    code, said = start(blocked, *RUN)
    assert code == 1, said
    assert f"kanmlip-train: {blocked.planned.run_id}: failed: " in said
    assert REASON in said.splitlines()[-1]
    assert "interrupted" not in said


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_the_summary_of_a_sweep_says_why_as_well(launcher: tuple[str, ...], blocked: Scene) -> None:
    code, said = start(blocked, "-m", *RUN, *launcher)
    assert code == 1, said
    (row,) = json.loads(next(blocked.results.glob("sweeps/*.json")).read_text())["runs"]
    assert row["status"] == "failed"
    assert REASON in row["reason"]
    assert [path.suffix for path in (blocked.results / "sweeps").iterdir()] == [".json"]


def test_a_run_that_was_interrupted_and_whose_folder_is_lost_since_has_failed(scene: Scene) -> None:
    assert scene.start() == 0
    status = scene.status | {"status": "interrupted"}
    (scene.run / "status.json").write_text(json.dumps(status))
    (scene.run / "run.lock").unlink()
    (scene.run / "run.lock").mkdir()
    code, said = start(scene, *RUN)
    assert code == 1, said
    assert "cannot be written (Is a directory)" in said.splitlines()[-1]


def test_what_killed_sweeps_left_is_cleared_a_day_later(scene: Scene) -> None:
    assert scene.start() == 0
    sweeps = scene.results / "sweeps"
    names = ("20250101T000000-1.stop", ".20250101T000000-1.json.x1y2", "20250101T000000-1.json", "20250101T000000-1.jobs")
    for age, prefix in ((3600, ""), (2 * 86400, "20240101-"), (40 * 86400, "20230101-")):
        for name in names:
            path = sweeps / (f".{prefix}{name[1:]}" if name.startswith(".") else prefix + name)
            path.parent.mkdir(exist_ok=True)
            if name.endswith(".jobs"):
                path.mkdir()
                (path / "1.json").write_text("{}")
            else:
                path.write_text("1")
            os.utime(path, (time.time() - age,) * 2)
    assert start(scene, "-m", *RUN)[0] == 0
    left = {path.name for path in sweeps.iterdir()}
    (own,) = (name for name in left if not name.lstrip(".").startswith(("20230101", "20240101", "20250101T000000")))
    assert own.endswith(".json")
    assert left - {own} == {*names, "20240101-" + names[2], "20230101-" + names[2], "20240101-" + names[3]}


@pytest.mark.parametrize("earlier", [False, True])
def test_another_command_that_has_only_just_begun_is_no_interruption(earlier: bool, scene: Scene) -> None:
    scene.run.mkdir(parents=True)
    if earlier:
        (scene.run / "status.json").write_text(json.dumps({"status": "interrupted", "run_id": scene.run.name}))
    with (scene.run / "run.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, said = start(scene, *RUN)
    assert code == 1, said
    assert "was working on it" in said.splitlines()[-1]
    assert "interrupted" not in said


def test_of_two_jobs_that_are_one_run_the_one_that_made_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_file = tmp_path / "now.stop"
    monkeypatch.setenv(STOP_FILE_VARIABLE, str(stop_file))
    for word in (Word("a", "failed", "why", 1, "m"), Word("a", "running", "process 3 was working on it", 1, "m"), Word("b", "done")):
        leave(word)
        time.sleep(0.001)
    (words_folder(stop_file) / "torn.json").write_text('{"run_id": ')
    forget()  # as if they had been other processes
    found = take(stop_file)
    assert {run: word.status for run, word in found.items()} == {"a": "failed", "b": "done"}
    assert list(tmp_path.iterdir()) == []
