"""A table as GitHub Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kanmlip.report.layout import Grid, difference_lines, ratio_grid, value_grid
from kanmlip.report.table import Note, Table


def render_markdown(table: Table) -> str:
    """The whole table: values, ratios, differences, warnings and notes, provenance.

    Args:
        table: A finished table.

    Returns:
        Markdown that depends on the records alone, ending in a newline.
    """
    blocks = [f"# {escape(table.title)} (budget {escape(table.budget)})", _grid(value_grid(table))]
    warnings = [note for note in table.notes if note.warning]
    if warnings:
        blocks.append("\n".join(f"> ⚠ {_note(note)}{'  ' if note is not warnings[-1] else ''}" for note in warnings))
    ratios = ratio_grid(table)
    if ratios is not None:
        blocks += [f"**{ratios.caption}**", _grid(ratios)]
    differences = difference_lines(table)
    if differences:
        blocks += ["**Paired difference KAN − MLP, by seed (negative: KAN lower)**", _bullets(differences)]
    notes = [_note(note) for note in table.notes if not note.warning]
    if notes:
        blocks += ["**Notes**", _bullets(notes)]
    blocks += ["**What these rows rest on**", _bullets([f"{name}: {text}" for name, text in table.facts])]
    blocks.append(f"Paper's values: {escape(table.citation)}")
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Keep a cell on one line and inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")


def pipe_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(_line(cells) for cells in (headings, ["---"] * len(headings), *rows))


def _grid(grid: Grid) -> str:
    lines = [_line(grid.headings), _line(["---"] * len(grid.headings))]
    for cells, marks in zip(grid.body, grid.marks, strict=True):
        label = cells[1] + (f" <sup>{','.join(marks)}</sup>" if marks else "")
        lines.append(_line([cells[0], label, *cells[2:]]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape(cell) for cell in cells)} |"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def _note(note: Note) -> str:
    text = " ".join(note.text.split())
    return f"({note.letter}) {text}" if note.letter else text
