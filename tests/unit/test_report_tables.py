"""Tables are a pure function of records: what they average, what they refuse to, and what they say about gaps."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from kanmlip.cli.tables import main
from kanmlip.errors import ConfigError
from kanmlip.report.collect import budgets_of, build_table, render_index, write_tables
from kanmlip.report.csv_table import render_csv
from kanmlip.report.duration import format_duration, parse_duration
from kanmlip.report.latex import render_latex
from kanmlip.report.markdown import render_markdown
from kanmlip.report.records import read_evidence
from kanmlip.report.study import load_study
from kanmlip.report.table import Table

GOLDEN = Path(__file__).parents[1] / "golden"


def record(placement: str = "none", basis: str | None = None, seed: int = 1111, force: float = 0.02, **changes: Any) -> dict[str, Any]:
    """A record of Table 3 as kanmlip-train writes it."""
    run_id = f"allegro-{placement}-{basis or 'mlp'}-ag-s{seed}-{changes.get('hash', '0123456789')}"
    labels = {"model": "allegro", "placement": placement, "basis": basis, "dataset": "ag", "budget": "small", "seed": seed}
    metrics = {
        "train/force_mae_eV_per_A": force,
        "train/energy_mae_eV_per_cell": 2 * force,
        "train/energy_mae_eV_per_atom": 2 * force / 71,
        "val/force_mae_eV_per_A": 1.1 * force,
        "val/energy_mae_eV_per_cell": 2.2 * force,
        "val/energy_mae_eV_per_atom": 2.2 * force / 71,
        "time/train_s": 100.0 if basis is None else 200.0,
        "time/per_epoch_s": 5.0 if basis is None else 10.0,
        "time/epochs": 20,
        "time/updates": 600,
        "params/total": 1000,
        "params/head": 100,
    }
    made = {
        "schema_version": 1,
        "run_id": run_id,
        "status": "done",
        "labels": labels,
        "config": {"model": {"num_layers": 1}, "seed": seed},
        "metrics": metrics,
        "environment": {
            "commit": "a" * 40,
            "dirty": False,
            "hardware": "2-core x86-64 CPU (test)",
            "device": "cpu",
            "threads": 1,
            "versions": {"torch": "2.13.0"},
            "dataset_sha256": "f" * 64,
            "finished": f"2026-11-21T00:00:{seed % 60:02d}",
        },
        "data": {"label": "Ag, stand-in", "stand_in": True, "subset": "150 of 950", "n_train": 150, "n_val": 50, "n_test": 0},
        "placement": {},
    }
    for path, value in changes.items():
        if path == "hash":
            continue
        *parents, last = path.split(".")
        place: Any = made
        for name in parents:
            place = place[name]
        place[last] = value
    return made


def write(results: Path, *records: dict[str, Any]) -> Path:
    (results / "records").mkdir(parents=True, exist_ok=True)
    for made in records:
        (results / "records" / f"{made['run_id']}.json").write_text(json.dumps(made))
    return results


def table(results: Path, key: str = "3", budget: str = "small") -> Table:
    return build_table(load_study(), key, read_evidence(results), budget)


@pytest.fixture
def typical(tmp_path: Path) -> Path:
    """MLP and output KAN, two seeds each."""
    rows = [("none", None, 0.020, 0.022), ("output", "gaussian", 0.018, 0.021)]
    return write(tmp_path, *(record(p, b, s, f) for p, b, *forces in rows for s, f in zip((1111, 2222), forces, strict=True)))


def test_a_row_is_mean_and_standard_deviation_over_seeds_beside_the_printed_value(typical: Path) -> None:
    text = render_markdown(table(typical))
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 | Allegro, MLP")]
    assert "| n=2 | 0.0210 ± 0.0014 | 0.016 |" in row
    assert "| 1m 40s ± 0.0s | 4h 51m |" in row
    for fragment in ("small", "aaaaaaaaaa", "2-core x86-64 CPU (test)", "stand-in", "1111, 2222", "n=2"):
        assert fragment in text


def test_ratios_and_differences_are_paired_by_seed(typical: Path) -> None:
    made = table(typical)
    row = next(row for row in made.rows if row.label.endswith("output block"))
    assert row.ratio("train_force").value == pytest.approx(math.sqrt((0.018 / 0.020) * (0.021 / 0.022)))
    difference = row.difference("train_force")
    assert (difference.mean, difference.n) == (pytest.approx(-0.0015), 2)
    assert "Too few seeds for an interval: n=2." in render_markdown(made)


def test_the_same_records_give_the_same_bytes_in_any_order(typical: Path, tmp_path: Path) -> None:
    first = [render(table(typical)) for render in (render_markdown, render_csv, render_latex)]
    moved = tmp_path / "elsewhere"
    names = sorted((typical / "records").iterdir(), reverse=True)
    write(moved, *(json.loads(path.read_text()) for path in names))
    assert [render(table(moved)) for render in (render_markdown, render_csv, render_latex)] == first
    (typical / "tables").mkdir()
    paths = write_tables([table(typical)], typical)
    assert [path.read_text() for path in paths] == first


def test_golden_files(typical: Path) -> None:
    """Layout and provenance as a whole; a wanted change is taken over by deleting the file and running this test twice."""
    missing: list[str] = []
    for suffix, render in (("md", render_markdown), ("csv", render_csv), ("tex", render_latex)):
        path = GOLDEN / f"table3.{suffix}"
        text = render(table(typical))
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            missing.append(path.name)
        assert text == path.read_text()
    assert not missing, f"{missing} were missing and have been written: look at them"


def test_budgets_never_mix(typical: Path) -> None:
    write(typical, record(seed=3333, force=9.0, **{"labels.budget": "gpu", "hash": "gggggggggg"}))
    assert budgets_of(read_evidence(typical)) == ["small", "gpu"]
    assert "0.0210 ± 0.0014" in render_markdown(table(typical))
    assert "9.0000" in render_markdown(table(typical, budget="gpu"))


def test_runs_of_other_settings_or_data_are_never_averaged_in(typical: Path) -> None:
    write(
        typical,
        record(seed=3333, force=5.0, config={"model": {"num_layers": 2}}, hash="1111111111"),
        record(seed=4444, force=7.0, **{"environment.dataset_sha256": "e" * 64, "hash": "2222222222"}),
    )
    text = render_markdown(table(typical))
    assert "0.0210 ± 0.0014" in text
    assert "allegro-none-mlp-ag-s3333-1111111111" in text
    assert "allegro-none-mlp-ag-s4444-2222222222" in text
    assert "model.num_layers" in text


def test_mixed_commits_and_dirty_code_are_flagged(typical: Path) -> None:
    clean = render_markdown(table(typical))
    assert "Mixed commits" not in clean
    write(typical, record("output", "gaussian", 2222, 0.021, **{"environment.commit": "b" * 40, "environment.dirty": True}))
    text = render_markdown(table(typical))
    assert "Mixed commits" in text
    assert "uncommitted changes" in text


def test_times_made_while_sharing_a_device_are_left_out(typical: Path) -> None:
    shared = {"environment.shared": True, "environment.runs_at_once": 2}
    spoilt = record("output", "gaussian", 2222, 0.021, **shared)
    write(typical, spoilt)
    made = table(typical)
    row = next(row for row in made.rows if row.label.endswith("output block"))
    assert (row.cell("time").values, row.cell("per_epoch").values) == ({1111: 200.0}, {1111: 10.0})
    assert set(row.cell("train_force").values) == {1111, 2222}, "errors do not depend on who else was computing"
    text = render_markdown(made)
    assert f"Times left out, made while sharing the device: `{spoilt['run_id']}`." in text

    write(typical, record("output", "gaussian", 1111, 0.018, **shared))
    made = table(typical)
    row = next(row for row in made.rows if row.label.endswith("output block"))
    assert (row.cell("time").missing, row.ratio("time")) == ("made while sharing the device", None)
    assert row.ratio("train_force") is not None

    write(typical, *(record("output", "gaussian", seed, 0.02, **{"environment.shared": False}) for seed in (1111, 2222)))
    assert "Times left out" not in render_markdown(table(typical))


def test_costs_of_runs_in_several_processes_are_left_out(typical: Path) -> None:
    together = {"environment.devices": 2, "environment.runs_at_once": 1, "environment.shared": False}
    spoilt = record("output", "gaussian", 2222, 0.021, **together, **{"metrics.memory/peak_allocated_MB": 90.0})
    write(typical, spoilt, record("output", "gaussian", 1111, 0.018, **{"environment.devices": 1}))
    made = table(typical)
    row = next(row for row in made.rows if row.label.endswith("output block"))
    assert (row.cell("time").values, row.cell("per_epoch").values) == ({1111: 200.0}, {1111: 10.0})
    assert set(row.cell("train_force").values) == {1111, 2222}, "errors are those of one process"
    assert [found.value("memory/peak_allocated_MB") for found in row.records if found.labels.seed == 2222] == [None], "of a part of a batch"
    assert f"Times left out, made by 2 processes together: `{spoilt['run_id']}`." in render_markdown(made)

    write(typical, record("output", "gaussian", 1111, 0.018, **together))
    row = next(row for row in table(typical).rows if row.label.endswith("output block"))
    assert (row.cell("time").missing, row.ratio("time")) == ("made by 2 processes together", None)
    assert row.ratio("train_force") is not None


def test_missing_cells_say_why(typical: Path) -> None:
    for placement, status in (("all", "oom"), ("besides_output", "diverged")):
        folder = typical / "runs" / f"allegro-{placement}-gaussian-ag-s1111-0123456789"
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"status": status}))
        (folder / "config.yaml").write_text("budget: {name: small}\n")
    text = render_markdown(table(typical))
    assert "failed: oom" in text
    assert "diverged" in text
    assert "no run" in render_markdown(table(typical, "6"))
    lacking = {"metrics": {"val/force_mae_eV_per_A": 0.03}, "data.n_train": 0}
    write(typical, *(record(seed=seed, **lacking) for seed in (1111, 2222)))
    assert "no train split" in render_markdown(table(typical))


def test_a_corrupt_record_is_a_named_warning(typical: Path) -> None:
    (typical / "records" / "torn.json").write_text('{"schema_version": 1, "run')
    (typical / "records" / "future.json").write_text('{"schema_version": 99}')
    warnings = " ".join(read_evidence(typical).warnings)
    assert "torn.json" in warnings
    assert "schema_version 99" in warnings
    assert "0.0210 ± 0.0014" in render_markdown(table(typical))


def test_printed_values_are_the_papers_and_every_table_is_there() -> None:
    study = load_study()
    assert list(study.tables)[:9] == ["2", "3", "4", "5", "6", "7", "8", "9", "sio2_extrapolation"]
    printed_rows = [sum(bool(row.printed) for row in spec.rows) for spec in study.tables.values()]
    assert printed_rows == [4, 4, 4, 4, 3, 6, 9, 3, 0, 0, 0, 0]
    printed = {row.label: row.printed for row in study.tables["5"].rows}
    assert printed["Allegro, Gaussian KAN in the output block"] == {
        "train_force": "0.053", "train_energy": "0.146", "val_force": "0.054", "val_energy": "0.104", "time": "4d 11h 40m",
    }  # fmt: skip


def test_table_7_prints_each_seed_and_what_predicting_zero_scores(tmp_path: Path) -> None:
    base = record(seed=1111)
    made = []
    for placement, basis in (("none", None), ("output", "bspline")):
        for seed in (1111, 2222):
            entry = copy.deepcopy(base)
            entry["run_id"] = f"mace-{placement}-{basis or 'mlp'}-carbon-s{seed}-0123456789"
            entry["labels"] |= {"model": "mace", "placement": placement, "basis": basis, "dataset": "carbon", "seed": seed}
            entry["metrics"] = {"test/force_rmse_meV_per_A": 800.0 + seed, "test/stress_zero_rmse_meV_per_A3": 119.5, "time/train_s": 60.0}
            made.append(entry)
    text = render_markdown(table(write(tmp_path, *made), "7"))
    assert "| 1111 | 1911.0 | 307.6 |" in text
    assert "| mean, n=2 |" in text
    assert "119.5" in text
    assert "predicting zero" in text


def test_the_command_writes_three_forms_and_an_index(typical: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(typical)]) == 0
    assert "Table 3" in capsys.readouterr().out
    # Table 2 shares its MLP row with Table 3; no run belongs to the others.
    made = {f"table{key}.{suffix}" for key in (2, 3) for suffix in ("md", "csv", "tex")}
    assert {path.name for path in (typical / "tables" / "small").iterdir()} == made
    index = (typical / "tables" / "README.md").read_text()
    assert "(small/table3.md)" in index
    assert index == render_index([table(typical, "2"), table(typical)], read_evidence(typical))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tables", "33"], r"--tables=33 is not known; choose from: 2, 3, 4, 5, 6, 7, 8"),
        (["--budget", "smal"], r"--budget=smal is not known.*Did you mean 'small'"),
        (["--budget", "paper"], r"no finished run of budget paper"),
    ],
)
def test_wrong_arguments_are_one_message(typical: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(typical), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error


def test_no_records_say_how_to_make_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--results", str(tmp_path)]) == 2
    assert "kanmlip-train -m experiment=" in capsys.readouterr().err


def test_a_wrong_study_file_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text("citation: x\ncolumn_sets: {}\ntables: {'1': {title: t}}\n")
    with pytest.raises(ConfigError, match=r"tables\.1\.dataset"):
        load_study(path)


@pytest.mark.parametrize(("text", "seconds"), [("4h 51m", 17460), ("2d 8h 55m", 204900), ("1d 42m", 88920), ("36s", 36)])
def test_durations_read_and_print_alike(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(format_duration(seconds).replace(".0s", "s")) == pytest.approx(seconds, abs=60)
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration("soon")
