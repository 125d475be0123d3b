"""From a results folder to finished tables and their files: a pure function of the records."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from kanmlip.report.csv_table import render_csv
from kanmlip.report.latex import render_latex
from kanmlip.report.markdown import render_markdown
from kanmlip.report.notes import write_facts, write_notes
from kanmlip.report.records import Evidence
from kanmlip.report.study import Study
from kanmlip.report.table import Table, build_rows

RENDERERS = {"md": render_markdown, "csv": render_csv, "tex": render_latex}
BUDGET_ORDER = ("smoke", "small", "gpu", "paper")


def budgets_of(evidence: Evidence) -> list[str]:
    """Budgets that some record has, cheapest first."""
    found = {record.labels.budget for record in evidence.records}
    return [*(budget for budget in BUDGET_ORDER if budget in found), *sorted(found - set(BUDGET_ORDER))]


def build_table(study: Study, key: str, evidence: Evidence, budget: str) -> Table:
    """One table from the records of one budget."""
    rows = build_rows(study, key, evidence, budget)
    spec = study.tables[key]
    return Table(
        key=key,
        spec=spec,
        budget=budget,
        citation=study.citation,
        columns=study.columns(key),
        rows=rows,
        notes=write_notes(rows, spec.notes),
        facts=write_facts(rows, budget),
    )


def write_tables(tables: Sequence[Table], results: Path) -> list[Path]:
    """Write ``tables/<budget>/table<N>.{md,csv,tex}`` for each table; returns the paths."""
    paths = []
    for table in tables:
        folder = results / "tables" / table.budget
        for suffix, render in RENDERERS.items():
            path = folder / f"{table.name}.{suffix}"
            write_text(path, render(table))
            paths.append(path)
    return paths


def render_index(study: Study, tables: Sequence[Table]) -> str:
    """The list of tables that there are, for ``tables/README.md``."""
    lines = [
        "# Tables",
        "",
        "Made by `kanmlip-tables` from `results/records` alone; each file says on what hardware, budget, seeds, commit and data it rests.",
        "",
        "| table | budget | rows with runs | runs |",
        "|---|---|---|---|",
    ]
    for table in tables:
        filled, wanted = table.filled
        name = f"[{table.title}]({table.budget}/{table.name}.md)"
        lines.append(f"| {name} | {table.budget} | {filled} of {wanted} | {len(table.records)} |")
    lines += ["", *(f"Table {key} ({text}) is still to come." for key, text in sorted(study.planned.items()))]
    return "\n".join(lines) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a whole file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
