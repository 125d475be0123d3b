"""A table as text: the grids and lines that the Markdown and the LaTeX writer share."""

from __future__ import annotations

from dataclasses import dataclass

from kanmlip.report.duration import format_duration
from kanmlip.report.paired import Difference, Ratio
from kanmlip.report.study import Column
from kanmlip.report.table import Cell, Row, Table

NOTHING = "–"


@dataclass(frozen=True)
class Grid:
    """Headings and body of equal width; ``marks`` are the letters behind each body row's label."""

    caption: str
    headings: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    marks: tuple[tuple[str, ...], ...]


def value_grid(table: Table) -> Grid:
    """Ours beside the paper's, one line a row."""
    headings = ["#", "Model", "Seeds"]
    for column in table.columns:
        headings.append(_heading(column))
        if column.printed_unit is not None:
            headings.append(f"paper ({column.printed_unit})" if column.printed_unit not in {column.unit, ""} else "paper")
    body = []
    for row in table.rows:
        line = [str(row.number), label_text(row), _seeds(row)]
        for cell in row.cells:
            line.append(ours_text(cell, row))
            if cell.column.printed_unit is not None:
                line.append(paper_text(cell))
        body.append(tuple(line))
    return Grid(
        "Ours (mean ± sample standard deviation over seeds) beside the paper's values", tuple(headings), tuple(body), _marks(table.rows)
    )


def ratio_grid(table: Table) -> Grid | None:
    """Ratios to the MLP row, the paper's in brackets; None where no row has one."""
    columns = [column for column in table.columns if column.compare]
    rows = [row for row in table.rows if row.baseline is not None and not _is_empty(row)]
    if not any(row.ratio(column.key) for row in rows for column in columns):
        return None
    headings = ["#", "Model", "Seeds", *(column.heading for column in columns)]
    body = [(str(row.number), label_text(row), _seeds(row), *(_ratio_text(row, column) for column in columns)) for row in rows]
    how = "times within rounds" if any(row.interleaved for row in rows) else "geometric mean of the ratios paired by seed"
    caption = f"Ratio to the MLP row: {how}, in brackets the ratio of the paper's values"
    return Grid(caption, tuple(headings), tuple(body), _marks(tuple(rows)))


def difference_lines(table: Table) -> list[str]:
    """KAN − MLP paired by seed, one line a row that stands for all seeds."""
    columns = [column for column in table.columns if column.compare and column.kind == "number"]
    lines = []
    for row in table.rows:
        if not row.averages or row.baseline is None or _is_empty(row):
            continue
        found = [(column, difference) for column in columns if (difference := row.difference(column.key)) is not None]
        if found:
            parts = "; ".join(f"{column.heading} {_difference_text(column, difference)}" for column, difference in found)
            lines.append(
                f"Row {row.number} − row {row.baseline.number}: {parts}. {_interval_remark([difference for _, difference in found])}"
            )
        else:
            lines.append(f"Row {row.number} − row {row.baseline.number}: no seed in common (n=0).")
    return lines


def ours_text(cell: Cell, row: Row) -> str:
    """Mean ± standard deviation, the value alone for one seed, or why there is none."""
    ours = cell.ours
    if ours is None:
        return cell.missing or NOTHING
    text = _number(cell.column, ours.mean)
    if ours.std is not None:
        text += f" ± {_number(cell.column, ours.std)}"
    return text if ours.n == len(row.records) or row.kind == "benchmark" else f"{text} (n={ours.n})"


def label_text(row: Row) -> str:
    """The row's label; that of a control, or of another row that the paper lacks, says so."""
    if row.control:
        return f"{row.label} (control, ours)"
    return f"{row.label} (ours)" if row.extra else row.label


def paper_text(cell: Cell) -> str:
    """The paper's value as printed; over several printed seeds their mean ± standard deviation in the same decimals."""
    if len(cell.printed) < 2:
        return next(iter(cell.printed.values()), NOTHING)
    paper = cell.paper
    if paper is None or paper.std is None:
        return NOTHING
    if cell.column.kind == "duration":
        return f"{format_duration(paper.mean)} ± {format_duration(paper.std)}"
    decimals = max(len(text.partition(".")[2]) for text in cell.printed.values())
    return f"{paper.mean:.{decimals}f} ± {paper.std:.{decimals}f}"


def _is_empty(row: Row) -> bool:
    """Whether neither we nor the paper have anything there."""
    return (row.control or row.extra) and not row.records and not row.is_measured


def _heading(column: Column) -> str:
    return f"{column.heading} ({column.unit})" if column.unit else column.heading


def _marks(rows: tuple[Row, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row.marks) for row in rows)


def _seeds(row: Row) -> str:
    if row.kind == "seed":
        return str(row.seed)
    if row.kind in {"literature", "simple", "benchmark"}:
        return NOTHING
    return f"n={len(row.records)}" if row.kind == "average" else f"mean, n={len(row.records)}"


def _number(column: Column, value: float) -> str:
    return format_duration(value) if column.kind == "duration" else f"{value:.{column.decimals}f}"


def _ratio_text(row: Row, column: Column) -> str:
    ours, paper = _one_ratio(row.ratio(column.key)), _one_ratio(row.paper_ratio(column.key))
    return f"{ours} [{paper}]" if column.printed_unit is not None else ours


def _one_ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return NOTHING
    return f"{ratio.value:.3f}" + ("" if ratio.paired else " (unpaired)")


def _difference_text(column: Column, difference: Difference) -> str:
    text = f"{difference.mean:+.{column.decimals}f}".replace("-", "−")
    if difference.std is not None:
        text += f" ± {difference.std:.{column.decimals}f}"
    if difference.interval is not None:
        low, high = (f"{bound:+.{column.decimals}f}".replace("-", "−") for bound in difference.interval)
        text += f" [{low}, {high}]"
    return f"{text} {column.unit}".rstrip() + f" (n={difference.n})"


def _interval_remark(differences: list[Difference]) -> str:
    few = sorted({difference.n for difference in differences if difference.interval is None})
    if few:
        return f"Too few seeds for an interval: n={', '.join(map(str, few))}."
    return "In brackets: interval for the median difference by the sign test, coverage at least 95 %."
