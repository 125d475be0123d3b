"""What is run for which rows: all of the paper's, each once, shared between tables, the most telling first; and what it will cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kanmlip.errors import ConfigError, DataError
from kanmlip.experiment.atomic import write_json
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.folders import conf_dir, record_path, results_root
from kanmlip.report.records import READABLE_SCHEMA_VERSIONS, Record, read_evidence
from kanmlip.report.study import default_study_path, load_study
from kanmlip.reproduction.estimate import UNMEASURED, Estimator
from kanmlip.reproduction.expansion import Expansion
from kanmlip.reproduction.listing import duration
from kanmlip.reproduction.progress import standing
from kanmlip.reproduction.spec import PresetRuns, Runs, Stage, load_runs

RUNS = load_runs(default_study_path())
STUDY = load_study()
# Rows that the paper prints, table by table: 37.
PRINTED = {"2": 4, "3": 4, "4": 4, "5": 4, "6": 3, "7": 6, "8": 9, "9": 3}
PRESETS = [runs for stage in RUNS.stages for runs in stage.runs]


def only(*presets: str) -> list[Stage]:
    return [Stage(name="some", runs=tuple(runs for runs in PRESETS if runs.preset in presets))]


def expansion(budget: str, *overrides: str) -> Expansion:
    return Expansion(Sources(main=conf_dir()), budget, overrides)


def test_every_printed_row_has_what_makes_it() -> None:
    made = [row for runs in PRESETS for row in runs.rows] + [*RUNS.benchmarks.rows, *RUNS.literature]
    assert sorted(made) == sorted(f"{table}.{row}" for table, rows in PRINTED.items() for row in range(1, rows + 1))
    assert len(made) == 37
    assert sum(len(runs.seeds) or 1 for runs in PRESETS if runs.rows) == 22, "training runs, as the paper's seeds count"
    assert len(RUNS.benchmarks.rows) == 4
    assert len(RUNS.literature) == 6
    assert all("control" in runs.preset or "learning_curve" in runs.preset for runs in PRESETS if not runs.rows)


@pytest.mark.parametrize("runs", [runs for runs in PRESETS if runs.rows], ids=lambda runs: runs.preset)
def test_a_preset_is_the_rows_it_stands_for(runs: PresetRuns) -> None:
    seed = runs.seeds[1] if runs.seeds else 1111
    step = expansion("small").step("some", runs, seed)
    labels = step.planned.config
    for place in step.places:
        table, _, row = place.partition(".")
        match = STUDY.tables[table].rows[int(row) - 1].match
        assert match is not None
        assert (match.model, match.placement, match.basis) == (labels.model.name, labels.placement.name, labels.basis_name)
        assert STUDY.tables[table].dataset == labels.dataset.name
        assert match.seed == (seed if runs.seeds else None)


@pytest.mark.parametrize("runs", PRESETS, ids=lambda runs: runs.preset)
def test_wandb_has_runs_of_one_data_set_under_the_name_of_a_table(runs: PresetRuns) -> None:
    step = expansion("small").step("some", runs, 1111)
    labels = step.planned.config
    assert labels.logger.group == f"table {runs.tables[0]}, small"
    tables = [tag.removeprefix("table ") for tag in labels.logger.tags if tag.startswith("table ")]
    assert tables == list(runs.tables)
    assert {STUDY.tables[table].dataset for table in tables} == {labels.dataset.name}


def test_literature_rows_are_constants() -> None:
    for place in RUNS.literature:
        table, _, row = place.partition(".")
        assert STUDY.tables[table].rows[int(row) - 1].literature is not None


def test_runs_are_shared_and_pairs_complete_early() -> None:
    shared = Stage(name="some", runs=(PresetRuns(preset="table2_none", rows=("2.1",)), PresetRuns(preset="table3_none", rows=("3.1",))))
    (step,) = expansion("small").steps([shared], [1111])
    assert step.places == ("2.1", "3.1")
    steps = expansion("small").steps(only("table3_none", "table3_output"), [5, 6])
    assert [(step.preset, step.planned.config.seed) for step in steps] == [
        ("table3_none", 5), ("table3_output", 5), ("table3_none", 6), ("table3_output", 6),
    ]  # fmt: skip
    # Seeds that the paper prints come besides those asked for, each with its own row.
    steps = expansion("smoke").steps(only("table7_output"), [2222, 9])
    assert [(step.planned.config.seed, step.places) for step in steps] == [
        (2222, ("7.5", "8.2")), (9, ("beside 7", "beside 8")), (1111, ("7.4", "8.1")), (3333, ("7.6", "8.3")),
    ]  # fmt: skip


def test_the_most_telling_comparisons_come_first() -> None:
    assert RUNS.stage_names[0] == "headline"
    assert {runs.preset for runs in RUNS.stages[0].runs} == {"table3_none", "table3_output", "table5_none", "table5_output"}
    assert RUNS.stage_names[-2:] == ["controls", "learning_curves"]


def test_wandb_groups_and_tags_by_row_and_leaves_the_run_what_it_is() -> None:
    step = expansion("small").step("headline", next(runs for runs in PRESETS if runs.preset == "table3_none"), 1111)
    assert step.planned.config.logger.group == "table 2, small"
    assert {"small", "headline", "table 2", "table 3", "row 2.1", "row 3.1"} == set(step.planned.config.logger.tags)
    assert step.run_id == "allegro-none-mlp-ag-s1111-5142030ebb", "the committed run"


def test_missing_data_has_a_stand_in_at_smoke_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_DATA", str(tmp_path))
    steps = expansion("smoke").steps(only("table5_output", "table9_none", "learning_curve_none_50"), [1])
    assert [(step.planned.config.dataset.name, step.stand_in) for step in steps] == [
        ("hfo2", "toy"), ("sio2_bec", "toy_bec"), ("ag_50", "toy"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="only budget=smoke goes on with made data"):
        expansion("small").steps(only("table5_output"), [1])


def record(run_id: str, version: int, seconds: float, config: dict[str, Any], labels: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema_version": version, "run_id": run_id, "status": "done", "labels": labels, "config": config,
        "metrics": {"time/train_s": seconds},
    }  # fmt: skip


def test_estimates_are_of_records_of_the_same_kind_else_of_the_model() -> None:
    step = expansion("small").steps(only("table3_output"), [1])[0]
    config = step.planned.config
    labels = {"model": "allegro", "placement": "output", "basis": "gaussian", "dataset": "ag", "budget": "small", "seed": 99}
    of_kind = Record.model_validate(record("a", 1, 100.0, config.science(), labels))
    other = Record.model_validate(record("b", 1, 9999.0, config.science(), {**labels, "placement": "all"}))
    longer = {**config.science(), "trainer": {**config.science()["trainer"], "max_epochs": 999}}
    longer_record = Record.model_validate(record("c", 1, 9999.0, longer, labels))
    by_size = {**config.science(), "trainer": {**config.science()["trainer"], "batch_atoms": 400}}
    by_size_record = Record.model_validate(record("d", 1, 9999.0, by_size, labels))
    found = Estimator(RUNS.costs, [of_kind, other, longer_record, by_size_record]).estimate(config)
    assert (found.basis, found.seconds) == ("records", pytest.approx(120.0))
    modelled = Estimator(RUNS.costs, [other]).estimate(config)
    assert modelled.basis == "model"
    # 20 epochs of 150 structures, and 50 in validation, at 0.012 s, a head of 1.3.
    assert modelled.seconds == pytest.approx(10 + 20 * (150 + 0.4 * 50) * 0.012 * 1.3)
    stranger = config.model_copy(update={"model": config.model.model_copy(update={"name": "stranger"})})
    assert Estimator(RUNS.costs, []).estimate(stranger).basis == UNMEASURED


def test_what_is_done_is_known_from_the_records_alone() -> None:
    step = expansion("small").steps(only("table3_output"), [1])[0]
    assert standing(step, read_evidence(results_root())).state == "pending"
    labels = {"model": "allegro", "placement": "output", "basis": "gaussian", "dataset": "ag", "budget": "small", "seed": 1}
    newest = max(READABLE_SCHEMA_VERSIONS)
    write_json(record_path(step.run_id), record(step.run_id, newest, 1.0, {}, labels))
    found = standing(step, read_evidence(results_root()))
    assert (found.state, found.is_to_be_run(renew=True)) == ("done", False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"stages": [{"name": "a", "runs": [{"preset": "p", "rows": ["2.1"]}, {"preset": "p", "rows": ["2.2"]}]}]},
            "preset given twice: p",
        ),
        ({"stages": [{"name": "a", "runs": [{"preset": "p", "rows": ["2.1"]}, {"preset": "q", "rows": ["2.1"]}]}]}, "row given twice: 2.1"),
        ({"stages": [{"name": "a", "runs": [{"preset": "p"}]}]}, "needs either rows or beside"),
        ({"stages": [{"name": "a", "runs": [{"preset": "p", "rows": ["7.1"], "seeds": [1, 2]}]}]}, "needs as many rows"),
        ({"stages": [{"name": "a", "runs": [{"preset": "p", "row": ["7.1"]}]}]}, "runs.stages.0.runs.0.row"),
    ],
)
def test_a_faulty_file_is_named_with_its_key(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "reproduction.yaml"
    path.write_text(yaml.safe_dump({"runs": {**RUNS.model_dump(mode="json"), **change}}))
    with pytest.raises(ConfigError, match=words) as raised:
        load_runs(path)
    assert str(path) in str(raised.value)


def test_choosing_by_table_and_stage() -> None:
    stages, benchmarks = RUNS.chosen([], ["8"])
    assert [runs.preset for stage in stages for runs in stage.runs] == ["table7_output"]
    assert not benchmarks
    assert RUNS.chosen(["benchmarks"], []) == ((), True)
    assert RUNS.chosen([], ["4"]) == ((), True)
    assert isinstance(RUNS, Runs)
    assert [duration(s) for s in (40, 600, 7200, 400000)] == ["40 s", "10 min", "2.0 h", "4.6 d"]
