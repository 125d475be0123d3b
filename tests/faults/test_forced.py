"""``force=true``: what is finished is begun again, what was begun so and taken away goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kanmlip.experiment import stop
from kanmlip.experiment.stop import SWEEP_VARIABLE, stoppable
from tests.faults.conftest import Scene, in_epoch

stopped = in_epoch(4, lambda session: os.kill(os.getpid(), signal.SIGUSR2))


@pytest.fixture
def forced(scene: Scene) -> Scene:
    """The same run, started with ``force=true``."""
    options = scene.planned.options.model_copy(update={"force": True})
    return replace(scene, planned=replace(scene.planned, options=options))


@pytest.mark.parametrize("first", [stopped, in_epoch(4, lambda session: os.abort())])
def test_a_run_begun_by_force_goes_on_until_it_is_done_and_is_then_begun_again(first: Callable[[], None], forced: Scene) -> None:
    assert forced.start(first) == 1
    assert forced.status["forced"]
    assert forced.start(in_epoch(5, lambda session: os.kill(os.getpid(), signal.SIGTERM))) == 1
    assert "resuming after epoch 3" in forced.said
    assert forced.status["forced"]
    assert forced.start() == 0, forced.said
    assert "resuming after epoch 4" in forced.said
    forced.assert_as_undisturbed()
    assert not forced.status["forced"]
    assert forced.start() == 0
    assert "started again" in forced.said
    assert "epoch 1/" in forced.said


def test_force_begins_a_run_anew_that_it_did_not_begin(scene: Scene, forced: Scene) -> None:
    assert scene.start(stopped) == 1
    assert not scene.status["forced"]
    assert forced.start(stopped) == 1
    assert "resuming" not in forced.said
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 3" in scene.said


def test_a_status_from_before_the_mark_is_read(scene: Scene, forced: Scene) -> None:
    assert scene.start(stopped) == 1
    status = scene.status
    del status["forced"]
    (scene.run / "status.json").write_text(json.dumps(status))
    assert forced.start() == 0, forced.said
    assert "started again" in forced.said
    assert "resuming" not in forced.said


def test_what_failed_by_an_exception_is_begun_anew(forced: Scene) -> None:
    def fail(session: Any) -> None:
        raise ValueError("a bug")

    assert forced.start(in_epoch(4, fail)) == 1
    assert forced.start() == 0, forced.said
    assert "resuming" not in forced.said


def test_a_command_that_is_started_again_as_the_same_sweep_does_not_begin_again_what_is_done(forced: Scene) -> None:
    """As scripts/slurm.sh names it, in a job that is queued again."""
    assert forced.start(KANMLIP_SWEEP="slurm-cluster-1") == 0, forced.said
    assert forced.status["sweep"] == "slurm-cluster-1"
    assert forced.start(KANMLIP_SWEEP="slurm-cluster-1") == 0
    assert "the same run as an earlier job of this sweep" in forced.said
    assert forced.start(KANMLIP_SWEEP="slurm-cluster-2") == 0
    assert "started again" in forced.said


def test_a_name_that_a_sweep_was_given_stays(forced: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_requested", stop.GO_ON)
    for name in ("mine", ""):
        monkeypatch.setenv(SWEEP_VARIABLE, name)
        with stoppable(forced.results / "sweeps" / "now.stop"):
            assert os.environ[SWEEP_VARIABLE] == name or (not name and os.environ[SWEEP_VARIABLE].startswith("now-"))
        assert os.environ.get(SWEEP_VARIABLE, "") == name
