"""Files that exist whole or not at all, and the one before that is kept: what is there after a kill at each step of a write."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from kanmlip.experiment.atomic import ABANDONED_AFTER_S, remove_leftovers, write_bytes

OLD, NEW = b"1", b"2"


def put(content: bytes) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(content)

    return write


def die(*arguments: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(step: str, path: Path, previous: Path) -> None:
    """Write in a child that is killed before ``step``: when the content is written, has its mode, or the old one has its second name."""
    child = os.fork()
    if child == 0:
        if step == "fsync":
            os.fsync = die
        elif step == "hardlink_to":
            Path.hardlink_to = die  # type: ignore[method-assign]
        else:
            original = Path.replace
            Path.replace = lambda self, target: die() if Path(target).name == step else original(self, target)  # type: ignore[method-assign,assignment]
        write_bytes(path, put(NEW), keep_as=previous)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("step", ["fsync", "hardlink_to", "last.prev", "last"])
def test_a_write_that_was_killed_leaves_the_old_content_and_nothing_after_the_next(step: str, tmp_path: Path) -> None:
    path, previous = tmp_path / "last", tmp_path / "last.prev"
    write_bytes(path, put(OLD))
    killed_at(step, path, previous)
    assert path.read_bytes() == OLD
    remove_leftovers(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} <= {"last", "last.prev"}
    write_bytes(path, put(NEW), keep_as=previous)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"last": NEW, "last.prev": OLD}
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def test_what_killed_writers_left_is_removed_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "key.npz"
    child = os.fork()
    if child == 0:
        os.fsync = die
        write_bytes(path, put(OLD))
        os._exit(0)
    os.waitpid(child, 0)
    (left,) = tmp_path.iterdir()
    names = (".key.npz.4711", ".key.npz.lock.abcdefgh", ".key.npz.note", ".other.npz.abcdefgh", "key.npz.abcdefgh")
    for name in names:
        (tmp_path / name).write_bytes(OLD)
    (tmp_path / ".key.npz.abcdefgh").mkdir()
    write_bytes(path, put(NEW))
    assert left.exists()  # somebody may be writing it
    long_ago = time.time() - 2 * ABANDONED_AFTER_S
    for entry in tmp_path.iterdir():
        os.utime(entry, (long_ago, long_ago))
    write_bytes(path, put(NEW))
    assert {entry.name for entry in tmp_path.iterdir()} == {"key.npz", ".key.npz.abcdefgh", *names[1:]}


def test_a_folder_that_cannot_be_listed_can_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    write_bytes(tmp_path / "file", put(NEW))
    assert (tmp_path / "file").read_bytes() == NEW


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
