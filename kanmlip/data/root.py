"""Where datasets are looked for and where derived files are kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def data_root() -> Path:
    """``$KANMLIP_DATA``, else ``data`` in the working directory."""
    return Path(os.environ.get("KANMLIP_DATA") or "data")


def cache_root() -> Path:
    """``$KANMLIP_CACHE``, else ``.cache`` in a writable data root, else the user's cache folder, else one among temporary files."""
    if chosen := os.environ.get("KANMLIP_CACHE"):
        return Path(chosen)
    root = data_root()
    if root.is_dir() and os.access(root, os.W_OK):
        return root / ".cache"
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen) / "kanmlip"
    try:
        return Path.home() / ".cache" / "kanmlip"
    except RuntimeError:  # a user without a home directory, as in some containers
        return Path(tempfile.gettempdir()) / f"kanmlip-{os.getuid()}"
