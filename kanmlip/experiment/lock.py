"""One process a run folder: an advisory lock that ends with its holders, however they die."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = "run.lock"
POLL_S = 0.1
# A worker whose supervisor was killed still holds the lock until it has noticed and written its checkpoint, which it has
# kanmlip.experiment.worker.ORPHAN_S for before it ends itself.
PATIENCE_S = 75.0


class AlreadyRunningError(Exception):
    """Another process is working on the run folder."""


@contextmanager
def locked(run_dir: Path, give_up: Callable[[], bool] = lambda: False) -> Iterator[int]:
    """Hold the lock of a run folder, which is made if need be.

    The lock belongs to the open file, so a worker that inherits the descriptor holds it too, even when its parent dies. Such an
    orphan is about to stop, and is waited for.

    Args:
        run_dir: The run folder.
        give_up: Asked while waiting.

    Yields:
        The file descriptor, to be passed on to the worker.

    Raises:
        AlreadyRunningError: If somebody else holds it.
        OSError: If the folder cannot be written, or its filesystem has no locks.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _acquired(descriptor):
            if give_up() or time.monotonic() > deadline or not _holder_is_gone(descriptor):
                raise AlreadyRunningError(str(run_dir))
            time.sleep(POLL_S)
        _sign(descriptor)
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(run_dir: Path) -> bool:
    """Whether a living process holds the lock."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _acquired(descriptor)
    finally:
        os.close(descriptor)


def _acquired(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sign(descriptor: int) -> None:
    """Leave word in the file of who took the lock; on a full disk without, which only means that nobody waits for our orphans."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {_started(os.getpid())} {socket.gethostname()}\n".encode(), 0)


def _holder_is_gone(descriptor: int) -> bool:
    """Whether who took the lock is known to be dead, so that only a child of his can hold it still."""
    pid, _, rest = os.pread(descriptor, 4096, 0).decode(errors="replace").partition(" ")
    started, _, host = rest.strip().partition(" ")
    return pid.isdigit() and host == socket.gethostname() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process began, in the kernel's own count, to tell it from another one of the same number; ``-`` if there is none."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "-"
    return "-" if state in "ZX" else fields[18]
