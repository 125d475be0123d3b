"""Checkpoints: plain tensors and numbers, written atomically, read without unpickling anything else."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, cast

import torch

SCHEMA = 1


class CheckpointStore:
    """``last.ckpt`` for an exact resume, the one before it, and ``best.ckpt`` with the weights to use.

    Args:
        folder: Usually ``<run>/checkpoints``; made on the first save.
    """

    def __init__(self, folder: Path) -> None:
        self.last = folder / "last.ckpt"
        self.previous = folder / "last.ckpt.prev"
        self.best = folder / "best.ckpt"

    def save_last(self, state: dict[str, Any]) -> None:
        """Replace ``last.ckpt``; at every moment a complete checkpoint is in place."""
        if self.last.exists():
            self.last.replace(self.previous)
        _write(self.last, state)

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace ``best.ckpt``."""
        _write(self.best, state)

    def load_last(self, device: torch.device) -> dict[str, Any] | None:
        """The newest readable state, or none; a corrupt ``last.ckpt`` falls back to the one before, with a warning."""
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                return _read(path, device)
            except Exception as error:  # torch.load fails in many ways on a torn file
                warnings.warn(f"{path.name} cannot be read ({type(error).__name__}); going back to an earlier state", stacklevel=2)
        return None

    def load_best(self, device: torch.device) -> dict[str, Any]:
        """Weights and metadata of the best epoch."""
        return _read(self.best, device)


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    return cast("dict[str, Any]", torch.load(path, map_location=device, weights_only=True))


def _write(path: Path, state: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        torch.save({"schema": SCHEMA, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
