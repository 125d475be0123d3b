"""``kanmlip-tables``: run records to the paper's tables."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for wrong input or where there is nothing to make tables of."""
    parser = argparse.ArgumentParser(
        prog="kanmlip-tables", description="Turn run records into Tables 2, 3 and 5 to 9 of the paper, as Markdown, CSV and LaTeX."
    )
    parser.add_argument("--results", type=Path, default=Path(os.environ.get("KANMLIP_RESULTS") or "results"), help="results root")
    parser.add_argument("--budget", default="all", help="smoke, small, gpu, paper or all (default)")
    parser.add_argument("--tables", default="all", help="such as 2,3 (default all)")
    parser.add_argument("--reproduction", type=Path, default=None, help="a file of the form of conf/reproduction.yaml")
    options = parser.parse_args(arguments)
    from kanmlip.errors import KanmlipError

    try:
        return make_tables(options)
    except KanmlipError as error:
        sys.stderr.write(f"kanmlip-tables: {error}\n")
        return error.exit_code


def make_tables(options: argparse.Namespace) -> int:
    """Write the tables, print their Markdown, and name records that could not be used.

    Raises:
        ConfigError: If a table or budget is not known, or there are no records.
    """
    from kanmlip.errors import ConfigError, describe_choice
    from kanmlip.report.collect import BUDGET_ORDER, budgets_of, build_table, render_index, write_tables, write_text
    from kanmlip.report.markdown import render_markdown
    from kanmlip.report.records import read_evidence
    from kanmlip.report.study import load_study

    study = load_study(options.reproduction)
    keys = list(study.tables) if options.tables == "all" else [key.strip() for key in options.tables.split(",")]
    for key in keys:
        if key in study.planned:
            raise ConfigError(f"--tables={key}: Table {key} ({study.planned[key]}) is not made yet; there are: {', '.join(study.tables)}")
        if key not in study.tables:
            raise ConfigError(describe_choice("--tables", key, study.tables))
    evidence = read_evidence(options.results)
    for warning in evidence.warnings:
        sys.stderr.write(f"kanmlip-tables: {warning}\n")
    known = budgets_of(evidence)
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
    # A table no run belongs to says nothing: it is left out unless it was asked for by name.
    tables = [build_table(study, key, evidence, budget) for budget in budgets for key in keys]
    tables = [table for table in tables if table.records or options.tables != "all"]
    write_tables(tables, options.results)
    if options.tables == "all" and options.budget == "all":
        write_text(options.results / "tables" / "README.md", render_index(study, tables, evidence))
    print("\n".join(render_markdown(table) for table in tables))
    if not tables:
        print(f"records of budget {', '.join(budgets)} belong to no table of the paper")
    return 0


if __name__ == "__main__":
    sys.exit(main())
