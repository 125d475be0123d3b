"""A run's id depends on what it computes, and on nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanmlip.data.labels import TENSOR_LABELS
from kanmlip.errors import ConfigError
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.config import RunConfig, trainer_science
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.identity import run_id
from kanmlip.experiment.plan import make_plan
from kanmlip.experiment.validation import validate_run
from kanmlip.kan import Gaussian
from kanmlip.placement.config import HeadConfig
from kanmlip.training.config import TrainerConfig
from tests.integration.application import FAKES, environment

SHA = "a" * 64
FAKE = ("model=fake", "dataset=fake", "placement=output")


def configure(*arguments: str) -> RunConfig:
    plan = make_plan(arguments, False, Sources(main=conf_dir(), extra=FAKES))
    assert plan.jobs is not None
    config: RunConfig = plan.jobs[0].config
    return config


def identify(*arguments: str) -> str:
    return run_id(configure(*arguments), SHA)


def test_form() -> None:
    name, digest = identify(*FAKE, "seed=7").rsplit("-", 1)
    assert name == "fake-output-gaussian-fake-s7"
    assert len(digest) == 10
    assert identify(*FAKE, "placement=none").startswith("fake-none-mlp-fake-s1111-")


@pytest.mark.parametrize(
    "same",
    [
        ("logger=all",),
        ("logger.project=other",),
        ("trainer.device=cpu",),
        ("trainer.threads=2",),
        ("trainer.progress_bar=false",),
        ("trainer.checkpoint_every_epochs=5",),
        ("trainer.eval_batch_size=3",),
        ("trainer.devices=4",),
        ("trainer.preflight=false",),
        ("timeout_s=100", "force=true"),
        ("trainer.gradient_clip=10",),  # an integer for a float
    ],
)
def test_how_a_run_is_made_does_not_enter(same: tuple[str, ...]) -> None:
    assert identify(*FAKE, *same) == identify(*FAKE)


def test_order_does_not_enter() -> None:
    arguments = (*FAKE, "trainer.batch_size=3", "seed=4")
    assert identify(*reversed(arguments)) == identify(*arguments)


def test_what_has_no_effect_does_not_enter() -> None:
    none = (*FAKE, "placement=none")
    assert identify(*none, "basis=bspline") == identify(*none, "basis=fourier") == identify(*none, "placement.head.norm=layer")
    assert identify(*FAKE, "basis=bspline") != identify(*FAKE, "basis=fourier")


@pytest.mark.parametrize(
    "different",
    ["seed=2", "trainer.max_epochs=3", "trainer.optimizer.lr=0.1", "basis.num_basis=4", "placement.head.norm=layer", "model.cutoff=3.5",
     "dataset.n_train=3", "budget=smoke", "trainer.precision=float64", "trainer.batch_size=2", "trainer.batch_atoms=99",
     "trainer.batch_edges=99"],
)  # fmt: skip
def test_what_changes_a_result_enters(different: str) -> None:
    assert identify(*FAKE, different) != identify(*FAKE)


def test_data_enter() -> None:
    config = configure(*FAKE)
    assert run_id(config, "b" * 64) != run_id(config, SHA)


def test_paths_do_not_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.integration.fakes import FakeDataset

    before = identify(*FAKE, "dataset.subset_seed=1")
    assert before != identify(*FAKE, "dataset.subset_seed=2")
    monkeypatch.setattr(FakeDataset, "path_fields", frozenset({"subset_seed"}))
    assert identify(*FAKE, "dataset.subset_seed=1") == identify(*FAKE, "dataset.subset_seed=2")


def test_settings_survive_the_run_folder() -> None:
    config = configure(*FAKE, "basis=bspline", "trainer.early_stopping.patience=3")
    again = validate_run(yaml.safe_load(yaml.safe_dump(config.to_plain())))
    assert again == config
    assert run_id(again, SHA) == run_id(config, SHA)


def test_another_process_gives_the_same_id() -> None:
    code = (
        "from tests.unit.test_experiment_identity import FAKE, identify\n"
        "print(identify(*FAKE))"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], env=environment(PYTHONHASHSEED="7"), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == identify(*FAKE)


@pytest.mark.parametrize("change", [{"match": "parameters"}, {"update_grid": True}], ids=str)
def test_settings_newer_than_recorded_runs_enter_only_when_they_are_not_at_their_default(change: dict[str, Any]) -> None:
    config = configure(*FAKE)
    changed = config.model_copy(update={"placement": config.placement.model_copy(update={"head": HeadConfig(**change)})})
    assert not set(change) & set(config.science()["placement"]["head"])
    assert change.items() <= changed.science()["placement"]["head"].items()
    assert run_id(changed, SHA) != run_id(config, SHA)


def test_batches_that_are_filled_by_size_have_no_number_of_structures() -> None:
    by_size = (*FAKE, "trainer.batch_atoms=99")
    assert identify(*by_size, "trainer.batch_size=3") == identify(*by_size)
    assert not {"batch_atoms", "batch_edges", "devices"} & set(configure(*FAKE).science()["trainer"])


class Own(Gaussian):
    """Somebody's basis."""


class Other(Gaussian):
    """Somebody else's, of the same settings."""


def test_classes_that_are_none_of_ours_are_told_apart() -> None:
    ours = ("basis=gaussian", "basis.name=mine")
    names = {identify(*FAKE, *ours), *(identify(*FAKE, *ours, f"basis._target_={__name__}.{own.__name__}") for own in (Own, Other))}
    assert len(names) == 3
    assert configure(*FAKE).science()["model"]["_target_"] == "tests.integration.fakes.FakeModel"
    assert not any("_target_" in configure("placement=output").science()[section] for section in ("model", "basis", "dataset"))


def test_recorded_runs_keep_their_names(repository: Path) -> None:
    """Settings of the trainer that came after a record leave its name alone."""
    records = [json.loads(path.read_text()) for path in sorted((repository / "results" / "records").glob("*.json"))]
    if not records:
        pytest.skip("no records here")
    for record in records:
        science = record["config"]
        learned = frozenset(label.name for label in TENSOR_LABELS if label.name in science["trainer"]["loss"])
        science["trainer"] = trainer_science(TrainerConfig(**science["trainer"]), learned)
        whole = {
            "schema_version": record["science_version"], "dataset_sha256": record["environment"]["dataset_sha256"], "config": science,
        }  # fmt: skip
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
        assert record["run_id"].endswith(hashlib.sha256(text.encode()).hexdigest()[:10]), record["run_id"]


def test_the_kernels_are_no_part_of_what_a_run_is() -> None:
    assert identify(*FAKE, "basis.backend=reference") == identify(*FAKE)
    assert configure(*FAKE, "basis.backend=reference").to_plain()["basis"]["backend"] == "reference"
    with pytest.raises(ConfigError, match=r"backend=cdua is not known; choose from: auto, reference"):
        configure(*FAKE, "basis.backend=cdua")
