"""A run of several processes: the record of one, one process that writes, and one message if any of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from kanmlip.errors import LostProcessError
from kanmlip.experiment import worker
from kanmlip.experiment.identity import run_id
from kanmlip.experiment.status import Status
from tests.faults import forked
from tests.faults.conftest import Scene


class _Launches:
    """The module ``subprocess`` with forks in the place of the processes that a worker starts."""

    def Popen(self, command: Sequence[str], *, stdin: int, stdout: BinaryIO, stderr: BinaryIO) -> forked.Forked:  # noqa: N802
        from kanmlip.experiment.companions import main

        return forked.Forked(lambda: main(list(command[3:])), stdout.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@pytest.fixture
def together(scene: Scene) -> Scene:
    """The run of ``scene`` in two processes."""
    if torch.cuda.is_available():
        pytest.skip("a process that has started CUDA cannot be forked")
    config = scene.planned.config
    trainer = config.trainer.model_copy(update={"devices": 2})
    planned = replace(scene.planned, config=config.model_copy(update={"trainer": trainer}))
    assert run_id(planned.config, "f" * 64) == scene.planned.run_id
    return replace(scene, planned=planned)


def launching(in_epoch: int = 0, action: Callable[[int], None] = lambda rank: None) -> Callable[[], None]:
    """Start a run's processes by forks, and have each do something at the end of an epoch, given its rank."""

    def patch() -> None:
        from kanmlip.experiment import companions
        from kanmlip.training import loop

        companions.subprocess = _Launches()  # type: ignore[assignment]
        original = loop.run_epoch

        def run_epoch(session: Any, train: Any, val: Any, seed: int, fabric: Any, ranks: Any) -> Any:
            row = original(session, train, val, seed, fabric, ranks)
            if session.epoch + 1 == in_epoch:
                action(ranks.rank)
            return row

        loop.run_epoch = run_epoch

    return patch


def throw(error: Exception) -> None:
    raise error


def dies_in(rank: int, how: Callable[[], Any]) -> Callable[[int], None]:
    return lambda own: how() if own == rank else None


def assert_record_of_one_process(scene: Scene) -> None:
    """Equal up to the order of sums."""
    record = json.loads(scene.record.read_text())
    for name, value in scene.undisturbed["metrics"].items():
        if not name.startswith("time/") or name in ("time/epochs", "time/updates", "time/best_epoch"):
            assert record["metrics"][name] == pytest.approx(value, rel=1e-9), name
    assert record["config"] == scene.undisturbed["config"]


def test_two_processes_make_the_record_of_one(together: Scene) -> None:
    assert together.start(launching()) == 0, together.said
    assert_record_of_one_process(together)
    assert together.said.count("in 2 processes") == 1
    assert json.loads(together.record.read_text())["environment"]["devices"] == 2
    assert not list(together.results.rglob("*meeting*"))


@pytest.mark.parametrize(
    ("how", "said", "status"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "process 1 of the run ended: killed by SIGKILL", ("failed", True)),
        (lambda: os._exit(3), "process 1 of the run ended: its process ended with exit code 3", ("failed", True)),
        (
            lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")),
            "OutOfMemoryError: CUDA out of memory",
            ("oom", True),
        ),
        (lambda: throw(ValueError("a mistake of ours")), "process 1 of the run failed: ValueError", ("failed", False)),
    ],
    ids=["killed", "exit", "memory", "exception"],
)
def test_a_process_that_dies_ends_the_run_with_one_message(
    how: Callable[[], Any], said: str, status: tuple[str, bool], together: Scene, scene: Scene
) -> None:
    started = time.monotonic()
    assert together.start(launching(4, dies_in(1, how))) == 1
    assert time.monotonic() - started < 60, "the others must not wait for the dead"
    assert said in together.status["reason"]
    assert (together.status["status"], together.status["resumable"]) == status
    assert "gloo" not in together.status["reason"].lower()
    if status[1]:
        assert together.said.count(said) == 1, together.said
        assert "Traceback" not in together.said
        # With one process, what two began.
        assert scene.start() == 0, scene.said
        # The first process may have seen the end of epoch 4 before the other one died in it.
        assert re.search("resuming after epoch [34]", scene.said)
        assert_record_of_one_process(scene)
        assert json.loads(scene.record.read_text())["environment"]["devices"] == 2, "some of its time is that of two"


def test_a_worker_that_hangs_in_an_exchange_with_the_dead_ends_with_the_same_message(together: Scene, tmp_path: Path) -> None:
    """As NCCL may; here the worker sleeps."""

    def patch() -> None:
        from kanmlip.experiment import companions

        companions.HANG_S = 0.5
        tempfile.tempdir = str(tmp_path)
        launching(3, lambda rank: time.sleep(100) if rank == 0 else os.kill(os.getpid(), signal.SIGKILL))()

    started = time.monotonic()
    assert together.start(patch) == 1
    assert time.monotonic() - started < 60
    said = "process 1 of the run ended: killed by SIGKILL"
    assert said in together.status["reason"]
    assert (together.status["status"], together.status["resumable"]) == ("failed", True)
    assert together.said.count(said) == 1, together.said
    assert not list(tmp_path.glob("kanmlip-*"))


def test_the_others_end_with_the_worker(together: Scene, tmp_path: Path) -> None:
    pids = tmp_path / "pid"

    def kill_the_worker(rank: int) -> None:
        if rank == 1:
            pids.write_text(str(os.getpid()))
        else:
            while not pids.exists() or not pids.read_text():
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)

    def patch() -> None:
        tempfile.tempdir = str(tmp_path)
        launching(4, kill_the_worker)()

    assert together.start(patch) == 1
    assert together.status["reason"] == "killed by SIGKILL"
    deadline = time.monotonic() + 10
    while _lives(int(pids.read_text())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _lives(int(pids.read_text()))
    assert not list(tmp_path.glob("kanmlip-*"))
    assert together.start(launching()) == 0, together.said
    assert "resuming after epoch 3" in together.said
    assert_record_of_one_process(together)


def test_an_interruption_ends_all_processes(together: Scene) -> None:
    interrupt = dies_in(0, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert together.start(launching(4, interrupt)) == 1
    assert together.status["status"] == "interrupted"
    assert together.start(launching()) == 0, together.said
    assert_record_of_one_process(together)


@pytest.mark.parametrize(("interrupted", "status"), [(True, "interrupted"), (False, "failed")])
def test_an_interrupt_that_all_processes_get_is_no_failure(interrupted: bool, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Slurm's USR2: a process that has only begun dies of it, which may be seen before our own interrupt."""
    monkeypatch.setattr(worker, "_interrupted", interrupted)
    ended = worker._failed(Status("running", "run"), LostProcessError("process 1 of the run ended: killed by SIGUSR2"), orphaned=False)
    assert (ended.status, ended.resumable) == (status, True)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
