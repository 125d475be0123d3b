"""A table as LaTeX, for a document that loads booktabs and graphicx."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kanmlip.report.layout import Grid, difference_lines, ratio_grid, value_grid
from kanmlip.report.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # \\textquotedbl needs T1 fonts, which a document may not load
    "`": r"\textasciigrave{}",
    "Å": r"\AA{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "³": "$^3$",
    "²": "$^2$",
    "₂": "$_2$",
}
_CODE = re.compile(r"`([^`]*)`")


def render_latex(table: Table) -> str:
    """The table, its ratios and everything said under it, as one ``table*`` environment.

    Args:
        table: A finished table.

    Returns:
        LaTeX that depends on the records alone, ending in a newline.
    """
    lines = [
        "% needs \\usepackage{booktabs,graphicx}; written by kanmlip-tables, do not edit",
        "\\begin{table*}",
        "\\centering",
        f"\\caption{{{escape(f'{table.spec.title}. Budget {table.budget}.')}}}",
        f"\\label{{tab:{table.budget}-{table.name}}}",
        *_grid(value_grid(table)),
    ]
    ratios = ratio_grid(table)
    if ratios is not None:
        lines += ["\\par\\medskip", f"{{\\footnotesize {escape(ratios.caption)}.}}\\par\\smallskip", *_grid(ratios)]
    remarks = [(note.letter, f"Warning: {note.text}" if note.warning else note.text) for note in table.notes]
    remarks += [(None, f"Paired difference KAN − MLP. {line}") for line in difference_lines(table)]
    remarks += [(None, f"{name}: {text}.") for name, text in table.facts]
    lines += ["\\par\\medskip", "\\begin{minipage}{\\textwidth}\\footnotesize\\raggedright"]
    lines += [(f"\\textsuperscript{{{letter}}} " if letter else "") + escape(text) + "\\par" for letter, text in remarks]
    return "\n".join([*lines, "\\end{minipage}", "\\end{table*}"]) + "\n"


def escape(text: str) -> str:
    """Plain text, with run ids in back-quotes, as LaTeX; a line break becomes a blank."""
    pieces = _CODE.split(" ".join(text.split()))
    return "".join(f"\\texttt{{{_plain(piece)}}}" if index % 2 else _plain(piece) for index, piece in enumerate(pieces))


def _plain(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)


def _grid(grid: Grid) -> list[str]:
    # \resizebox only where the table is wider than the page: a short one would be blown up.
    lines = [
        "\\resizebox{\\ifdim\\width>\\textwidth\\textwidth\\else\\width\\fi}{!}{%",
        f"\\begin{{tabular}}{{rll{'r' * (len(grid.headings) - 3)}}}",
    ]
    lines += ["\\toprule", _line(grid.headings), "\\midrule"]
    for cells, marks in zip(grid.body, grid.marks, strict=True):
        raised = f"\\textsuperscript{{{','.join(marks)}}}" if marks else ""
        escaped = [escape(cell) for cell in cells]
        lines.append(" & ".join([escaped[0], escaped[1] + raised, *escaped[2:]]) + " \\\\")
    return [*lines, "\\bottomrule", "\\end{tabular}}"]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(escape(cell) for cell in cells) + " \\\\"
