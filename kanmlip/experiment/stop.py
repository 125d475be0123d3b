"""Asking every worker of a command to stop, in whichever process its supervisor lives: a number that only grows."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

# A sweep's launcher may supervise jobs in processes of its own (loky, Slurm); they all see this file.
STOP_FILE_VARIABLE = "KANMLIP_STOP_FILE"
GO_ON, FINISH_STEP, END_NOW = 0, 1, 2

# Name of the sweep, for jobs to tell what it has tried already. Not a time: clocks are set back. One that is set already is kept: who
# starts a command again and again (scripts/slurm.sh) says so that it is one sweep.
SWEEP_VARIABLE = "KANMLIP_SWEEP"
# What asks a worker to stop; the last is how Slurm warns every process of a job.
WORKER_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_requested = GO_ON


def stop_requested() -> int:
    """``GO_ON``, ``FINISH_STEP`` (leave a resumable run) or ``END_NOW`` (kill), as this or the commanding process asked."""
    path = os.environ.get(STOP_FILE_VARIABLE)
    if path:
        try:
            return max(_requested, int(Path(path).read_text() or FINISH_STEP))
        except (OSError, ValueError):
            pass
    return _requested


@contextmanager
def stoppable(stop_file: Path | None) -> Iterator[None]:
    """In the commanding process: Ctrl-C and SIGTERM ask all workers to stop, a second one to end at once.

    Args:
        stop_file: Seen by supervisors in other processes; none where there are none.
    """
    global _requested  # noqa: PLW0603 - a signal handler has nowhere else to write
    _requested = GO_ON

    def request(number: int, frame: FrameType | None) -> None:
        global _requested  # noqa: PLW0603
        _requested = min(_requested + 1, END_NOW)
        if stop_file is not None:
            with suppress(OSError):  # a full disk must not undo the request in this process
                stop_file.parent.mkdir(parents=True, exist_ok=True)
                stop_file.write_text(str(_requested))
        note = "stopping; Ctrl-C again to end at once" if _requested == FINISH_STEP else "ending at once"
        sys.stderr.write(f"\nkanmlip-train: {note}\n")

    named = bool(os.environ.get(SWEEP_VARIABLE))
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    if stop_file is not None:
        os.environ[STOP_FILE_VARIABLE] = str(stop_file)
        if not named:
            os.environ[SWEEP_VARIABLE] = f"{stop_file.stem}-{uuid.uuid4().hex}"
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if stop_file is not None:
            os.environ.pop(STOP_FILE_VARIABLE, None)
            if not named:
                os.environ.pop(SWEEP_VARIABLE, None)
            with suppress(OSError):
                stop_file.unlink(missing_ok=True)


@contextmanager
def signals_held() -> Iterator[None]:
    """Have a process that is started here keep the requests to stop that reach it until it listens: it inherits that they are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WORKER_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def listen() -> None:
    """In a process that was started so: take the requests that came meanwhile, and all others."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WORKER_SIGNALS)


def ignore_interrupts_of_launcher() -> None:
    """In a launcher's own process: leave Ctrl-C, which the terminal sends to all, to the commanding process."""
    if os.environ.get(STOP_FILE_VARIABLE) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
