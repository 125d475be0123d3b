"""Where and from which code a run is made: commit, versions, hardware."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "kanmlip", "torch", "numpy", "ase", "matscipy", "nequip", "nequip-allegro", "mace-torch", "e3nn", "lightning", "torchmetrics",
    "hydra-core", "omegaconf", "pydantic", "scikit-learn", "wandb",
)  # fmt: skip


def git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout this package is run from, and whether its code or configuration differs from it.

    Results do not count as a difference. None for an installed wheel, also inside somebody else's repository.
    """
    package = Path(__file__).resolve().parents[1]
    if _git(package, "ls-files", "--error-unmatch", "errors.py") is None:
        return None, None
    commit = _git(package, "rev-parse", "HEAD")
    changes = _git(package.parent, "status", "--porcelain", "--", "kanmlip", "conf", "pyproject.toml")
    return commit, None if changes is None else bool(changes)


def versions() -> dict[str, str | None]:
    """Python's and every package's version that a result may depend on; none where it is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def describe(device: str, threads: int | None, dataset_sha256: str) -> dict[str, Any]:
    """Everything but the times, ready for ``environment.json``; host and user names are left out.

    Args:
        device: ``cpu`` or ``cuda``.
        threads: Of torch; none for what torch takes by itself.
        dataset_sha256: Checksum of the data.
    """
    import torch

    commit, dirty = git_state()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{cores}-core {platform.machine().replace('_', '-')} CPU ({cpu_model()})"
    gpu = None
    if device != "cpu" and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        gpu = {
            "name": properties.name,
            "memory_MB": round(properties.total_memory / 2**20),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return {
        "commit": commit,
        "dirty": dirty,
        "hardware": f"{gpu['name']}, {cpu}" if gpu else cpu,
        "device": device,
        "threads": threads if threads is not None else torch.get_num_threads(),
        "versions": versions(),
        "dataset_sha256": dataset_sha256,
        "driver": nvidia_driver() if gpu else None,
        "gpu": gpu,
        "platform": f"{platform.system()} {platform.machine()}",
    }


def cpu_model() -> str:
    """Marketing name of the processor, as far as the system tells."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or "unknown"


def nvidia_driver() -> str | None:
    """Version of the kernel driver."""
    try:
        match = re.search(r"Kernel Module(?: for \S+)?\s+([\d.]+)", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        return None
    return match.group(1) if match else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
