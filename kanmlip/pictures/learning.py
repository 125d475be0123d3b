"""How a run learned: its losses and every validation metric against epochs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kanmlip.errors import ConfigError
from kanmlip.pictures.figure import COLOURS, new_figure, save, styled

PANELS_IN_A_ROW = 3
LOGARITHMIC = 5.0
FEW_EPOCHS = 30  # with fewer, each is a point


def read_history(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns of a history.csv, each [epochs]; empty cells are NaN.

    Raises:
        ConfigError: If there is no such file or it has no rows.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; the run has no learning curve")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise ConfigError(f"{path} has no rows; the run has no learning curve")
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


@styled
def draw_learning(history: dict[str, NDArray[np.float64]], best_epoch: int | None, folder: Path) -> list[Path]:
    """Write learning.png and learning.svg: losses, learning rate and validation metrics on logarithmic axes.

    Args:
        history: From :func:`read_history`.
        best_epoch: Marked in every panel; none to leave it out.
        folder: Where to.
    """
    losses = [name for name in history if name.startswith("train/loss")]
    metrics = [name for name in history if name.startswith("val/")]
    panels = [("loss of the training set", losses), ("learning rate", ["lr"]), *((name, [name]) for name in metrics)]
    rows = -(-len(panels) // PANELS_IN_A_ROW)
    marker = "." if len(history["epoch"]) < FEW_EPOCHS else ""
    figure = new_figure(2.6 * PANELS_IN_A_ROW, 2.0 * rows)
    grid = figure.subplots(rows, PANELS_IN_A_ROW, squeeze=False).ravel()
    for axes, (title, columns) in zip(grid, panels, strict=False):
        for column, colour in zip(columns, COLOURS, strict=False):
            label = column.removeprefix("train/") if len(columns) > 1 else None
            axes.plot(history["epoch"], history[column], color=colour, linewidth=1.0, label=label, marker=marker)
        if _spans(np.concatenate([history[column] for column in columns])):
            axes.set_yscale("log")
        if best_epoch is not None:
            axes.axvline(best_epoch, color="0.7", linewidth=0.8, linestyle="--")
        axes.set_title(title, fontsize=7)
        if len(columns) > 1:
            axes.legend(fontsize=6)
        axes.set_xlabel("epoch")
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return save(figure, folder, "learning")


def _spans(values: NDArray[np.float64]) -> bool:
    """Whether a logarithmic axis shows more: all positive, and several times apart."""
    finite = values[np.isfinite(values)]
    return bool(len(finite)) and bool(finite.min() > 0) and bool(finite.max() > LOGARITHMIC * finite.min())
