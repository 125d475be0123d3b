"""Where configuration is read from and where results land."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kanmlip.errors import ConfigError


def conf_dir() -> Path:
    """The folder of configuration groups: ``conf`` of a checkout, else ``kanmlip/conf`` of an installed wheel.

    Raises:
        ConfigError: If neither exists.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "conf", package / "conf"):
        if (folder / "config.yaml").is_file():
            return folder
    raise ConfigError(f"no conf/config.yaml beside or inside {package}; install kanmlip again")


def results_root() -> Path:
    """``$KANMLIP_RESULTS``, else ``results`` in the working directory, as an absolute path."""
    return Path(os.environ.get("KANMLIP_RESULTS") or "results").absolute()


def require_writable(root: Path) -> None:
    """Check that results can be written, before anything is computed; the folder is made if need be.

    Raises:
        ConfigError: With what the system says, and the ways out.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b" " * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"results cannot be written to {root} ({error.strerror or error}); give it rights or room, or set KANMLIP_RESULTS to another "
            f"folder"
        ) from error


def run_folder(run_id: str) -> Path:
    """Everything about one run; git-ignored."""
    return results_root() / "runs" / run_id


def record_path(run_id: str) -> Path:
    """The small file that tables are made of; committed."""
    return results_root() / "records" / f"{run_id}.json"


def sweep_path(timestamp: str) -> Path:
    """The summary of one sweep."""
    return results_root() / "sweeps" / f"{timestamp}.json"
