"""``kanmlip-tables``: run records and benchmarks to the paper's tables, figures and a report with verdicts."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.cli import answer

if TYPE_CHECKING:
    from kanmlip.benchmark.md_record import MDCase
    from kanmlip.report.records import Evidence
    from kanmlip.report.study import Study
    from kanmlip.report.table import Table


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for wrong input or where there is nothing to make tables of."""
    parser = argparse.ArgumentParser(
        prog="kanmlip-tables",
        description="Turn run records into Tables 2 to 9 of the paper (Markdown, CSV, LaTeX), figures 6 to 8 and REPORT.md with verdicts.",
    )
    parser.add_argument("--results", type=Path, default=Path(os.environ.get("KANMLIP_RESULTS") or "results"), help="results root")
    parser.add_argument("--budget", default="all", help="smoke, small, gpu, paper or all (default)")
    parser.add_argument("--tables", default="all", help="such as 2,3 (default all); figures and REPORT.md are made with all")
    parser.add_argument("--reproduction", type=Path, default=None, help="a file of the form of conf/reproduction.yaml")
    parser.add_argument("--facts", action="store_true", help="first measure the data sets that are there, into facts.json")
    options = parser.parse_args(arguments)
    return answer("kanmlip-tables", lambda: make_tables(options))


def make_tables(options: argparse.Namespace) -> int:
    """Write the tables, print their Markdown, and name records that could not be used.

    Raises:
        ConfigError: If a table or budget is not known, or there are no records.
    """
    from kanmlip.errors import ConfigError, describe_choice
    from kanmlip.experiment.atomic import write_text
    from kanmlip.report.collect import BUDGET_ORDER, budgets_of, build_table, render_index, write_tables
    from kanmlip.report.markdown import render_markdown
    from kanmlip.report.records import read_evidence
    from kanmlip.report.study import load_study

    study = load_study(options.reproduction)
    keys = list(study.tables) if options.tables == "all" else [key.strip() for key in options.tables.split(",")]
    for key in keys:
        if key not in study.tables:
            raise ConfigError(describe_choice("--tables", key, study.tables))
    evidence = read_evidence(options.results)
    for warning in evidence.warnings:
        sys.stderr.write(f"kanmlip-tables: {warning}\n")
    md = _read_dynamics(options.results / "benchmarks")
    known = budgets_of(evidence, md)
    if options.budget not in ("all", *known, *BUDGET_ORDER):
        raise ConfigError(describe_choice("--budget", options.budget, ["all", *known, *BUDGET_ORDER]))
    budgets = known if options.budget == "all" else [budget for budget in known if budget == options.budget]
    if not budgets:
        failed = sum(options.budget in ("all", run.labels.budget) for run in evidence.unfinished)
        remark = f" ({failed} did not finish)" if failed else ""
        raise ConfigError(
            f"no finished run of budget {options.budget} has a record under {options.results / 'records'}{remark}; "
            f"make some with: kanmlip-train -m experiment=table3_none,table3_output budget=smoke seed=1111,2222"
        )
    if options.facts:
        _refresh_facts(options.results)
    # A table no run belongs to says nothing: it is left out unless it was asked for by name.
    tables = [build_table(study, key, evidence, budget, md) for budget in budgets for key in keys]
    tables = [table for table in tables if table.filled[0] or options.tables != "all"]
    write_tables(tables, options.results)
    if options.tables == "all" and options.budget == "all":
        _remove_old_tables(study, tables, options.results)
        write_text(options.results / "tables" / "README.md", render_index(tables, evidence))
        _write_report(study, tables, evidence, md, options.results)
    print("\n".join(render_markdown(table) for table in tables))
    if not tables:
        print(f"records of budget {', '.join(budgets)} belong to no table of the paper")
    return 0


def _remove_old_tables(study: Study, tables: list[Table], results: Path) -> None:
    """Tables and figures that no record belongs to any more must not go on showing what is gone."""
    from kanmlip.report.collect import old_files

    for path in old_files(study, tables, results):
        sys.stderr.write(f"kanmlip-tables: no record belongs to {path.relative_to(results)} any more; removed\n")
        path.unlink()


def _write_report(study: Study, tables: list[Table], evidence: Evidence, md: list[MDCase], results: Path) -> None:
    """Figures and REPORT.md; a machine without matplotlib gets no figures, and is told so."""
    from kanmlip.errors import MissingDependencyError
    from kanmlip.experiment.atomic import write_text
    from kanmlip.report.data_facts import read_facts
    from kanmlip.report.figures import draw_figures
    from kanmlip.report.page import render_report

    try:
        draw_figures(study, tables, results)
    except MissingDependencyError as error:
        sys.stderr.write(f"kanmlip-tables: no figures: {error}\n")
    write_text(results / "REPORT.md", render_report(study, evidence, results / "benchmarks", md, read_facts(results)))


def _refresh_facts(results: Path) -> None:
    from kanmlip.data.root import data_root
    from kanmlip.report.data_facts import refresh_facts

    refresh_facts(results, data_root())


def _read_dynamics(benchmarks: Path) -> list[MDCase]:
    """What ``kanmlip-bench md`` measured, at all sizes; a file that cannot be read is named and left out."""
    from kanmlip.benchmark.md_record import read_md_file
    from kanmlip.errors import DataError

    cases = []
    for path in sorted([*benchmarks.glob("md_*.json"), *benchmarks.glob("*/md_*.json")]):
        try:
            cases += read_md_file(path, benchmarks)
        except DataError as error:
            sys.stderr.write(f"kanmlip-tables: {error}\n")
    return cases


if __name__ == "__main__":
    sys.exit(main())
