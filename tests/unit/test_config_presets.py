"""Every preset of conf/experiment composes and validates under every budget, and is the row of the table its name says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.validation import LOOKUP_TABLES
from kanmlip.placement.config import PlacementConfig
from kanmlip.schema import locate
from kanmlip.training.config import TrainerConfig
from kanmlip.training.loggers import LoggerConfig

PRESETS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
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


def compose(*arguments: str) -> RunConfig:
    return compose_run(arguments)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("preset", PRESETS)
def test_preset_is_its_row(preset: str, budget: str) -> None:
    config = compose(f"experiment={preset}", f"budget={budget}", "seed=2222")
    table, row = preset.split("_", 1)
    model, dataset, rows = TABLES[table]
    assert (config.model.name, config.dataset.name) == (model, dataset)
    assert (config.placement.name, config.basis_name) == rows[row]
    assert (config.budget.name, config.seed) == (budget, 2222)
    assert config.trainer.max_epochs == config.budget.max_epochs


def test_every_row_has_its_preset() -> None:
    assert {f"{table}_{row}" for table, (_, _, rows) in TABLES.items() for row in rows} == set(PRESETS)


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
