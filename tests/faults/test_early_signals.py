"""A worker that is asked to stop before it can listen, as by Slurm, which warns all processes of a job."""

from __future__ import annotations

import signal
import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from kanmlip.experiment import stop, supervisor
from tests.faults.conftest import Scene


@pytest.mark.parametrize("number", stop.WORKER_SIGNALS)
def test_a_signal_right_after_the_start_is_an_interruption(number: signal.Signals, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def start_and_warn(*arguments: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(*arguments, **keywords)
        process.send_signal(number)
        return process

    monkeypatch.setenv("KANMLIP_RESULTS", str(scene.results))
    monkeypatch.setenv(stop.SWEEP_VARIABLE, "sweep-1")
    monkeypatch.setattr(stop, "_requested", stop.GO_ON)
    monkeypatch.setattr(supervisor, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start_and_warn}))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    ended = supervisor.supervise(scene.planned)
    assert (ended.status, ended.exit_code, ended.resumable) == ("interrupted", 130, True), ended.reason
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    # The job that is queued again, as the same sweep.
    assert scene.start(KANMLIP_SWEEP="sweep-1") == 0, scene.said
    scene.assert_as_undisturbed()
