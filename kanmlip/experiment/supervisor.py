"""Running one configuration in a worker process of its own: skip, resume or start it, and say what became of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from kanmlip.experiment.atomic import remove_leftovers, write_text
from kanmlip.experiment.config import RunConfig, RunOptions
from kanmlip.experiment.death import Death, count_oom_kills, fault_of_system, of_exit
from kanmlip.experiment.folders import record_path, run_folder
from kanmlip.experiment.lock import LOCK_FILE, AlreadyRunningError, locked
from kanmlip.experiment.record import has_record, is_complete, write_record
from kanmlip.experiment.status import Status, now, read_status, write_status
from kanmlip.experiment.stop import END_NOW, FINISH_STEP, GO_ON, SWEEP_VARIABLE, signals_held, stop_requested
from kanmlip.experiment.stream import Stream

POLL_S = 0.1
# A later job of the same sweep does not try again what ended so; what was stopped, it goes on with (a requeued job, for one).
SETTLED = frozenset({"done", "failed", "oom", "diverged", "timeout"})
GRACE_S = 60.0  # for a worker that was asked to stop, to finish its step and write its checkpoint


@dataclass(frozen=True)
class Planned:
    """A run that is about to be started.

    Attributes:
        run_id: Its name.
        config: Validated settings.
        options: How it is started.
    """

    run_id: str
    config: RunConfig
    options: RunOptions


def supervise(planned: Planned, interactive: bool = False, quiet: bool = False) -> Status:
    """Run in a worker process unless finished before, and wait for its end.

    A finished run is left alone, an interrupted or killed one goes on from its last checkpoint, one that failed with an
    exception starts from the beginning. With ``force`` all start from the beginning but those that ``force`` has begun already.

    Args:
        planned: What to run.
        interactive: Give the worker a terminal if this process has one, for its progress bar.
        quiet: Do not pass on what the worker prints.

    Returns:
        The final status; ``running`` if another process is at it, ``pending`` if everything was asked to stop before, ``failed`` if
        the run folder cannot be written.
    """
    run_dir = run_folder(planned.run_id)
    if stop_requested() != GO_ON:
        return read_status(run_dir) or Status("pending", planned.run_id, reason="not started: interrupted before")
    try:
        with locked(run_dir, give_up=lambda: stop_requested() != GO_ON) as lock:
            _clear_unfinished(run_dir)
            before = read_status(run_dir)
            if before is not None and before.status in SETTLED and before.sweep and before.sweep == os.environ.get(SWEEP_VARIABLE):
                _say(f"{planned.run_id}: the same run as an earlier job of this sweep")
                return before
            if before is not None and before.status == "done" and not planned.options.force and _has_everything(run_dir):
                _say(f"{planned.run_id}: finished before, skipped (force=true runs it again)")
                return before
            _prepare(run_dir, planned, before)
            return _attend(run_dir, planned, lock, Stream(interactive, quiet))
    except AlreadyRunningError:
        status = read_status(run_dir) or Status("running", planned.run_id)
        who = f"process {status.pid}" if status.pid else "another process"
        _say(f"{planned.run_id}: {who} is working on it, skipped")
        return replace(status, status="running", reason=f"{who} was working on it", exit_code=1)
    except OSError as error:
        # A disk that is full or gone for this run may serve the next one, so a sweep goes on.
        reason = f"{run_dir} cannot be written ({error.strerror or error}); the same command resumes it"
        sys.stderr.write(f"{planned.run_id}: {reason}\n")
        return Status("failed", planned.run_id, reason=reason, exit_code=1)


def _clear_unfinished(run_dir: Path) -> None:
    """Remove what was being written when a process was killed; a supervisor may die so after its run has finished, too."""
    for folder in (run_dir, run_dir / "checkpoints"):
        remove_leftovers(folder)
    remove_leftovers(record_path(run_dir.name).parent, f"{run_dir.name}.json")


def _has_everything(run_dir: Path) -> bool:
    """Whether a run that says it is done left what it should; a record that is lost or cut off is made again."""
    if not is_complete(run_dir):
        return False
    if not has_record(run_dir.name):
        try:
            write_record(run_dir)
        except Exception as error:  # a damaged file is read in many ways; a resumed run writes all of them again
            if fault_of_system(error) is not None:
                raise
            return False
    return True


def _prepare(run_dir: Path, planned: Planned, before: Status | None) -> None:
    """Clear what must not be gone on with, and write what the worker reads."""
    fresh = planned.options.force or (before is not None and not before.resumable)
    if before is not None and before.forced and before.resumable and before.status != "done":
        fresh = False
    if fresh:
        for path in run_dir.iterdir():
            if path.name == LOCK_FILE:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        record_path(planned.run_id).unlink(missing_ok=True)
    verb = "started" if before is None else "started again" if fresh else "resumed"
    _say(f"{planned.run_id}: {verb}")
    write_text(run_dir / "config.yaml", yaml.safe_dump(planned.config.to_plain(), sort_keys=False, allow_unicode=True))
    attempts = (before.attempts if before is not None else 0) + 1
    forced = planned.options.force if fresh else before is not None and before.forced
    sweep = os.environ.get(SWEEP_VARIABLE)
    write_status(run_dir, Status("pending", planned.run_id, attempts=attempts, started=now(), sweep=sweep, forced=forced))


def _attend(run_dir: Path, planned: Planned, lock: int, output: Stream) -> Status:
    oom_kills = count_oom_kills()
    process = None
    with output as stream:
        try:
            with signals_held():
                process = subprocess.Popen(
                    [sys.executable, "-m", "kanmlip.experiment.worker", str(run_dir), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=stream.write_end,
                    stderr=stream.write_end,
                    pass_fds=(lock,),
                    # Its own session: the terminal's Ctrl-C reaches this process alone, which passes it on once.
                    start_new_session=True,
                    env={**os.environ, "PYTHONUNBUFFERED": "1"},
                )
            stream.start()
            timed_out = _wait(process, planned.options.timeout_s)
        except BaseException:
            if process is not None:
                process.send_signal(signal.SIGINT)
                _end(process)
            raise
    death = of_exit(process.returncode, stream.tail(), count_oom_kills() - oom_kills)
    return _settle(run_dir, death, timed_out)


def _wait(process: subprocess.Popen[bytes], timeout_s: float | None) -> bool:
    """Wait for the worker, passing on requests to stop; says whether its time ran out."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    asked_at, timed_out = None, False
    while process.poll() is None:
        requested = stop_requested()
        if asked_at is None and deadline is not None and time.monotonic() > deadline:
            requested, timed_out = FINISH_STEP, True
        if requested >= FINISH_STEP and asked_at is None:
            process.send_signal(signal.SIGINT)
            asked_at = time.monotonic()
        if requested == END_NOW or (asked_at is not None and time.monotonic() - asked_at > GRACE_S):
            process.kill()
        time.sleep(POLL_S)
    return timed_out


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _settle(run_dir: Path, death: Death, timed_out: bool) -> Status:
    """The final status: the worker's own word if it left one, else what its exit says."""
    status = read_status(run_dir) or Status("running", run_dir.name)
    if status.status in ("pending", "running"):
        state = "interrupted" if stop_requested() != GO_ON or timed_out else death.status
        status = replace(status, status=state, reason=death.reason, error=death.error, resumable=death.resumable)
        status = replace(status, exit_code=death.exit_code, pid=None, finished=now())
    if status.status == "interrupted":
        status = replace(status, exit_code=130)
    if timed_out and status.status == "interrupted":
        status = replace(status, status="timeout", reason="its time ran out (timeout_s)", exit_code=1)
    write_status(run_dir, status)
    return status


def _say(text: str) -> None:
    with suppress(OSError):  # nobody reads us any more; the runs go on
        print(text, flush=True)
