"""YAML files that people write, read with one error of ours that names the file, the line and the way out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kanmlip.errors import ConfigError

CORRECT_IT = "correct the file"
# What reading a file and parsing YAML raise.
FAULTS = (OSError, UnicodeDecodeError, yaml.YAMLError)


def read_yaml(path: Path, way_out: str = CORRECT_IT) -> Any:
    """What a YAML file holds, of any type; none for an empty file.

    Args:
        path: The file.
        way_out: What to do where that fails.

    Raises:
        ConfigError: If the file is missing, cannot be read, is not UTF-8 or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FAULTS as error:
        raise ConfigError(describe_fault(error, path, way_out)) from error


def read_mapping(path: Path, required: Iterable[str] = (), way_out: str = CORRECT_IT) -> dict[str, Any]:
    """What a YAML file of ``key: value`` pairs holds; an empty file has none.

    Args:
        path: The file.
        required: Keys that must be there.
        way_out: What to do where that fails.

    Raises:
        ConfigError: As :func:`read_yaml`, or if it holds something else, or a key is missing.
    """
    content = read_yaml(path, way_out)
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {described(content)}, not lines of key: value; {way_out}")
    missing = [key for key in required if key not in content]
    if missing:
        raise ConfigError(f"{path} lacks the key {', '.join(missing)}; {way_out}")
    return content


def describe_fault(error: Exception, path: Path, way_out: str = CORRECT_IT) -> str:
    """What reading a YAML file ran into, as one line.

    Args:
        error: One of ``FAULTS``.
        path: The file.
        way_out: What to do about it.
    """
    if isinstance(error, OSError):
        return f"{path} cannot be read ({error.strerror or error}); {way_out}"
    if isinstance(error, UnicodeDecodeError):
        return _describe_encoding(path)
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.reader.ReaderError):
        line = path.read_text(encoding="utf-8").count("\n", 0, error.position) + 1
        return f"{path}, line {line}: not valid YAML (a character that no text holds, #x{int(error.character):04x}); {way_out}"
    if mark is None:
        return f"{path} is not valid YAML ({' '.join(str(error).split())}); {way_out}"
    parts = [getattr(error, name, None) for name in ("problem", "context")]
    said = " ".join(str(part) for part in parts if part)
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}: not valid YAML ({said}); {way_out}"


def _describe_encoding(path: Path) -> str:
    # Read anew: where a file is read in parts, the error counts from the beginning of one.
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"{path}, line {line}: not UTF-8 text (byte 0x{content[error.start]:02x}); save the file as UTF-8"
    return f"{path} changed while it was read; try again"


def described(content: Any) -> str:
    """A short word for what a file holds instead of a mapping."""
    return "a list" if isinstance(content, list) else f"only '{str(content)[:40]}'"
