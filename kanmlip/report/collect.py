"""From a results folder to finished tables and their files: a pure function of the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kanmlip.benchmark.md_record import MDCase
from kanmlip.experiment.atomic import write_text
from kanmlip.report.csv_table import render_csv
from kanmlip.report.latex import render_latex
from kanmlip.report.markdown import render_markdown
from kanmlip.report.md_table import build_md_table
from kanmlip.report.notes import FACETS, write_facts, write_notes
from kanmlip.report.printed import changed_values
from kanmlip.report.records import Evidence, Record
from kanmlip.report.study import Study
from kanmlip.report.table import Table, build_rows, file_stem

RENDERERS = {"md": render_markdown, "csv": render_csv, "tex": render_latex}
BUDGET_ORDER = ("smoke", "small", "gpu", "paper")


def budgets_of(evidence: Evidence, md: Sequence[MDCase] = ()) -> list[str]:
    """Budgets that some record, or the model size of a benchmark of molecular dynamics, has, cheapest first."""
    found = {record.labels.budget for record in evidence.records} | {case.size for case in md}
    return [*(budget for budget in BUDGET_ORDER if budget in found), *sorted(found - set(BUDGET_ORDER))]


def build_table(study: Study, key: str, evidence: Evidence, budget: str, md: Sequence[MDCase] = ()) -> Table:
    """One table from the records of one budget, or from the benchmark of molecular dynamics at that budget's sizes."""
    if study.tables[key].source == "molecular_dynamics":
        return build_md_table(study, key, md, budget)
    rows = build_rows(study, key, evidence, budget)
    spec = study.tables[key]
    return Table(
        key=key,
        spec=spec,
        budget=budget,
        citation=study.citation,
        columns=study.columns(key),
        rows=rows,
        notes=write_notes(rows, spec.notes, changed_values(study, key)),
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


def old_files(study: Study, tables: Sequence[Table], results: Path) -> list[Path]:
    """Files of tables and figures of the study, in any budget, that were written once and are none of these tables' now.

    Args:
        study: All tables and figures.
        tables: Everything that there are records for.
        results: The results root.
    """
    current = {(table.budget, table.key) for table in tables}
    drawn = {(table.budget, table.key) for table in tables if table.records}
    old = []
    for folder in sorted(path for path in (results / "tables").glob("*") if path.is_dir()):
        gone = [key for key in study.tables if (folder.name, key) not in current]
        old += [path for key in gone for suffix in RENDERERS if (path := folder / f"{file_stem(key)}.{suffix}").is_file()]
    for folder in sorted(path for path in (results / "figures").glob("*") if path.is_dir()):
        numbers = [number for number, figure in study.figures.items() if (folder.name, figure.table) not in drawn]
        old += [path for number in numbers for suffix in ("png", "svg") if (path := folder / f"figure{number}.{suffix}").is_file()]
    return old


def render_index(tables: Sequence[Table], evidence: Evidence) -> str:
    """The list of tables that there are and what they rest on, for ``tables/README.md``.

    Args:
        tables: What was written.
        evidence: What they were made of, to name the records that none of them uses.
    """
    used = {run_id for table in tables for run_id in table.records}
    lines = [
        "# Tables",
        "",
        "Made by `kanmlip-tables` from `results/records` alone (why a cell is empty comes from `results/runs`, where that is at hand).",
        "",
        "**What these tables rest on**",
        "",
        *(f"- {line}" for line in _foundations([record for record in evidence.records if record.run_id in used])),
        *_unused_records(used, evidence),
        "- A row is the mean ± sample standard deviation over seeds of runs with the same settings and data; budgets never share a table.",
        "- The paper's values are of other hardware and sizes, and of other data where a stand-in is named: compare ratios of errors.",
        "",
        "| table | budget | rows with runs | runs | seeds | warnings |",
        "|---|---|---|---|---|---|",
    ]
    for table in tables:
        filled, wanted = table.filled
        seeds = ", ".join(map(str, sorted({record.labels.seed for record in table.records.values()}))) or "none"
        name = f"[{table.title}]({table.budget}/{table.name}.md)"
        warnings = sum(note.warning for note in table.notes)
        lines.append(f"| {name} | {table.budget} | {filled} of {wanted} | {len(table.records)} | {seeds} | {warnings} |")
    return "\n".join(lines) + "\n"


def _foundations(records: Sequence[Record]) -> list[str]:
    """What all used records have in common or not, one line a property."""
    facets = [facet for facet in FACETS if facet.name in {"Data", "Commit", "Hardware", "Device"}]
    lines = [f"Records: {len(records)}; budgets: {', '.join(sorted({record.labels.budget for record in records})) or 'none'}"]
    for facet in facets:
        lines.append(f"{facet.name}: {'; '.join(sorted({facet.of(record) for record in records})) or 'none'}")
    dirty = sum(bool(record.environment.dirty) for record in records)
    return [*lines, f"Made with uncommitted changes: {dirty} of {len(records)}"]


def _unused_records(used: set[str], evidence: Evidence) -> list[str]:
    """Finished runs of no row, or of settings that a row set aside: named, so that nothing is left out silently."""
    unused = [record.run_id for record in evidence.records if record.run_id not in used]
    return [f"- Records that no row uses: {', '.join(f'`{name}`' for name in unused)}"] if unused else []
