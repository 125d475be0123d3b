"""Table 4 from several files: a row is compared with the MLP of its own file and mode, and says which file that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kanmlip.benchmark.md_record import MDCase, read_md_file
from kanmlip.report.md_table import build_md_table
from kanmlip.report.study import load_study
from kanmlip.report.table import Row, Table
from tests.unit.test_benchmark_md_report import case, result

STUDY = load_study()


def slower(times: float, *modes: str) -> MDCase:
    """A case whose steps take ``times`` as long, in modes whose KANs cost 1.1, 1.2 and so on."""
    found = []
    for number, mode in enumerate(modes, start=1):
        for one in (result("none", "", "", 1.0, 40.0, mode), result("output", "gaussian", "parameters", 1 + number / 10, 41.0, mode)):
            timing = one.timing.model_copy(update={"ms_per_step": times * one.timing.ms_per_step}) if one.timing else None
            found.append(one.model_copy(update={"timing": timing}))
    return case(*found)


def built(folder: Path, **files: MDCase) -> Table:
    cases = []
    for name, content in files.items():
        path = folder / name / "md_paper.json" if name != "top" else folder / "md_paper.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"schema": 1, "cases": [content.model_dump(mode="json", exclude={"file"})]}))
        cases += read_md_file(path, folder)
    return build_md_table(STUDY, "4", cases, "paper")


def ratio(row: Row) -> float:
    found = row.ratio("ms_per_step")
    assert found is not None
    return round(found.value, 6)


def test_rows_are_over_the_mlp_of_their_own_file_and_mode(tmp_path: Path) -> None:
    table = built(tmp_path, top=slower(1.0, "eager"), modes=slower(3.0, "eager", "compile"), later=slower(0.5, "compile", "aot"))
    rows = [row for row in table.rows if row.extra and row.match and row.match.placement != "none"]
    assert [ratio(row) for row in rows] == [1.1, 1.1, 1.2, 1.1, 1.2]
    for row in rows:
        assert row.baseline is not None
        assert row.baseline.number > 0  # it is a row of the table, which CSV names
        ours, mlp = (one.cell("ms_per_step").values[0] for one in (row, row.baseline))
        assert ours / mlp == pytest.approx(ratio(row))


def test_the_ratio_of_times_is_that_within_rounds(tmp_path: Path) -> None:
    table = built(tmp_path, top=case(result("none", "", "", 1.0, 40.0), result("output", "gaussian", "parameters", 1.1, 42.0)))
    (row,) = [row for row in table.rows if row.extra]
    row.baseline = row  # what the medians say is not looked at
    assert ratio(row) == 1.1
    found = row.ratio("allocated")
    assert found is not None
    assert found.value == 1.0


def test_rows_of_several_files_and_what_they_rest_on_say_which(tmp_path: Path) -> None:
    table = built(tmp_path, top=slower(1.0, "eager"), modes=slower(3.0, "eager", "aot"))
    labels = [row.label for row in table.rows]
    assert len(set(labels)) == len(labels)
    assert [label.rpartition(", ")[2] for label in labels if "equal parameters: 71" in label] == [
        "`md_paper.json`",
        "`modes/md_paper.json`",
    ]
    assert [label for label in labels if "AOTInductor" in label and "`" in label] == []
    assert [text.rpartition("; ")[2] for _, text in table.facts[1:]] == ["`md_paper.json`", "`modes/md_paper.json`"]
