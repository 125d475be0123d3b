"""Checksums of data files, remembered by size and time of modification so that a sweep hashes each file once."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from kanmlip.data.root import cache_root

# A file changed twice within the resolution of its clock keeps its time stamp; a checksum of one so young is not remembered.
SETTLED_AFTER_S = 10.0


def file_sha256(path: Path) -> str:
    """Checksum of a file's bytes, from the cache where the file has kept its size and time of modification."""
    status = path.stat()
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    note = cache_root() / "checksums" / hashlib.sha256(identity.encode()).hexdigest()
    try:
        known = note.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        known = ""
    if len(known) == 64:
        return known
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - status.st_mtime > SETTLED_AFTER_S:
        _remember(note, found)
    return found


def _remember(note: Path, checksum: str) -> None:
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f".{note.name}.{os.getpid()}")
        temporary.write_text(checksum, encoding="ascii")
        temporary.replace(note)
    except OSError:
        return  # a cache that cannot be written costs time, nothing else
