"""W&B workspaces for the reproduction, defined in code: one saved view a table, its rows grouped, courses and columns as panels.

    python scripts/wandb_workspace.py --print                                  # offline: what would be saved, as JSON
    python scripts/wandb_workspace.py --entity ME --project kanmlip            # save them; prints their addresses

Views, metrics and tags come from conf/reproduction.yaml, so that they show what the tables show. Needs
`pip install 'kanmlip[workspaces]'`; saving needs a login. Runs made offline (`logger=wandb`) get there by
`wandb sync results/runs/*/wandb/offline-run-*`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kanmlip.errors import KanmlipError, MissingDependencyError
from kanmlip.report.study import Study, default_study_path, load_study
from kanmlip.reproduction.spec import Runs, load_runs

# What a run logs each epoch, by the first letters of the columns' metrics.
COURSES = {"force": "val/force_mae_eV_per_A", "bec": "val/bec_mae_e"}
NOT_DRAWN = ("time/train_s",)


def main() -> int:
    """Print or save the workspaces; exit code 2 for wrong input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", default=None, help="W&B user or team (default: yours)")
    parser.add_argument("--project", default="kanmlip", help="(default %(default)s)")
    parser.add_argument("--budget", default="small", help="whose runs are shown: a tag of theirs (default %(default)s)")
    parser.add_argument("--print", action="store_true", dest="print_only", help="write the workspaces as JSON and save nothing")
    options = parser.parse_args()
    try:
        study, runs = load_study(), load_runs(default_study_path())
        sections = describe_sections(study, runs)
        if options.print_only:
            content = {"project": options.project, "budget": options.budget, "group_by": GROUPS, "views": sections}
            print(json.dumps(content, indent=1, ensure_ascii=False))
            return 0
        for section in sections:
            save(build(section, options.entity, options.project, options.budget))
    except KanmlipError as error:
        sys.stderr.write(f"wandb_workspace: {error}\n")
        return error.exit_code
    return 0


# Dotted keys of a run's settings by which rows of a table differ; runs of different seeds fall into one group, of different data never.
GROUPS = ["dataset.name", "placement.name", "placement.head.kind", "placement.head.match", "basis.name"]


def describe_sections(study: Study, runs: Runs) -> list[dict[str, Any]]:
    """Per table that has runs: its title, the tag of its runs, the courses of validation and the columns as bars."""
    tables = dict.fromkeys(table for stage in runs.stages for preset in stage.runs for table in preset.tables)
    sections = []
    for table in sorted(tables):
        if table not in study.tables:
            continue
        metrics = [column.metric for column in study.columns(table) if column.metric not in NOT_DRAWN]
        courses = sorted({course for name, course in COURSES.items() if any(f"/{name}" in metric for metric in metrics)})
        number = f"Table {table}: " if table.isdigit() else ""  # tables of ours have none
        title = f"{number}{study.tables[table].title}"
        sections.append({"title": title, "tag": f"table {table}", "courses": courses, "bars": metrics})
    return sections


def build(section: dict[str, Any], entity: str | None, project: str, budget: str) -> Any:
    """The view of one table as wandb-workspaces has it; needs no network.

    Raises:
        MissingDependencyError: If wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        from wandb_workspaces import workspaces
    except ImportError as error:
        raise MissingDependencyError("this needs wandb-workspaces; run: pip install wandb-workspaces, or use --print") from error
    lines = [panels.LinePlot(title=name, x="Step", y=[name], log_y=True) for name in section["courses"]]
    # Bars start at zero: errors of 0.020 and 0.022 shall look like that.
    bars = [panels.BarPlot(title=name, metrics=[name], range_x=(0, None)) for name in section["bars"]]
    return workspaces.Workspace(
        entity=entity or "",
        project=project,
        name=f"{section['title']}, {budget}",
        sections=[
            workspaces.Section(name="validation by epoch", panels=lines, is_open=True),
            workspaces.Section(name="columns of the table", panels=bars, is_open=True),
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=[workspaces.Tags().isin([section["tag"]]), workspaces.Tags().isin([budget])],
            groupby=[workspaces.Config(key) for key in GROUPS],
        ),
    )


def save(workspace: Any) -> None:
    """Send it to the server and print its address.

    Raises:
        KanmlipError: If there is no login or no network.
    """
    try:
        workspace.save()
    except Exception as error:  # the client raises whatever its transport raises
        raise KanmlipError(f"the workspace cannot be saved: {error}; log in with `wandb login`, or use --print") from error
    print(workspace.url)


if __name__ == "__main__":
    sys.exit(main())
