"""REPORT.md, figures and Table 4: every number from a file, the same bytes again, and a changed or missing one shows."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanmlip.benchmark.md_record import read_md_benchmarks
from kanmlip.cli.tables import main
from kanmlip.report.csv_table import render_csv
from kanmlip.report.data_facts import read_facts
from kanmlip.report.latex import render_latex
from kanmlip.report.markdown import render_markdown
from kanmlip.report.page import render_report
from kanmlip.report.printed import changed_values
from kanmlip.report.records import read_evidence
from kanmlip.report.study import default_study_path, load_study
from tests.unit.test_report_claims import benchmark, pairs, run
from tests.unit.test_report_tables import table, write

ROOT = Path(__file__).parents[2]


def report(results: Path) -> str:
    """The report alone: the command draws figures too, which takes most of its time."""
    cases = read_md_benchmarks(results / "benchmarks")
    return render_report(load_study(), read_evidence(results), results / "benchmarks", cases, read_facts(results))


def command(results: Path) -> str:
    assert main(["--results", str(results)]) == 0
    return (results / "REPORT.md").read_text()


def md_case(placement: str, ms: float, ratio: float, allocated: float) -> dict[str, Any]:
    basis = "" if placement == "none" else "gaussian"
    return {
        "name": f"{placement} {basis}",
        "placement": placement,
        "basis": basis,
        "match": "widths" if basis else "",
        "mode": "eager",
        "parameters": 100,
        "head_parameters": [10, 10],
        "widths": [],
        "timing": {
            "ms_per_step": ms,
            "ratio": ratio,
            "low": ratio - 0.01,
            "high": ratio + 0.01,
            "model_share": 0.9,
            "neighbour_share": 0.05,
        },
        "memory": {"peak_allocated": allocated, "process": allocated + 500, "empty": 450.0},
    }


def md_file(results: Path, device: str = "cuda", size: str = "small") -> None:
    results_of = [md_case("none", 20.0, 1.0, 100.0), md_case("output", 21.6, 1.08, 104.5)]
    case = {
        "model": "allegro", "size": size, "device": device, "backend": "auto", "dtype": "float32", "atoms": 71, "edges": 2012,
        "steps_asked": 5000, "steps": 400, "rounds": 8, "ensemble": "Langevin", "temperature_K": 300.0, "timestep_fs": 1.0,
        "environment": {"commit": "d" * 40, "hardware": "GPU X"}, "quiet": True, "machine": {}, "results": results_of,
    }  # fmt: skip
    larger = {**case, "atoms": 568, "results": [md_case("none", 150.0, 1.0, 800.0)]}
    (results / "benchmarks").mkdir(parents=True, exist_ok=True)
    (results / "benchmarks" / f"md_allegro_{device}.json").write_text(json.dumps({"schema": 1, "cases": [case, larger]}))


def test_the_report_has_every_claim_with_verdict_interval_and_origin(tmp_path: Path) -> None:
    benchmark(write(tmp_path, *pairs(0.9)))
    text = report(tmp_path)
    for claim in load_study().claims:
        assert claim.text in text
    summary = next(line for line in text.splitlines() if "force error, Ag" in line)
    assert "0.900 [0.900, 0.900] | < 1 | 0.875 | supported | 6 seeds × 30 structures; commit aaaaaaaaaa" in summary
    assert "stand-in data" in summary
    assert "no record of allegro (output, gaussian) on hfo2" in text
    kan, mlp = (run(placement, 3, scale)["metrics"]["val/force_mae_eV_per_A"] for placement, scale in (("output", 0.018), ("none", 0.02)))
    assert f"| 3 | {kan:.5g} | {mlp:.5g} | 0.900 |" in text


def test_a_worse_kan_is_refuted_in_the_same_place(tmp_path: Path) -> None:
    text = report(write(tmp_path, *pairs(1.2)))
    assert "1.200 [1.200, 1.200] | < 1 | 0.875 | refuted |" in text
    assert "| **refuted** | force error, Ag |" in text


def test_budgets_are_judged_apart(tmp_path: Path) -> None:
    text = report(write(tmp_path, *pairs(0.9, range(1, 4)), *pairs(0.8, range(4, 7), **{"labels.budget": "gpu"})))
    assert text.index("**Budget gpu**") < text.index("**Budget small**")
    assert "0.800 [0.800, 0.800]" in text
    assert "0.900 [0.900, 0.900]" in text
    assert "6 seeds" not in text.split("## Findings")[0].replace("needs 6 seeds", "")[text.index("## Summary") :]


def test_controls_stand_below_the_papers_rows_and_against_the_kan(tmp_path: Path) -> None:
    runs = pairs(0.9)
    for seed in range(1, 7):
        made = run("output", seed, 0.02 * 0.8)
        made["labels"]["basis"] = "mlp_parameters_gaussian"
        made["run_id"] = f"allegro-output-mlp_parameters_gaussian-ag-s{seed}-ag"
        runs.append(made)
    text = report(write(tmp_path, *runs))
    (line,) = [line for line in text.splitlines() if "number of parameters in the output block | val F MAE | 1.125" in line]
    assert "KAN higher" in line
    label = "| 5 | Allegro, MLP with the KAN's number of parameters in the output block (control, ours)"
    assert any(line.startswith(label) for line in render_markdown(table(tmp_path)).splitlines())
    rows = list(csv.DictReader(io.StringIO(render_csv(table(tmp_path)))))
    assert [row["control"] for row in rows] == ["false"] * 4 + ["true"] * 3


def test_rows_that_do_not_compare_are_called_so_beside_updates_too(tmp_path: Path) -> None:
    runs = pairs(0.9)
    for made in runs[1::2]:
        made["config"]["model"] = {"num_layers": 2}
    section = report(write(tmp_path, *runs)).split("## Updates until a fixed error")[1].split("\n## ")[0]
    (line,) = [line for line in section.splitlines() if "Gaussian KAN in the output block" in line]
    assert line.endswith("| the rows differ in settings besides the head (model.num_layers) |")


def test_deleted_tables_figures_and_report_come_back_byte_for_byte(tmp_path: Path) -> None:
    md_file(tmp_path)
    benchmark(write(tmp_path, *pairs(0.9, [1, 2])))
    command(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for name in ("tables", "figures") for path in (tmp_path / name).rglob("*.*")}
    made[Path("REPORT.md")] = (tmp_path / "REPORT.md").read_bytes()
    assert {path.suffix for path in made} == {".md", ".csv", ".tex", ".png", ".svg"}
    for name in ("tables", "figures"):
        shutil.rmtree(tmp_path / name)
    (tmp_path / "REPORT.md").unlink()
    command(tmp_path)
    for path, content in made.items():
        assert (tmp_path / path).read_bytes() == content, path


def test_kans_that_recompute_hidden_values_say_so_in_table_4(tmp_path: Path) -> None:
    md_file(write(tmp_path, *pairs(0.9)))
    file = tmp_path / "benchmarks" / "md_allegro_cuda.json"
    content = json.loads(file.read_text())
    content["cases"] = [{**case, "keep_hidden": False} for case in content["cases"]]
    (tmp_path / "benchmarks" / "recomputed").mkdir()
    (tmp_path / "benchmarks" / "recomputed" / "md_allegro_cuda.json").write_text(json.dumps(content))
    command(tmp_path)
    lines = (tmp_path / "tables" / "small" / "table4.md").read_text().splitlines()
    assert any("gaussian KAN, output, hidden values worked out again: 71 atoms, cuda" in line for line in lines)
    assert not any("MLP, hidden values" in line for line in lines)


def test_tables_and_figures_whose_records_are_gone_go_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_hfo2 = pairs(0.9, [1], dataset="hfo2")
    write(tmp_path, *pairs(0.9, [1]), *of_hfo2, run("none", 1, 0.02, **{"labels.budget": "gpu"}))
    command(tmp_path)
    small, gpu = tmp_path / "tables" / "small", tmp_path / "tables" / "gpu"
    mine = small / "notes.md"
    mine.write_text("mine")
    assert (small / "table5.md").is_file()
    assert (gpu / "table3.csv").is_file()
    figures = {path.name for path in (tmp_path / "figures" / "small").iterdir()}
    for made in of_hfo2:
        (tmp_path / "records" / f"{made['run_id']}.json").unlink()
    next(path for path in (tmp_path / "records").iterdir() if '"gpu"' in path.read_text()).unlink()
    capsys.readouterr()
    command(tmp_path)
    assert {path.name for path in small.iterdir()} == {"table3.md", "table3.csv", "table3.tex", "notes.md"}
    assert list(gpu.iterdir()) == []
    assert {path.name for path in (tmp_path / "figures" / "small").iterdir()} < figures
    assert "no record belongs to tables/small/table5.md any more; removed" in capsys.readouterr().err


def test_the_committed_tables_are_those_of_the_committed_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who commits records commits what ``kanmlip-tables`` makes of them; figures depend on the version of matplotlib."""
    committed = ROOT / "results"
    for name in ("records", "benchmarks"):
        shutil.copytree(committed / name, tmp_path / name)
    shutil.copy(committed / "facts.json", tmp_path)
    monkeypatch.setattr("kanmlip.report.figures.draw_figures", lambda *_: [])
    command(tmp_path)
    made = {path.relative_to(tmp_path) for path in [tmp_path / "REPORT.md", *(tmp_path / "tables").rglob("*.*")]}
    there = {path.relative_to(committed) for path in [committed / "REPORT.md", *(committed / "tables").rglob("*.*")]}
    assert made == there
    for path in sorted(made):
        assert (tmp_path / path).read_text() == (committed / path).read_text(), f"{path}: run kanmlip-tables and commit what it writes"


