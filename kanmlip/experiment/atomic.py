"""Files that exist whole or not at all: written beside their place, flushed to disk, then renamed."""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    import numpy as np

ABANDONED_AFTER_S = 3600.0
# What ends the name of an unfinished file: mkstemp's eight letters, or the number of the process.
_RANDOM_OR_PROCESS = re.compile(r"[a-z0-9_]{8}|[0-9]+")


def write_bytes(path: Path, write: Callable[[BinaryIO], None], keep_as: Path | None = None) -> None:
    """Create or replace ``path`` with what ``write`` puts into the open file; a crash leaves the old content.

    What a write of this file left behind that was killed long ago is removed.

    Args:
        path: The file.
        write: Called with a file beside it.
        keep_as: Name in the same folder that the old content is kept under, once the new content is safe.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(cast("BinaryIO", file))
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; results are for everyone whom the folder lets in.
        temporary.chmod(0o666 & ~_umask())
        if keep_as is not None:
            _keep(path, keep_as)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove the unfinished files that processes left behind which were killed while they wrote; nobody may be writing there now.

    Args:
        folder: Where.
        name: Of the file that was written; a glob.
    """
    for path in folder.glob(f".{name}.*") if folder.is_dir() else ():
        if path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Remove unfinished files of one target that nobody has written to for an hour; other processes may be writing it now.

    Args:
        path: The target; what cannot be listed or removed stays.
    """
    start, now = f".{path.name}.", time.time()
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if not entry.name.startswith(start) or not _RANDOM_OR_PROCESS.fullmatch(entry.name, len(start)):
                continue
            with suppress(OSError):
                if entry.is_file(follow_symlinks=False) and now - entry.stat(follow_symlinks=False).st_mtime > ABANDONED_AFTER_S:
                    Path(entry.path).unlink()


def write_text(path: Path, text: str) -> None:
    """Create or replace a UTF-8 text file."""
    write_bytes(path, lambda file: _discard(file.write(text.encode())))


def write_json(path: Path, content: Any) -> None:
    """Create or replace a JSON file: sorted by nothing, indented, numbers that are not finite as null."""
    write_text(path, json.dumps(_finite(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Create or replace a compressed npz file without pickles."""
    import numpy as np

    write_bytes(path, lambda file: np.savez_compressed(file, allow_pickle=False, **dict(arrays)))


def read_json(path: Path) -> Any:
    """The content of a JSON file, none where it does not exist or is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name; there is no moment without the first one, where the filesystem has hard links."""
    link = path.with_name(f".{name.name}.{os.getpid()}")
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(name)
        # Where a process was killed between this and the new content, both names are of one file, and renaming then does nothing.
        link.unlink(missing_ok=True)
    except FileNotFoundError:
        return  # nothing to keep
    except OSError:
        path.replace(name)


def _discard(_: int) -> None:
    return None


def _umask() -> int:
    # The mask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _finite(content: Any) -> Any:
    if isinstance(content, float) and not math.isfinite(content):
        return None
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return content
