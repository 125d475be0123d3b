"""history.csv: one row an epoch, rewritten from the checkpoint on resume so that it never disagrees with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from kanmlip.experiment.atomic import write_text

Row = dict[str, float | int]


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
