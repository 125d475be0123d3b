"""Checkpoints: plain tensors and numbers, written atomically, checked on reading, and read without unpickling anything else."""

from __future__ import annotations

import copy
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch

from kanmlip.errors import ConfigError, DivergenceError
from kanmlip.experiment.atomic import write_bytes

SCHEMA = 1


class UnreadableCheckpointError(Exception):
    """A file that is no whole checkpoint; the message is its name and what is wrong with it."""


class CheckpointStore:
    """``last.ckpt`` for an exact resume, the one before it, and ``best.ckpt`` with the weights to use.

    A checkpoint is ``last.ckpt`` and ``best.ckpt`` together: the second is written just before the first, and the ones before of
    both are kept, so that there are best weights for either state that a run may go on from.

    Args:
        folder: Usually ``<run>/checkpoints``; made on the first save.
        owner: Name of the run that the checkpoints must be of; none to take any.
    """

    def __init__(self, folder: Path, owner: str | None = None) -> None:
        self.owner = owner
        self.last = folder / "last.ckpt"
        self.previous = folder / "last.ckpt.prev"
        self.best = folder / "best.ckpt"
        self.previous_best = folder / "best.ckpt.prev"
        self._new_best: dict[str, Any] | None = None
        self._broken: set[Path] = set()

    def save_last(self, state: dict[str, Any]) -> None:
        """Replace ``last.ckpt``, and ``best.ckpt`` if it was :meth:`keep_best`'s turn; at every moment a complete checkpoint is in place.

        Raises:
            DivergenceError: If a weight is not finite; nothing is written then, and the last good checkpoint stays.
        """
        _refuse_non_finite(state)
        if self._new_best is not None:
            self._replace(self.best, self.previous_best, self._new_best)
            self._new_best = None
        self._replace(self.last, self.previous, state)

    def keep_best(self, state: dict[str, Any]) -> None:
        """Remember the best state so far, which the next :meth:`save_last` writes."""
        self._new_best = copy.deepcopy(state)

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace ``best.ckpt`` now."""
        _write(self.best, state)

    def resume(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state that can be gone on with, or none; corrupt files fall back to the ones before, with a warning.

        Raises:
            ConfigError: If the checkpoint is another run's, or of another version of kanmlip.
        """
        for path in (self.last, self.previous):
            state = self._read_or_warn(path, device)
            if state is None:
                continue
            if self._restore_best(int(state["tally"]["best_epoch"])):
                return state
            self._broken.add(path)
            warnings.warn(f"the best weights that belong to {path.name} are lost; going back to an earlier state", stacklevel=2)
        return None

    def load_last(self, device: torch.device) -> dict[str, Any] | None:
        """The newest readable state, or none; a corrupt ``last.ckpt`` falls back to the one before, with a warning."""
        for path in (self.last, self.previous):
            state = self._read_or_warn(path, device)
            if state is not None:
                return state
        return None

    def load_best(self, device: torch.device) -> dict[str, Any]:
        """Weights and metadata of the best epoch.

        Raises:
            UnreadableCheckpointError: If the file is not whole.
            ConfigError: If it is another run's, or of another version of kanmlip.
        """
        return self._owned(self.best, _read(self.best, device))

    def _read_or_warn(self, path: Path, device: torch.device) -> dict[str, Any] | None:
        if not path.exists():
            return None
        try:
            return self._owned(path, _read(path, device))
        except UnreadableCheckpointError as error:
            self._broken.add(path)
            warnings.warn(f"{error}; going back to an earlier state", stacklevel=3)
            return None

    def _restore_best(self, epoch: int) -> bool:
        """Whether ``best.ckpt`` is that epoch's, put back from the one before if a new one was written without its ``last.ckpt``."""
        if epoch == 0:
            return True
        for path in (self.best, self.previous_best):
            state = self._read_or_warn(path, torch.device("cpu"))
            if state is not None and state.get("epoch") == epoch:
                if path == self.previous_best:
                    path.replace(self.best)
                    self._broken.discard(self.best)
                return True
        return False

    def _replace(self, path: Path, previous: Path, state: dict[str, Any]) -> None:
        """Write a file and keep the present one as the one before, unless it is broken and the one before is not."""
        _write(path, state, keep_as=None if path in self._broken else previous)
        self._broken.discard(path)

    def _owned(self, path: Path, state: dict[str, Any]) -> dict[str, Any]:
        way_out = "remove the file, or start the run anew with force=true"
        if state.get("schema") != SCHEMA:
            raise ConfigError(
                f"{path} has schema {state.get('schema')}, and this version of kanmlip reads {SCHEMA}: use the other one, {way_out}"
            )
        of_run = state["metadata"].get("run_id")
        if None not in (self.owner, of_run) and of_run != self.owner:
            raise ConfigError(f"{path} is a checkpoint of another run ({of_run}), not of {self.owner}; {way_out}")
        return state


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint, every byte of it checked: torch.load itself does not look at the checksums that torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # zipfile and torch fail in many ways on a torn file
        raise UnreadableCheckpointError(f"{path.name} cannot be read ({type(error).__name__})") from error
    if not isinstance(state, dict) or not isinstance(state.get("metadata"), Mapping) or "model" not in state:
        raise UnreadableCheckpointError(f"{path.name} is no checkpoint of kanmlip")
    return cast("dict[str, Any]", state)


def _write(path: Path, state: dict[str, Any], keep_as: Path | None = None) -> None:
    write_bytes(path, lambda file: torch.save({"schema": SCHEMA, **state}, file), keep_as)


def _refuse_non_finite(state: Mapping[str, Any]) -> None:
    for name, value in state["model"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise DivergenceError(
                f"{name} is not finite after epoch {state['tally']['epoch']}, though the loss still was; the checkpoints of earlier "
                f"epochs are kept; try a smaller trainer.optimizer.lr or trainer.gradient_clip"
            )
