"""Each fault in turn: what is said of it, and that the same command afterwards makes the record of an undisturbed run."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults import forked
from tests.faults.conftest import EPOCHS, RUN, Scene, in_epoch


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (lambda session: os.abort(), "killed by SIGABRT"),
        (lambda session: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
        (lambda session: os._exit(3), "its process ended with exit code 3"),
    ],
)
def test_a_run_that_dies_goes_on_from_its_last_epoch(action: Callable[[Any], None], reason: str, scene: Scene) -> None:
    assert scene.start(in_epoch(4, action)) == 1
    assert scene.status["status"] == "failed"
    assert reason in scene.status["reason"]
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 3" in scene.said
    scene.assert_as_undisturbed()


def test_sigterm_is_an_interruption(scene: Scene) -> None:
    assert scene.start(in_epoch(4, lambda session: os.kill(os.getpid(), signal.SIGTERM))) == 1
    assert scene.status["status"] == "interrupted"
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 3" in scene.said
    scene.assert_as_undisturbed()


def test_an_interruption_that_a_library_turns_into_another_exception_is_one_still(scene: Scene) -> None:
    def interrupted_in_a_library(session: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt as error:
            raise RuntimeError("the data loader went away") from error

    assert scene.start(in_epoch(4, interrupted_in_a_library)) == 1
    assert scene.status["status"] == "interrupted"
    assert scene.status["resumable"]


def test_an_exception_is_told_and_the_run_is_made_anew(scene: Scene) -> None:
    def fail(session: Any) -> None:
        raise ValueError("a bug")

    assert scene.start(in_epoch(4, fail)) == 1
    assert (scene.status["status"], scene.status["reason"]) == ("failed", "ValueError: a bug")
    assert scene.start() == 0, scene.said
    assert "resuming" not in scene.said
    scene.assert_as_undisturbed()


def test_a_logger_that_fails_ends_nothing_but_itself(scene: Scene) -> None:
    class Broken:
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise ConnectionError("no route to the server")

        def finalize(self, status: str) -> None:
            raise AssertionError("a logger that failed is not asked again")

    def patch() -> None:
        from kanmlip.training import loggers

        original = loggers.build_loggers
        loggers._open_wandb = lambda *arguments: Broken()  # type: ignore[assignment, return-value]
        loggers._require = lambda *arguments: None
        from kanmlip.experiment import pipeline

        pipeline.build_loggers = lambda config, *rest: original(config.model_copy(update={"wandb": True}), *rest)

    assert scene.start(patch) == 0, scene.said
    assert scene.said.count("logger.wandb failed (ConnectionError: no route to the server)") == 1
    scene.assert_as_undisturbed()


@pytest.mark.parametrize("last_update", [False, True])
def test_divergence_is_named_and_leaves_the_last_good_checkpoint(last_update: bool, scene: Scene) -> None:
    def spoil(session: Any) -> None:
        with torch.no_grad():
            next(p for p in session.potential.parameters() if p.requires_grad).view(-1)[0] = float("nan")

    # After the last update of epoch 3 the loss is a number still, and the weights are none; with the next epoch the loss is not.
    patch = in_epoch(3, spoil) if last_update else before_epoch(4, spoil)
    assert scene.start(patch) == 1
    assert scene.status["status"] == "diverged"
    epoch = 2 if last_update else 3
    assert ("is not finite after epoch 3" if last_update else "the loss became nan in epoch 4") in scene.status["reason"]
    assert "trainer.optimizer.lr" in scene.status["reason"]
    assert scene.epoch() == epoch
    for name in ("last.ckpt", "best.ckpt"):
        weights = torch.load(scene.run / "checkpoints" / name, weights_only=True)["model"].values()
        assert all(torch.isfinite(value).all() for value in weights if value.is_floating_point())
    assert not scene.record.exists()


def before_epoch(number: int, action: Callable[[Any], None]) -> Callable[[], None]:
    def patch() -> None:
        from kanmlip.training import loop

        original = loop.run_epoch

        def run_epoch(session: Any, *arguments: Any, **keywords: Any) -> Any:
            if session.epoch + 1 == number:
                action(session)
            return original(session, *arguments, **keywords)

        loop.run_epoch = run_epoch

    return patch


def test_a_file_size_limit_ends_a_run_resumably(scene: Scene) -> None:
    def limit(session: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    assert scene.start(in_epoch(4, limit)) == 1
    assert scene.status["status"] == "failed"
    assert scene.status["reason"].startswith(os.strerror(errno.EFBIG))
    assert scene.status["resumable"]
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 3" in scene.said
    scene.assert_as_undisturbed()


@pytest.fixture
def small_disk(scene: Scene) -> Iterator[Path]:
    """A results root on a disk of its own, of 400 kB."""
    scene.results.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(scene.results)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
    yield scene.results
    subprocess.run(["umount", "-l", str(scene.results)], check=True)


def test_a_full_disk_loses_nothing(scene: Scene, small_disk: Path) -> None:
    ballast = small_disk / "ballast"

    def fill(session: Any) -> None:
        with ballast.open("wb") as file:
            try:
                while True:
                    file.write(bytes(1024))
                    file.flush()
            except OSError:
                pass

    assert scene.start(in_epoch(4, fill)) == 1
    # Started on a disk that is still full: said, and nothing broken.
    assert scene.start() == 1
    assert "No space left on device" in scene.said
    assert "Traceback" not in scene.said
    ballast.unlink()
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 3" in scene.said
    scene.assert_as_undisturbed()


def test_read_only_results_are_refused_before_anything_starts(scene: Scene, small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    code, said = forked.train(*RUN, output=tmp_path / "out", KANMLIP_RESULTS=str(small_disk))
    assert code == 2, said
    assert "results cannot be written to" in said
    assert "KANMLIP_RESULTS" in said
    assert "Traceback" not in said
    assert scene.start() == 1, "where the root has become read-only since"
    assert "Read-only file system" in scene.said
    assert "Traceback" not in scene.said
    assert list(small_disk.iterdir()) == []


def test_a_results_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = forked.train(*RUN, output=tmp_path / "out", KANMLIP_RESULTS=str(tmp_path / "file" / "results"))
    assert code == 2, said
    assert "results cannot be written to" in said
    assert "Traceback" not in said


def test_two_processes_on_one_run_folder(scene: Scene) -> None:
    commands = [scene.begin(KANMLIP_TEST_DELAY="0.05") for _ in range(2)]
    assert sorted(command.wait(timeout=240) for command in commands) == [0, 1]
    assert "is working on it, skipped" in scene.results.with_suffix(".out").read_text()
    scene.assert_as_undisturbed()


def test_a_command_whose_predecessor_was_killed_waits_for_its_worker(scene: Scene) -> None:
    first = scene.begin(KANMLIP_TEST_DELAY="0.1")
    history = scene.run / "history.csv"
    while not history.exists():
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    assert scene.start() == 0, scene.said
    assert "resuming after epoch" in scene.said
    scene.assert_as_undisturbed()


def test_a_command_killed_while_it_writes_the_last_status_leaves_nothing_for_good(scene: Scene) -> None:
    def die_writing() -> None:
        from kanmlip.experiment import supervisor

        settle = supervisor._settle

        def last_status(*arguments: Any) -> Any:
            os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
            return settle(*arguments)

        supervisor._settle = last_status

    assert scene.start(die_writing) == -signal.SIGKILL
    assert scene.status["status"] == "done"
    assert [path.name for path in scene.run.glob(".status.json.*")] != []
    assert scene.start() == 0
    assert "finished before, skipped" in scene.said
    scene.assert_as_undisturbed()


def test_a_clock_set_back_does_not_hide_a_failed_run(scene: Scene) -> None:
    def abort_in_the_future() -> None:
        from kanmlip.experiment import status, supervisor, worker

        for module in (status, supervisor, worker):
            module.now = lambda: "2999-01-01T00:00:00.000+00:00"  # type: ignore[attr-defined]
        in_epoch(4, lambda session: os.abort())()

    assert scene.start(abort_in_the_future) == 1
    assert scene.status["finished"].startswith("2999")
    assert scene.start() == 0, scene.said
    scene.assert_as_undisturbed()


def test_within_a_sweep_what_failed_is_left_and_what_was_stopped_goes_on(scene: Scene) -> None:
    """Two jobs may be the same run; and a cluster starts a preempted job again with the same environment."""
    from kanmlip.experiment.stop import SWEEP_VARIABLE

    def same_sweep() -> None:
        os.environ[SWEEP_VARIABLE] = "sweep-1"
        from kanmlip.experiment import stop

        stop.SWEEP_VARIABLE = "KANMLIP_UNUSED"  # the name that this start would give itself

    def stopped() -> None:
        same_sweep()
        in_epoch(4, lambda session: os.kill(os.getpid(), signal.SIGTERM))()

    def failed() -> None:
        same_sweep()
        in_epoch(5, lambda session: os.abort())()

    assert scene.start(stopped) == 1
    assert scene.status["sweep"] == "sweep-1"
    assert scene.start(failed) == 1
    assert "resuming after epoch 3" in scene.said
    assert scene.start(same_sweep) == 1
    assert "the same run as an earlier job of this sweep" in scene.said
    assert scene.start() == 0, scene.said
    assert scene.epoch() == EPOCHS
    scene.assert_as_undisturbed()
