"""The search for a head's settings: its preset is complete without the plug-in, and works with it."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from kanmlip.errors import MissingDependencyError
from kanmlip.experiment.composition import Composer, Sources, require_sweeper
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.status import Status, write_status
from kanmlip.experiment.summary import outcomes_chosen
from kanmlip.experiment.word import REFUSED, Word
from kanmlip.report.study import default_study_path, load_study
from kanmlip.reproduction.spec import load_runs
from tests.integration.application import FAKE, FORKING, environment, results, statuses, train

SWEEPER = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def test_the_preset_searches_width_grid_and_learning_rate() -> None:
    config = Composer(Sources(main=conf_dir())).compose(["experiment=tune_head", "budget=smoke"])
    assert config.hydra.sweeper._target_ == SWEEPER
    assert set(config.hydra.sweeper.params) == {"model.readout_width", "basis.grid", "trainer.optimizer.lr"}
    assert config.seed not in (1111, 2222, 3333)


def test_a_missing_plug_in_is_one_message() -> None:
    with pytest.raises(MissingDependencyError, match="pip install no_such_plugin"):
        require_sweeper("no_such_plugin.sweeper.Sweeper")


def test_a_search_finds_the_better_of_two(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs hydra-optuna-sweeper")
    space = '+hydra.sweeper.params={trainer.optimizer.lr: "tag(log, interval(0.001, 0.1))"}'
    done = train("-m", *FAKE, "hydra/sweeper=tune_head", "~hydra.sweeper.params", space, "hydra.sweeper.n_trials=2", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = yaml.safe_load((results() / "hydra" / "optimization_results.yaml").read_text())
    assert 0.001 <= found["best_params"]["trainer.optimizer.lr"] <= 0.1
    assert len(list((results() / "runs").iterdir())) == 2
    assert "2 of 2 runs done" in done.stdout
    (summary,) = (results() / "sweeps").iterdir()
    assert all(row["status"] == "done" and row["value"] > 0 for row in json.loads(summary.read_text())["runs"])


ONE_BY_ONE = """
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class OneByOne(BasicSweeper):
    def sweep(self, arguments):
        for seed in (3, 1, -1):
            self.launcher.launch([[*arguments, f"seed={seed}"]], initial_job_idx=0)
"""


@pytest.mark.parametrize("fault", ["3:raise", "none"])
def test_of_a_sweeper_that_chooses_its_jobs_what_failed_or_cannot_be_is_named(fault: str, tmp_path: Path) -> None:
    plugin = tmp_path / "plugins" / "hydra_plugins" / "one_by_one.py"
    plugin.parent.mkdir(parents=True)
    plugin.write_text(ONE_BY_ONE)
    path = os.pathsep.join((str(plugin.parents[1]), environment()["PYTHONPATH"]))
    sweeper = "hydra.sweeper._target_=hydra_plugins.one_by_one.OneByOne"
    done = train("-m", *FAKE, sweeper, folder=tmp_path, module=FORKING, PYTHONPATH=path, KANMLIP_TEST_FAULT=fault)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {name.split("-")[-2]: status["status"] for name, status in statuses().items()}
    assert found == {"s3": "failed" if "3" in fault else "done", "s1": "done"}
    (summary,) = (results() / "sweeps").iterdir()
    rows = json.loads(summary.read_text())["runs"]
    assert [row["run_id"].split("-")[-2:][0] for row in rows] == ["s3", "s1", REFUSED]
    assert "seed=-1" in rows[2]["reason"]
    assert f"{1 if '3' in fault else 2} of 3 runs done; not done: " in done.stdout


def test_runs_of_a_sweep_that_left_no_word_are_found_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path))
    for name, sweep in (("a", "this"), ("b", "other"), ("c", "this"), ("d", None)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_status(tmp_path / "runs" / name, Status("oom", name, reason="no room", sweep=sweep))
    rows = outcomes_chosen({"c": Word("c", "oom", "no room", 1, "m"), REFUSED: Word(REFUSED, "failed", "why", 2)}, "this")
    assert [(row.run_id, row.status, row.reason, row.metric) for row in rows] == [
        ("c", "oom", "no room", "m"), (REFUSED, "failed", "why", ""), ("a", "oom", "no room", ""),
    ]  # fmt: skip


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(repository / "scripts"), *sys.path])
    return importlib.import_module("wandb_workspace")


def views(script: ModuleType) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = script.describe_sections(load_study(), load_runs(default_study_path()))
    return found


def test_every_table_has_a_view_of_its_own_data(script: ModuleType) -> None:
    curves = [f"learning_curve_{n}" for n in (50, 200, 950)]
    assert {view["tag"] for view in views(script)} == {f"table {table}" for table in (2, 3, 5, 6, 7, 8, 9, *curves)}
    assert len({view["title"] for view in views(script)}) == len(views(script))
    assert "dataset.name" in script.GROUPS, "runs of other data that have a table's tag are no part of its rows"


def test_views_are_built_offline(script: ModuleType) -> None:
    pytest.importorskip("wandb_workspaces", reason="needs wandb-workspaces")
    for view in views(script):
        assert len(script.build(view, None, "kanmlip", "small").sections) == 2
