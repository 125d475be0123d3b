"""What a table says about itself: marks on rows that do not compare, provenance, intervals, and its LaTeX and CSV forms."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kanmlip.cli.tables import main
from kanmlip.report.collect import build_table, render_index
from kanmlip.report.csv_table import render_csv
from kanmlip.report.latex import escape, render_latex
from kanmlip.report.layout import difference_lines
from kanmlip.report.markdown import render_markdown
from kanmlip.report.paired import paired_difference, paired_ratio, sign_interval
from kanmlip.report.records import read_evidence
from kanmlip.report.study import load_study
from kanmlip.report.table import Row, Table
from tests.unit.test_report_tables import record, table, write


def warnings(made: Table) -> list[str]:
    return [note.text for note in made.notes if note.warning]


def row(made: Table, number: int) -> Row:
    return made.rows[number - 1]


def pair(results: Path, **changes: Any) -> Table:
    """The MLP and the output KAN at one seed; ``changes`` concern the KAN."""
    return table(write(results, record(), record("output", "gaussian", **changes)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment.commit": "b" * 40}, "Mixed commits: aaaaaaaaaa in row 1; bbbbbbbbbb in row 3."),
        ({"environment.hardware": "H200"}, "Mixed hardware (times are not comparable): 2-core x86-64 CPU (test) in row 1; H200 in row 3."),
        ({"environment.device": "cuda"}, "Mixed devices (times are not comparable): cpu in row 1; cuda in row 3."),
        ({"environment.threads": 2}, "Mixed thread counts (times are not comparable): 1 in row 1; 2 in row 3."),
        ({"environment.versions": {"torch": "2.12.0"}}, "Mixed software versions: torch 2.13.0 in row 1; torch 2.12.0 in row 3."),
        ({"environment.dataset_sha256": "e" * 64}, "sha256 eeeeeeeeee) in row 3."),
        ({"environment.earlier_commits": ["c" * 40]}, "aaaaaaaaaa (resumed, begun at cccccccccc) in row 3."),
        ({"metrics": {"time/epochs": 19, "time/updates": 600}}, "Different numbers of epochs: 20 in row 1; 19 in row 3."),
        ({"metrics": {"time/epochs": 20, "time/updates": 599}}, "Different numbers of updates: 600 in row 1; 599 in row 3."),
        ({"seed": 2222}, "Different seeds: 1111 in row 1; 2222 in row 3."),
        ({"config": {"model": {"num_layers": 2}}}, "row 3 differs from row 1 in settings besides the head: model.num_layers."),
        ({"config": {"model": {"num_layers": 1}, "trainer": {"lr": 1}}}, "in settings besides the head: trainer.lr."),
        (
            {"config": {"trainer": {"max_epochs": 40, "max_minutes": 8}}, "metrics": {"time/epochs": 31, "time/updates": 600}},
            "Ended by trainer.max_minutes before their last epoch: runs of row 3.",
        ),
        ({"environment.dirty": True}, "Made with uncommitted changes: row 3."),
    ],
)
def test_rows_that_do_not_compare_are_marked_and_warned_of(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    made = pair(tmp_path, **changes)
    (warning,) = [text for text in warnings(made) if message in text]
    assert warning in render_markdown(made)
    assert row(made, 3).marks
    assert not row(made, 2).marks


def test_a_table_of_like_rows_warns_of_nothing(tmp_path: Path) -> None:
    made = pair(tmp_path)
    assert warnings(made) == []
    assert all(not line.marks for line in made.rows)
    assert dict(made.facts)["Parameters, total / in KAN heads"] == "row 1: 1,000 / 100; row 3: 1,000 / 100"


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    (line,) = [line for line in render_markdown(pair(tmp_path)).splitlines() if line.startswith("| 3 |") and "0.014" in line]
    assert "| n=1 | 0.0200 | 0.014 |" in line
    assert "±" not in line


def test_the_group_of_most_seeds_counts_and_of_equals_the_last_finished(tmp_path: Path) -> None:
    other = {"config": {"model": {"num_layers": 2}}, "hash": "1111111111"}
    write(tmp_path, record(force=0.02), record(force=0.04, **other, **{"environment.finished": "2026-11-22"}))
    assert row(table(tmp_path), 1).cell("train_force").values == {1111: 0.04}
    write(tmp_path, record(seed=2222, force=0.03))
    made = table(tmp_path)
    assert row(made, 1).cell("train_force").values == {1111: 0.02, 2222: 0.03}
    assert row(made, 1).marks == ["a"]
    assert "`allegro-none-mlp-ag-s1111-1111111111`" in render_markdown(made)


def test_an_absent_setting_is_told_from_a_null_one(tmp_path: Path) -> None:
    write(tmp_path, record(), record(config={"model": {"num_layers": 1, "new": None}}, hash="1111111111"))
    assert "they differ in model.new" in render_markdown(table(tmp_path))


def test_a_row_names_its_runs_that_did_not_finish(tmp_path: Path) -> None:
    write(tmp_path, record(), record(seed=2222, status="diverged"))
    made = table(tmp_path)
    assert len(row(made, 1).records) == 1
    assert "not in the mean, because not finished: `allegro-none-mlp-ag-s2222-0123456789` (diverged)" in render_markdown(made)


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    folder = write(tmp_path, record()) / "runs" / "allegro-output-gaussian-ag-s1111-0123456789"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": "running", "pid": 999999999}))
    (folder / "config.yaml").write_text("budget: {name: small}\n")
    made = table(tmp_path)
    assert row(made, 3).cell("val_force").missing == "interrupted"
    assert row(made, 4).cell("val_force").missing == "no run"


def test_ratios_without_a_common_seed_say_so(tmp_path: Path) -> None:
    made = pair(tmp_path, seed=2222, force=0.01)
    ratio = row(made, 3).ratio("train_force")
    assert ratio is not None
    assert (ratio.value, ratio.paired) == (pytest.approx(0.5), False)
    assert "0.500 (unpaired) [0.875]" in render_markdown(made)
    assert "Row 3 − row 1: no seed in common (n=0)." in difference_lines(made)
    assert paired_ratio({1: 1.0}, {1: 0.0}) is None


def test_six_seeds_are_the_fewest_with_an_interval() -> None:
    baseline = dict.fromkeys(range(6), 1.0)
    ours = {seed: 1.0 - seed for seed in range(6)}
    six = paired_difference(ours, baseline)
    five = paired_difference({seed: ours[seed] for seed in range(5)}, baseline)
    assert six is not None
    assert five is not None
    assert six.interval == (-5.0, 0.0)
    assert five.interval is None
    # Nine values: 1 − 2 (1 + 9) / 2⁹ = 96.1 % for the second and the last but one.
    assert sign_interval(list(range(9))) == (1, 7)


def test_table_7_lists_our_own_seeds_and_the_papers(tmp_path: Path) -> None:
    labels = {"model": "mace", "placement": "none", "basis": None, "dataset": "carbon", "budget": "small", "seed": 7}
    write(tmp_path, record(labels=labels, metrics={"test/force_rmse_meV_per_A": 400.0}))
    made = table(tmp_path, "7")
    seeds = [(line.kind, line.seed) for line in made.rows]
    assert seeds[:5] == [("seed", 7), ("seed", 1111), ("seed", 2222), ("seed", 3333), ("summary", None)]
    cells = [line.cell("test_force") for line in made.rows[:5]]
    assert [dict(cell.values) for cell in cells] == [{7: 400.0}, {}, {}, {}, {7: 400.0}]
    assert [list(cell.printed.values()) for cell in cells] == [[], ["307.6"], ["306.5"], ["309.2"], ["307.6", "306.5", "309.2"]]
    # Mean and sample standard deviation of the three printed values.
    assert "| mean, n=1 | 400.0 | 307.8 ± 1.4 |" in render_markdown(made)


def test_table_8_has_the_constants_of_the_literature(tmp_path: Path) -> None:
    made = table(write(tmp_path, record()), "8")
    constants = {line.label: line.cell("test_force").printed[None] for line in made.rows if line.kind == "literature"}
    assert constants == {"GAP": "1100", "DP": "800", "MTP": "630", "REANN": "640", "NEP": "690", "HotPP": "395"}
    assert not any(line.baseline for line in made.rows)


def test_latex_is_escaped_and_balanced(tmp_path: Path) -> None:
    label = {"label": "50 % of {silver} & co_1 #2 ~ $x^2$ \\ “Ag|Å”", "stand_in": True}
    text = render_latex(table(write(tmp_path, record(data=label))))
    assert r"50 \% of \{silver\} \& co\_1 \#2 \textasciitilde{} \$x\textasciicircum{}2\$ \textbackslash{}" in text
    for name in ("table*", "tabular", "minipage"):
        assert text.count(f"\\begin{{{name}}}") == text.count(f"\\end{{{name}}}") >= 1
    bare = text.replace("\\{", "").replace("\\}", "")
    assert bare.count("{") == bare.count("}")
    assert text.count("\\toprule") == text.count("\\bottomrule")
    assert escape("`a_b` ± 1") == r"\texttt{a\_b} $\pm$ 1"


def test_markdown_keeps_a_cell_in_its_cell(tmp_path: Path) -> None:
    study = load_study()
    broken = study.tables["3"].rows[0].model_copy(update={"label": "a | b\nc"})
    spec = study.tables["3"].model_copy(update={"rows": (broken, *study.tables["3"].rows[1:])})
    made = build_table(
        study.model_copy(update={"tables": {"3": spec}}),
        "3",
        read_evidence(write(tmp_path, record(), record("output", "gaussian"))),
        "small",
    )
    grid = [line for line in render_markdown(made).splitlines() if line.startswith("|")]
    widths = {line.replace("\\|", "").count("|") for line in grid[: len(made.rows) + 2]}
    assert len(widths) == 1


def test_csv_has_every_number_and_its_origin(tmp_path: Path) -> None:
    write(
        tmp_path,
        *(record(p, b, s, f) for p, b, s, f in [("none", None, 1, 0.02), ("none", None, 2, 0.04), ("output", "gaussian", 2, 0.01)]),
    )
    lines = list(csv.DictReader(io.StringIO(render_csv(table(tmp_path)))))
    assert [line["row"] for line in lines] == [str(number) for number in range(1, 8)]
    mlp, kan = lines[0], lines[2]
    assert float(mlp["train_force [eV/Å] ours_mean"]) == pytest.approx(0.03)
    assert float(mlp["train_force [eV/Å] ours_std"]) == pytest.approx(0.02 / 2**0.5)
    assert (mlp["time [s] paper_printed"], mlp["time [s] paper_mean"]) == ("4h 51m", "17460")
    assert (float(kan["train_force [eV/Å] ratio"]), kan["train_force [eV/Å] ratio_pairs"]) == (pytest.approx(0.25), "1")
    assert float(kan["train_energy_per_atom [meV/atom] ours_mean"]) == pytest.approx(20 / 71)
    assert (kan["commits"], kan["hardware"], kan["stand_in"], kan["run_ids"]) == (
        "a" * 40, "2-core x86-64 CPU (test)", "true", "allegro-output-gaussian-ag-s2-0123456789",
    )  # fmt: skip
    assert lines[1]["val_force [eV/Å] missing"] == "no record"


def test_no_time_of_day_enters_a_table(tmp_path: Path) -> None:
    early, late = (write(tmp_path / name, record(**{"environment.finished": name})) for name in ("2026-01-01", "2027-01-01"))
    for render in (render_markdown, render_csv, render_latex):
        assert render(table(early)) == render(table(late))


def test_the_index_names_what_tables_rest_on_and_records_left_out(tmp_path: Path) -> None:
    write(tmp_path, record(), record("output", "gaussian"), record(hash="x", **{"labels.dataset": "toy"}))
    text = render_index([table(tmp_path)], read_evidence(tmp_path))
    assert "Records: 2; budgets: small" in text
    assert "Data: stand-in data: Ag, stand-in" in text
    assert "Records that no row uses: `allegro-none-mlp-ag-s1111-x`" in text
    assert "](small/table3.md) | small | 2 of 7 | 2 | 1111 | 0 |" in text


def test_runs_that_all_failed_are_mentioned_where_there_is_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, record(status="oom"))
    assert main(["--results", str(tmp_path)]) == 2
    assert "(1 did not finish)" in capsys.readouterr().err


def test_a_record_under_two_names_counts_once(tmp_path: Path) -> None:
    write(tmp_path, record())
    (tmp_path / "records" / "copy.json").write_text(json.dumps(record()))
    evidence = read_evidence(tmp_path)
    assert len(evidence.records) == 1
    assert "already given" in " ".join(evidence.warnings)


def test_the_command_needs_no_torch() -> None:
    code = "import sys; from kanmlip.cli.tables import main; main(['--results', 'nowhere']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
