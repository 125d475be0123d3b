"""Checksums of data files, remembered by size and times of modification so that a sweep hashes each file once."""

from __future__ import annotations

import hashlib
import os
import time
from io import BufferedReader
from pathlib import Path

from kanmlip.data.readable import unreadable
from kanmlip.data.root import cache_root
from kanmlip.experiment.atomic import write_text

# A file changed twice within the resolution of its clock keeps its time stamp; a checksum of one so young is not remembered.
SETTLED_AFTER_S = 10.0


def file_sha256(path: Path, setting: str = "a file of the data") -> str:
    """Checksum of a file's bytes, from the cache where the file has kept its size and its times.

    Args:
        path: The file.
        setting: What names it, for the message.

    Raises:
        DataError: If it cannot be read, whether its checksum is known or not.
    """
    try:
        with path.open("rb") as file:
            return _sha256(path, file)
    except OSError as error:
        raise unreadable(path, setting, error) from error


def _sha256(path: Path, file: BufferedReader) -> str:
    status = os.fstat(file.fileno())
    # The time of the last change of the file's entry cannot be set, as that of its content is by copying programs and archives.
    identity = f"{path.resolve()}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    note = _note("checksums", identity)
    try:
        known = note.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if len(known) == 64:
        return known
    found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - status.st_mtime > SETTLED_AFTER_S:
        _remember(note, found)
    return found


def verified_before(kind: str, identity: str) -> bool:
    """Whether :func:`remember_verified` was told of this.

    Args:
        kind: What was verified; a folder of the cache.
        identity: Checksums and settings that the outcome depends on.
    """
    return _note(kind, identity).is_file()


def remember_verified(kind: str, identity: str) -> None:
    """Keep in mind that something costly was found to be in order, for the other jobs of a sweep."""
    _remember(_note(kind, identity), "ok")


def recall(kind: str, identity: str) -> str | None:
    """What :func:`remember` was told; none if nothing, or if it cannot be read."""
    try:
        return _note(kind, identity).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def remember(kind: str, identity: str, finding: str) -> None:
    """Keep a finding that it would be costly to make again.

    Args:
        kind: Of findings; a folder of the cache.
        identity: Checksums and settings that it depends on.
        finding: As text.
    """
    _remember(_note(kind, identity), finding)


def _note(kind: str, identity: str) -> Path:
    return cache_root() / kind / hashlib.sha256(identity.encode()).hexdigest()


def _remember(note: Path, text: str) -> None:
    try:
        write_text(note, text)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
