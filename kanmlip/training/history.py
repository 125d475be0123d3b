"""history.csv: one row an epoch, rewritten from the checkpoint on resume so that it never disagrees with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from kanmlip.evaluation.structure_errors import pack
from kanmlip.experiment.atomic import write_text

Row = dict[str, float | int]

# What a record keeps of a longer history: every k-th epoch and the last.
MAX_EPOCHS = 250
# Of the validation metrics those that tables and claims speak of; the others follow the same course.
RECORDED = (
    "val/energy_mae_eV_per_cell",
    "val/energy_rmse_meV_per_atom",
    "val/force_mae_eV_per_A",
    "val/force_rmse_meV_per_A",
    "val/bec_mae_e",
    "val/dielectric_mae",
)


def read_history(path: Path) -> list[Row]:
    """The rows of a history.csv; none where there is no file."""
    try:
        with path.open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


def condense(rows: Sequence[Row], updates_per_epoch: int) -> dict[str, str]:
    """The course of validation, as a record keeps it.

    Args:
        rows: One an epoch.
        updates_per_epoch: Optimiser steps in an epoch; of batches filled by size, whose number may differ by a few, the mean.

    Returns:
        Column → numbers separated by blanks: ``epoch``, ``updates``, ``time/train_s`` (seconds in the training loop until then) and the
        metrics of :data:`RECORDED` that there are, of the averaged weights after that epoch. Of more than :data:`MAX_EPOCHS` epochs
        every k-th and the last are kept.
    """
    step = -(-len(rows) // MAX_EPOCHS)
    kept = [row for number, row in enumerate(rows, start=1) if number % step == 0 or number == len(rows)]
    columns = {
        "epoch": pack(int(row["epoch"]) for row in kept),
        "updates": pack(int(row["epoch"]) * updates_per_epoch for row in kept),
    }
    names = [name for name in ("time/train_s", *RECORDED) if name in rows[0]]
    return columns | {name: pack(row[name] for row in kept) for name in names}


class History:
    """The rows so far and the file that holds them.

    Args:
        path: The CSV file.
        rows: Rows of the epochs before.
    """

    def __init__(self, path: Path, rows: list[Row] | None = None) -> None:
        self.path = path
        self.rows = list(rows or [])
        if self.rows:
            self._write()
        else:
            path.unlink(missing_ok=True)

    def append(self, row: Mapping[str, float | int]) -> None:
        """Add an epoch."""
        self.rows.append(dict(row))
        self._write()

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(self.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())
