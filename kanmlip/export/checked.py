"""Files that appear under their name once they are whole and checked, and not before."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kanmlip.errors import ConfigError


@contextmanager
def checked_file(path: Path) -> Iterator[Path]:
    """A place of the same name in a hidden folder beside ``path``: what is there when the block ends well goes to ``path``.

    An error or a kill inside the block leaves at ``path`` what was there before, if anything. The name stays the same because
    upstream's formats keep it inside of their archives.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        part = Path(folder) / path.name
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)


def check_writable(folder: Path) -> None:
    """Check that a folder is there to be written into, or can be made.

    Raises:
        ConfigError: If a file is in the way, or permissions are.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise ConfigError(f"--output={folder}: {existing} is a file; choose a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"--output={folder}: {existing} cannot be written to; choose another folder")
