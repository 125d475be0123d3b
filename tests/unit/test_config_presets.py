"""Every preset of conf/experiment composes and validates under every budget, and is the row of the table its name says."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.identity import run_id
from kanmlip.experiment.validation import LOOKUP_TABLES
from kanmlip.placement.config import PlacementConfig
from kanmlip.report.study import load_study
from kanmlip.schema import locate
from kanmlip.training.config import TrainerConfig
from kanmlip.training.loggers import LoggerConfig

REPOSITORY = Path(__file__).parents[2]
# Rows and controls; tune_head is a search.
PRESETS = sorted({path.stem for path in (conf_dir() / "experiment").glob("*.yaml")} - {"tune_head"})
# The class of a group's files, none where each file names its own.
GROUPS: dict[str, Any] = {
    "model": None,
    "dataset": None,
    "basis": None,
    "placement": PlacementConfig,
    "trainer": TrainerConfig,
    "logger": LoggerConfig,
}
BUDGETS = sorted(path.stem for path in (conf_dir() / "budget").glob("*.yaml"))

# Rows of the paper's tables: model, dataset, then placement and basis by preset.
TABLES = {
    "table2": ("allegro", "ag", {"none": ("none", None), **{b: ("all", b) for b in ("bspline", "gaussian", "fourier")}}),
    "table3": ("allegro", "ag", {"none": ("none", None), **{p: (p, "gaussian") for p in ("besides_output", "output", "all")}}),
    "table5": ("allegro", "hfo2", {"none": ("none", None), **{p: (p, "gaussian") for p in ("besides_output", "output", "all")}}),
    "table6": ("nequip", "ag", {"none": ("none", None), "gaussian": ("output", "gaussian"), "bspline": ("output", "bspline")}),
    "table7": ("mace", "carbon", {"none": ("none", None), "output": ("output", "bspline")}),
    "table9": ("etgnn", "sio2_bec", {"none": ("none", None), **{f"output_{b}": ("output", b) for b in ("gaussian", "bspline")}}),
}


# Controls: of each table's row "output" with this basis.
CONTROLS = {"table3": "gaussian", "table5": "gaussian", "table6": "gaussian", "table7": "bspline", "table9": "gaussian"}
for _table, _basis in CONTROLS.items():
    TABLES[_table][2].update(
        {
            "control_parameters": ("output", f"mlp_parameters_{_basis}"),
            "control_time": ("output", f"mlp_time_{_basis}"),
            "control_linear": ("output", "linear"),
        }
    )
# Learning curves: preset without its number of structures → placement and basis.
CURVES = {"learning_curve_none": ("none", None), "learning_curve_output": ("output", "gaussian")}
SIZES = (50, 200, 950)
CURVE_PRESETS = {f"{curve}_{size}" for curve in CURVES for size in SIZES}


def compose(*arguments: str) -> RunConfig:
    return compose_run(arguments)


@pytest.mark.parametrize(
    ("preset", "budget"),
    [(p, b) for p in PRESETS if p not in CURVE_PRESETS for b in BUDGETS if b == "small" or "_control_" not in p],
)
def test_preset_is_its_row(preset: str, budget: str) -> None:
    config = compose(f"experiment={preset}", f"budget={budget}", "seed=2222")
    table, row = preset.split("_", 1)
    model, dataset, rows = TABLES[table]
    assert (config.model.name, config.dataset.name) == (model, dataset)
    assert (config.placement.name, config.basis_name) == rows[row]
    assert (config.budget.name, config.seed) == (budget, 2222)
    assert config.trainer.max_epochs == config.budget.max_epochs


def test_every_row_has_its_preset() -> None:
    assert {f"{table}_{row}" for table, (_, _, rows) in TABLES.items() for row in rows} | CURVE_PRESETS == set(PRESETS)


@pytest.mark.parametrize("curve", CURVES)
def test_points_of_a_learning_curve_differ_in_their_structures_alone(curve: str) -> None:
    points = [compose(f"experiment={curve}_{size}", "budget=small") for size in SIZES]
    for size, config in zip(SIZES, points, strict=True):
        assert (config.placement.name, config.basis_name) == CURVES[curve]
        assert (config.dataset.name, config.dataset.n_train) == (f"ag_{size}", size)
        assert config.trainer.max_epochs * -(-size // config.trainer.batch_size) == 1520, "the same number of updates"
    assert compose(f"experiment={curve}_50", "budget=paper").dataset.n_train == 50
    assert compose(f"experiment={curve}_950", "budget=smoke").dataset.n_train == 16


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_note_of_a_learning_curve_names_the_budgets_of_equal_updates(budget: str) -> None:
    points = [compose(f"experiment=learning_curve_none_{size}", f"budget={budget}") for size in SIZES]
    updates = {config.trainer.max_epochs * -(-(config.dataset.n_train or 0) // config.trainer.batch_size) for config in points}
    equal = len(updates) == 1 and all(config.trainer.early_stopping.patience is None for config in points)
    tables = load_study().tables
    for size in SIZES:
        note = " ".join(tables[f"learning_curve_{size}"].notes)
        named = note.partition("the number of updates at budgets ")[2].partition(" (")[0].split(" and ")
        assert (budget in named) == equal


# One command, without overrides, is one row of the committed records.
COMMITTED = {
    "table3_none": "allegro-none-mlp-ag-s1111-5142030ebb",
    "table3_output": "allegro-output-gaussian-ag-s1111-b5f4aef62a",
    "table5_output": "allegro-output-gaussian-hfo2-s1111-4f212c57a3",
    "table6_bspline": "nequip-output-bspline-ag-s1111-89c5f8afb3",
    "table7_output": "mace-output-bspline-carbon-s1111-7744363217",
    "table9_none": "etgnn-none-mlp-sio2_bec-s1111-1ec103e9db",
}


@pytest.mark.parametrize("preset", COMMITTED)
def test_a_preset_at_small_is_the_committed_run(preset: str) -> None:
    record = json.loads((REPOSITORY / "results" / "records" / f"{COMMITTED[preset]}.json").read_text())
    config = compose(f"experiment={preset}", "budget=small", "seed=1111")
    assert run_id(config, record["environment"]["dataset_sha256"]) == COMMITTED[preset]


def test_settings_the_paper_fixes() -> None:
    mace, allegro = compose("experiment=table7_output"), compose("experiment=table2_bspline")
    assert mace.placement.mace_style == "residual"
    assert (mace.basis.arguments["grid"], mace.basis.arguments["order"]) == (3, 3)
    assert (allegro.basis.arguments["grid"], allegro.basis.arguments["order"]) == (5, 3)
    assert compose("experiment=table3_output").basis.arguments["num_basis"] == 8


def test_paper_budget_stops_early_and_uses_all_frames() -> None:
    config = compose("experiment=table3_none", "budget=paper")
    assert config.trainer.early_stopping.patience is not None
    assert config.trainer.schedule.name == "plateau"
    assert config.dataset.n_train is None
    # What the command line says counts more than what a preset or budget says.
    assert compose("budget=paper", "trainer.schedule.name=cosine").trainer.schedule.name == "cosine"
    assert compose("experiment=table3_output", "basis=fourier").basis_name == "fourier"


@pytest.mark.parametrize("file", sorted(f"{group}/{path.stem}" for group in GROUPS for path in (conf_dir() / group).glob("*.yaml")))
def test_files_name_every_setting(file: str) -> None:
    """So that each can be set from the command line without Hydra's plus sign, and is seen by who reads the file."""
    group, name = file.split("/")
    plain = yaml.safe_load((conf_dir() / file).with_suffix(".yaml").read_text())
    schema = GROUPS[group] or locate(plain["_target_"], group)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        fields = set(schema.model_fields)
        assert set(plain) - {"_target_", *LOOKUP_TABLES} == fields
    else:
        arguments = set(inspect.signature(schema).parameters)
        assert set(plain) - {"_target_", "name", "backend"} == arguments
        assert "backend" in plain
    if "name" in plain:
        assert plain["name"] == name
