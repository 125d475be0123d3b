"""Files that cannot be read, because of their rights or of the disk: an error in the input, said with the setting that names the file."""

from __future__ import annotations

from pathlib import Path

from kanmlip.errors import DataError


def is_file(path: Path, setting: str) -> bool:
    """Whether there is such a file.

    Args:
        path: The file.
        setting: What names it, for the message.

    Raises:
        DataError: If its folder may not be looked into.
    """
    try:
        return path.is_file()
    except OSError as error:
        raise unreadable(path, setting, error) from error


def unreadable(path: Path, setting: str, error: OSError) -> DataError:
    """What to raise where a file of the data, or its folder, cannot be read."""
    return DataError(
        f"{setting}: {path} cannot be read ({error.strerror or error}); allow the user who runs this to read it, or name another file"
    )
