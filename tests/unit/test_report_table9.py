"""Table 9: charges beside what needs no network, and the split by volume in a table of its own."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from kanmlip.errors import ConfigError
from kanmlip.report.collect import build_table
from kanmlip.report.csv_table import render_csv
from kanmlip.report.latex import render_latex
from kanmlip.report.markdown import render_markdown
from kanmlip.report.records import read_evidence
from kanmlip.report.study import load_study
from kanmlip.report.table import Table
from tests.unit.test_report_tables import record, write

BASELINES = {"species_mean": 0.35, "polynomial_3": 0.0146, "polynomial_7": 0.0078}


def charges(placement: str = "none", basis: str | None = None, seed: int = 1111, test: float = 0.011, **changes: Any) -> dict[str, Any]:
    """A record of Table 9; the split, its seed, more settings of the dataset and the baselines may be given."""
    split, baselines = changes.pop("split", "random"), changes.pop("baselines", BASELINES)
    dataset = {"name": "sio2_bec", "split": split, "split_seed": changes.pop("split_seed", 42), **changes.pop("dataset", {})}
    made = record(placement, basis, seed, **changes)
    made["run_id"] = f"etgnn-{placement}-{basis or 'mlp'}-sio2_bec-s{seed}-{changes.get('hash', split[:10])}"
    made["labels"] |= {"model": "etgnn", "dataset": "sio2_bec"}
    made["config"] |= {"dataset": dataset, "placement": placement, "basis": basis}
    made["metrics"] = {
        **{f"{name}/bec_mae_e": test * factor for name, factor in (("train", 0.8), ("val", 0.9), ("test", 1.0))},
        "test/bec_mae_free_e": test * 1.8,
        "test/bec_rmse_e": test * 2,
        "time/train_s": 1200.0,
        "time/per_epoch_s": 16.0,
        **{f"baseline/{name}/{part}/bec_mae_e": value for name, value in baselines.items() for part in ("train", "val", "test")},
        **{f"baseline/{name}/time/train_s": 0.2 + seed / 1e5 for name in baselines},
    }
    return made


def table(results: Path, key: str = "9") -> Table:
    return build_table(load_study(), key, read_evidence(results), "small")


@pytest.fixture
def typical(tmp_path: Path) -> Path:
    heads = (("none", None, 0.012), ("output", "gaussian", 0.011), ("output", "bspline", 0.013))
    return write(tmp_path, *(charges(p, b, s, error + s / 1e7) for p, b, error in heads for s in (1111, 2222, 3333)))


def test_baselines_stand_under_the_models_with_what_the_paper_prints(typical: Path) -> None:
    made = table(typical)
    assert [row.kind for row in made.rows] == ["average"] * 6 + ["simple"] * 3
    text = render_markdown(made)
    values = [line for line in text.splitlines() if line.startswith("| ")]
    mlp = next(line for line in values if line.startswith("| 1 |"))
    assert "| n=3 | 0.00978 ± 0.00009 | 0.00452 | 0.01100 ± 0.00010 | 0.00517 | 0.01222 ± 0.00011 | 0.00502 |" in mlp
    assert "| 20m 0s ± 0.0s | 2h 55m |" in mlp
    degree7 = next(line for line in values if line.startswith("| 9 |"))
    assert "no network: polynomial of degree 7 in (a, c, x) | – | 0.00780 | – | 0.00780 | – | 0.00780 | – |" in degree7
    assert degree7.endswith("| 0.2s | – | – |")
    assert "44 %" in text
    assert "⚠" not in text
    # A baseline is no KAN: it has neither a ratio nor a difference to the MLP row.
    assert all(row.baseline is None for row in made.rows[6:])
    assert [row.control for row in made.rows] == [False] * 3 + [True] * 3 + [False] * 3
    assert not any(f"Row {number} −" in text for number in range(4, 10))
    assert made.filled == (3, 6)


def test_all_three_forms_have_them(typical: Path) -> None:
    made = table(typical)
    rows = list(csv.DictReader(io.StringIO(render_csv(made))))
    assert rows[8]["kind"] == "simple"
    assert float(rows[8]["test_mae [e] ours_mean"]) == 0.0078
    assert rows[8]["run_ids"].startswith("etgnn-")
    assert "polynomial of degree 7" in render_latex(made)
    # The bytes do not depend on the order of files.
    assert render_csv(made) == render_csv(table(typical))


def test_runs_of_the_other_split_are_in_the_other_table(typical: Path) -> None:
    before = render_markdown(table(typical))
    worse = {"species_mean": 0.38, "polynomial_3": 0.017, "polynomial_7": 0.144}
    # More seeds than the others: without the condition on the split this group would be the row.
    write(typical, *(charges(seed=s, test=0.05, split="volume_extrapolation", baselines=worse) for s in (1, 2, 3, 4, 5)))
    assert render_markdown(table(typical)) == before
    text = render_markdown(table(typical, "sio2_extrapolation"))
    assert "| n=5 | 0.04000 ± 0.00000 |" in text
    assert "0.14400" in text
    assert "0.00780" not in text


def test_a_row_mixes_neither_budgets_nor_subsets_nor_other_random_splits(typical: Path) -> None:
    before = render_markdown(table(typical))
    write(typical, *(charges(seed=s, test=0.5, split_seed=1, hash="seed1") for s in (1, 2, 3, 4, 5)))
    write(typical, *(charges(seed=s, test=0.5, hash="gpu", **{"labels.budget": "gpu"}) for s in (1, 2, 3, 4, 5)))
    assert render_markdown(table(typical)) == before
    write(typical, charges(seed=4444, test=0.5, dataset={"n_train": 100}, hash="subset"))
    made = table(typical)
    assert made.rows[0].cell("test_mae").values.keys() == {1111, 2222, 3333}
    assert "1 finished run(s) of other settings are not averaged in (they differ in dataset.n_train)" in render_markdown(made)


def test_a_toy_set_under_the_real_name_counts_where_there_is_no_other(tmp_path: Path) -> None:
    toy = [charges(p, b, s, 0.5) for p, b in (("none", None), ("output", "gaussian")) for s in (1, 2)]
    for made in toy:
        made["config"]["dataset"] = {"n_train": 4}
        made["data"] |= {"stand_in": True, "label": "toy"}
    text = render_markdown(table(write(tmp_path, *toy)))
    assert "| 1 | ETGNN, MLP | n=2 |" in text
    assert "stand-in data: toy" in text
    assert table(tmp_path, "sio2_extrapolation").filled[0] == 0
    toy[0]["data"]["stand_in"] = False
    assert "| 1 | ETGNN, MLP | n=1 |" in render_markdown(table(write(tmp_path, toy[0])))


def test_an_unfinished_run_is_that_of_its_split(typical: Path) -> None:
    folder = typical / "runs" / "etgnn-none-mlp-sio2_bec-s4444-0123456789"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text('{"status": "oom"}')
    (folder / "config.yaml").write_text("budget: {name: small}\ndataset: {split: volume_extrapolation, split_seed: 42}\n")
    assert "0123456789" not in render_markdown(table(typical))
    extrapolation = table(typical, "sio2_extrapolation")
    assert [row.cell("test_mae").missing for row in extrapolation.rows[:2]] == ["failed: oom", "no run"]


def test_baselines_that_differ_between_runs_are_a_warning(typical: Path) -> None:
    write(typical, charges("output", "bspline", 3333, 0.013, baselines={**BASELINES, "polynomial_7": 0.0079}))
    text = render_markdown(table(typical))
    assert "row 9: its runs do not agree on train MAE (0.0078 to 0.0079)" in text
    assert "⚠" in text
    assert "row 8: its runs" not in text


def test_runs_without_baselines_say_so(tmp_path: Path) -> None:
    rows = table(write(tmp_path, charges(baselines={}))).rows
    assert [row.cell("test_mae").missing for row in rows[6:]] == ["not recorded"] * 3
    partly = table(write(tmp_path, charges(baselines={"species_mean": 0.3}), charges(seed=2222, baselines=BASELINES))).rows
    # Any run that has it will do.
    assert [bool(row.cell("test_mae").values) for row in partly[6:]] == [True] * 3


def test_a_row_has_one_source(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(
        "citation: x\ncolumn_sets: {c: [{key: k, metric: m, heading: h}]}\n"
        "tables: {'1': {title: t, dataset: d, columns: c, rows: [{label: both, baseline: b, literature: l}]}}\n"
    )
    with pytest.raises(ConfigError, match="exactly one of match, literature and baseline"):
        load_study(path)


def test_printed_values_are_the_papers() -> None:
    printed = {row.label: row.printed for row in load_study().tables["9"].rows if row.printed}
    assert list(printed["ETGNN, Gaussian KAN in the output block"].values()) == ["0.00439", "0.00473", "0.00450", "1h 36m"]
    assert len(printed) == 3
