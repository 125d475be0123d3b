"""Predictions against the truth, and errors by element, as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kanmlip.pictures.figure import COLOURS, new_figure, save, styled
from kanmlip.pictures.predictions import Pairs

# A picture of more points looks the same and an SVG of it cannot be opened.
MOST_POINTS = 20_000
FEW_POINTS = 300  # fewer are drawn larger


@styled
def draw_parity(pairs: Sequence[Pairs], folder: Path) -> list[Path]:
    """Write parity.png and parity.svg: a row a split, a column a label.

    Errors in the panels are of all values; of very many a random part is drawn.
    """
    splits = list(dict.fromkeys(pair.split for pair in pairs))
    labels = list(dict.fromkeys(pair.label for pair in pairs))
    figure = new_figure(2.5 * len(labels), 2.4 * len(splits))
    grid = figure.subplots(len(splits), len(labels), squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    random = np.random.default_rng(0)
    for pair in pairs:
        axes = grid[splits.index(pair.split), labels.index(pair.label)]
        axes.set_axis_on()
        finite = np.flatnonzero(np.isfinite(pair.true) & np.isfinite(pair.predicted))
        shown = finite if len(finite) <= MOST_POINTS else random.choice(finite, MOST_POINTS, replace=False)
        if len(shown):
            both = np.concatenate([pair.true[shown], pair.predicted[shown]])
            axes.plot([both.min(), both.max()], [both.min(), both.max()], color="0.6", linewidth=0.8)
        size, alpha = (5, 0.8) if len(shown) < FEW_POINTS else (2, 0.4)
        looks = {"color": COLOURS[0], "markersize": size, "alpha": alpha, "markeredgewidth": 0, "rasterized": True}
        axes.plot(pair.true[shown], pair.predicted[shown], ".", **looks)
        axes.locator_params(nbins=4)
        axes.set(xlabel=f"true ({pair.unit})" if pair.unit else "true", ylabel="predicted")
        axes.set_title(f"{pair.split}: {pair.label}\nMAE {pair.mae:.3g}, RMSE {pair.rmse:.3g}", fontsize=7)
    return save(figure, folder, "parity")


@styled
def draw_elements(errors: Mapping[str, Mapping[str, Mapping[str, float]]], label: str, unit: str, folder: Path) -> list[Path]:
    """Write elements_<label>.png and .svg: the mean absolute error of a component for each species, splits side by side.

    Args:
        errors: Split → symbol → ``mae``, ``rmse``, ``atoms``.
        label: Whose errors.
        unit: Of the errors.
        folder: Where to.
    """
    symbols = list(dict.fromkeys(symbol for table in errors.values() for symbol in table))
    figure = new_figure(max(3.0, 0.5 * len(symbols) * len(errors) + 1.5), 2.6)
    axes = figure.add_subplot()
    width = 0.8 / len(errors)
    for index, (split, table) in enumerate(errors.items()):
        places = [symbols.index(symbol) + (index - (len(errors) - 1) / 2) * width for symbol in table]
        axes.bar(places, [entry["mae"] for entry in table.values()], width, color=COLOURS[index], label=split)
        axes.plot(places, [entry["rmse"] for entry in table.values()], "_", color="0.2", label="RMSE" if index == 0 else None)
    axes.set_xticks(range(len(symbols)), symbols)
    axes.set_ylabel(f"MAE of {label} ({unit})")
    axes.legend(ncols=2, fontsize=6)
    return save(figure, folder, f"elements_{label}")