def test_bars_start_at_zero_and_carry_the_papers_value(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    from matplotlib.figure import Figure

    from kanmlip.report.figures import _draw_bars

    made = table(write(tmp_path, *pairs(0.9)))
    rows = [row for row in made.rows if not row.control]
    axes = Figure().subplots()
    _draw_bars(axes, rows, [row.cell("val_force") for row in rows])
    low, high = axes.get_ylim()
    assert low == 0 < high
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([row.cell("val_force").ours.mean for row in rows if row.records])
    segments = [segment for lines in axes.collections for segment in getattr(lines, "get_segments", list)()]
    marks = [start[1] for start, end in segments if start[1] == end[1]]
    assert set(marks) == {0.016, 0.015, 0.014}
    assert [text.get_text() for text in axes.texts] == ["no record", "no record"]


def test_figures_never_mix_budgets(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    command(write(tmp_path, *pairs(0.9, [1]), *pairs(0.8, [2], **{"labels.budget": "gpu"})))
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"small", "gpu"}
    first, second = ((tmp_path / "figures" / name / "figure7.svg").read_bytes() for name in ("small", "gpu"))
    assert first != second
    assert b"<dc:date>" not in first


def test_table_4_is_the_benchmark_of_molecular_dynamics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kanmlip.report.figures.draw_figures", lambda *_: [])
    md_file(write(tmp_path, *pairs(0.9)))
    text = command(tmp_path)
    made = (tmp_path / "tables" / "small" / "table4.md").read_text()
    assert "| 3 | Allegro, Gaussian KAN in the output block | – | 21.60 | 8.92 | 1.080 | 1.070 | 1.090 | 154.5 | 1945 | 104.5 |" in made
    assert "| 2 | Allegro, Gaussian KAN in the two-body and latent MLPs | – | not measured | 9.24 |" in made
    assert "allegro, MLP: 568 atoms, cuda (ours)" in made
    assert "control" not in made  # an MLP of another size is none, nor a KAN with equal parameters
    rows = list(csv.DictReader((tmp_path / "tables" / "small" / "table4.csv").open()))
    assert {row["control"] for row in rows} == {"false"}
    assert "1.080 [1.085]" in made
    assert "400 steps of 5,000 asked for" in made
    assert "GPU X" in made
    assert "1.080 [1.070, 1.090] | within 5 % of the paper's | 1.085 | supported" in text
    assert "+4.5 MiB | > 0 | +4.0 MiB | undecided: one measurement has no interval" in text


def test_a_broken_benchmark_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kanmlip.report.figures.draw_figures", lambda *_: [])
    (write(tmp_path, *pairs(0.9)) / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "md_x.json").write_text("{")
    assert "no benchmark of molecular dynamics" in command(tmp_path)
    assert "md_x.json" in capsys.readouterr().err


def test_a_changed_printed_value_shows_in_every_form(tmp_path: Path) -> None:
    study = load_study()
    assert not [found for key in study.tables for found in changed_values(study, key)]
    changed = default_study_path().read_text().replace('val_force: "0.014", val_energy: "0.022"', 'val_force: "0.014", val_energy: "0.020"')
    path = tmp_path / "study.yaml"
    path.write_text(changed)
    write(tmp_path, *pairs(0.9))
    assert main(["--results", str(tmp_path), "--reproduction", str(path), "--tables", "3"]) == 0
    warning = f"**Changed printed values**: Table 3, '{study.tables['3'].rows[2].label}': val E MAE is given as 0.020"
    assert warning in render_report(load_study(path), read_evidence(tmp_path), tmp_path / "benchmarks", [], {})
    assert "Changed printed values" not in report(tmp_path)
    message = "Changed printed value in row 3: val E MAE is given as 0.020, but the paper prints 0.022."
    for suffix in ("md", "tex"):
        assert message in (tmp_path / "tables" / "small" / f"table3.{suffix}").read_text()
    rows = list(csv.DictReader(io.StringIO((tmp_path / "tables" / "small" / "table3.csv").read_text())))
    assert [bool(row["marks"]) for row in rows[:4]] == [False, False, True, False]
    assert message not in render_latex(table(tmp_path))


def test_a_removed_printed_row_shows(tmp_path: Path) -> None:
    content = yaml.safe_load(default_study_path().read_text())
    del content["tables"]["5"]["rows"][3]
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    found = changed_values(load_study(path), "5")
    assert [text for _, text in found] == ["1 of the paper's 4 rows are missing"]


def test_a_record_of_another_budget_is_named_where_it_is_missing(tmp_path: Path) -> None:
    write(tmp_path, run("none", 1, 0.02), run("output", 1, 0.02, **{"labels.budget": "gpu"}))
    assert "no record (budget gpu has)" in render_markdown(table(tmp_path))
    assert "no record (budget gpu has) of allegro (output, gaussian) on ag" in report(tmp_path)


def test_nothing_in_a_report_is_the_time_of_day(tmp_path: Path) -> None:
    assert not re.search(r"20\d\d-\d\d-\d\d|\d\d:\d\d", report(write(tmp_path, *pairs(0.9))))
