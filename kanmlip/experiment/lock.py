"""One process a run folder: an advisory lock that ends with its holders, however they die."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_FILE = "run.lock"


class AlreadyRunningError(Exception):
    """Another process is working on the run folder."""


@contextmanager
def locked(run_dir: Path) -> Iterator[int]:
    """Hold the lock of a run folder, which is made if need be.

    The lock belongs to the open file, so a worker that inherits the descriptor holds it too, even when its parent dies.

    Yields:
        The file descriptor, to be passed on to the worker.

    Raises:
        AlreadyRunningError: If somebody else holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise AlreadyRunningError(str(run_dir)) from error
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
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
