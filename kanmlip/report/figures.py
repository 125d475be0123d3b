"""The paper's figures 6 to 8: errors of a table as bars from zero, with our spread over seeds and the paper's values as marks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.pictures.figure import COLOURS, GREY, new_figure, save, styled
from kanmlip.report.study import Figure, Study
from kanmlip.report.table import Cell, Row, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PLACEMENTS = {"besides_output": "two-body,\nlatent", "output": "output", "output_literal": "output\n(literal)", "all": "all"}
_BASES = {"gaussian": "Gaussian", "bspline": "B-spline", "fourier": "Fourier"}


def draw_figures(study: Study, tables: list[Table], results: Path) -> list[Path]:
    """Write ``figures/<budget>/figure<N>.{png,svg}`` for every figure whose table has runs; budgets never share one.

    Raises:
        MissingDependencyError: If matplotlib is not installed.
    """
    paths = []
    for number, spec in study.figures.items():
        for table in tables:
            if table.key == spec.table and table.records:
                paths += _draw(number, spec, table, results / "figures" / table.budget)
    return paths


@styled
def _draw(number: str, spec: Figure, table: Table, folder: Path) -> list[Path]:
    rows = [row for row in table.rows if row.match is not None and row.averages and not row.control]
    figure = new_figure(1.9 * len(spec.columns), 2.6)
    for axes, key in zip(figure.subplots(1, len(spec.columns), squeeze=False)[0], spec.columns, strict=True):
        column = next(column for column in table.columns if column.key == key)
        _draw_bars(axes, rows, [row.cell(key) for row in rows])
        axes.set_title(f"{column.heading} ({column.unit})", fontsize=7)
    stand_in = any(record.data.stand_in for record in table.records.values())
    seeds = len({record.labels.seed for record in table.records.values()})
    title = f"Table {table.key} as bars, budget {table.budget}, up to {seeds} seeds{', stand-in data' if stand_in else ''}"
    figure.suptitle(f"{title}. Black: the paper's values, of its own size and data", fontsize=7)
    return save(figure, folder, f"figure{number}")


def _draw_bars(axes: Axes, rows: list[Row], cells: list[Cell]) -> None:
    for place, cell in enumerate(cells):
        ours, paper = cell.ours, cell.paper
        if ours is not None:
            axes.bar(place, ours.mean, width=0.7, color=GREY if place == 0 else COLOURS[5])
            if ours.std is not None:
                axes.errorbar(place, ours.mean, yerr=ours.std, color=COLOURS[0], capsize=3, linewidth=1.0)
            axes.scatter([place] * ours.n, list(cell.values.values()), s=6, color=COLOURS[1], zorder=3)
        else:
            axes.annotate(cell.missing or "", (place, 0), rotation=90, fontsize=6, ha="center", va="bottom")
        if paper is not None:
            axes.hlines(paper.mean, place - 0.4, place + 0.4, color=COLOURS[6], linewidth=1.5, zorder=4)
    axes.set_xticks(range(len(rows)), [_name(row) for row in rows], fontsize=5.5)
    axes.set_ylim(bottom=0)


def _name(row: Row) -> str:
    match = row.match
    if match is None or match.placement == "none":
        return "MLP"
    return f"{_BASES.get(match.basis or '', match.basis)}\n{_PLACEMENTS.get(match.placement, match.placement)}"
