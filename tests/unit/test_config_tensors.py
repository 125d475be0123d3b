"""A model of tensors trains without a flag; what cannot be is refused; and runs from before tensors keep their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kanmlip.errors import ConfigError
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.identity import run_id
from kanmlip.experiment.plan import make_plan
from kanmlip.experiment.validation import validate_run
from tests.integration.application import FAKES

SHA = "a" * 64
TENSORS = ("model=fake_tensors", "dataset=toy_bec")


def plan(*arguments: str) -> RunConfig:
    jobs = make_plan(list(arguments), False, Sources(main=conf_dir(), extra=FAKES)).jobs
    assert jobs is not None
    config: RunConfig = jobs[0].config
    return config


def test_the_default_trainer_learns_what_a_tensor_model_predicts() -> None:
    config = plan(*TENSORS)
    loss = config.trainer.loss
    assert (loss.energy, loss.forces, loss.stress, loss.born_effective_charges, loss.dielectric_tensor) == (0, 0, 0, 1, 1)
    assert config.trainer.monitor == "val/bec_mae_e"
    science = config.science()["trainer"]
    assert science["loss"] == {
        "kind": "mse", "energy": 0.0, "forces": 0.0, "stress": 0.0, "born_effective_charges": 1.0, "dielectric_tensor": 1.0,
        "huber_delta": 0.01,
    }  # fmt: skip
    again = validate_run(yaml.safe_load(yaml.safe_dump(config.to_plain())))
    assert again == config


def test_the_monitor_is_of_what_is_learned() -> None:
    assert plan(*TENSORS, "trainer.loss.born_effective_charges=0").trainer.monitor == "val/dielectric_mae"
    assert plan(*TENSORS, "trainer.monitor=val/bec_rmse_e").trainer.monitor == "val/bec_rmse_e"
    assert plan("model=fake", "dataset=fake").trainer.monitor == "val/force_mae_eV_per_A"


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["model=etgnn", "dataset=ag"], ["model=etgnn dataset=ag is an impossible pair", "models for dataset=ag: allegro, mace, nequip"]),
        (
            ["model=allegro", "dataset=toy_bec"],
            ["allegro predicts energy, forces, stress, but toy_bec provides born_effective_charges, dielectric_tensor", "etgnn"],
        ),
        ([*TENSORS, "trainer.loss.forces=10"], ["trainer.loss.forces=10 needs forces, but model=fake_tensors predicts born"]),
        (["model=fake", "dataset=fake", "trainer.loss.born_effective_charges=2"], ["but model=fake predicts energy, forces, stress"]),
        (
            [*TENSORS, "trainer.loss.born_effective_charges=0", "trainer.loss.dielectric_tensor=0"],
            ["trainer.loss.born_effective_charges=0 trainer.loss.dielectric_tensor=0 leaves nothing to learn"],
        ),
        (
            [*TENSORS, "trainer.monitor=val/force_mae_eV_per_A"],
            ["trainer.monitor=val/force_mae_eV_per_A is not known; choose from: auto, val/bec_mae_e"],
        ),
        (["model=fake", "dataset=fake", "trainer.schedule.follow=test"], ["choose from: training, validation"]),
        (["dataset=sio2_bec", "model=etgnn", "dataset.split=volume"], ["dataset.split=volume", "volume_extrapolation"]),
    ],
)
def test_impossible_settings_are_one_message(arguments: list[str], fragments: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(*arguments)
    for fragment in fragments:
        assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_predicted_tensor_that_the_data_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from kanmlip.data.toy_bec import ToyBEC

    monkeypatch.setattr(ToyBEC, "provides", property(lambda self: frozenset({"born_effective_charges"})))
    with pytest.raises(ConfigError, match=r"loss\.dielectric_tensor=1 needs dielectric_tensor, but dataset=toy_bec provides born"):
        plan(*TENSORS)
    assert plan(*TENSORS, "trainer.loss.dielectric_tensor=0").trainer.monitor == "val/bec_mae_e"


def test_etgnn_is_trained_as_published_at_budget_paper_and_within_minutes_elsewhere() -> None:
    paper = compose_run(["model=etgnn", "dataset=toy_bec", "budget=paper"]).trainer
    assert (paper.optimizer.name, paper.optimizer.lr, paper.optimizer.weight_decay, paper.batch_size) == ("adamw", 5e-4, 0.01, 60)
    schedule = paper.schedule
    assert (schedule.name, schedule.follow) == ("plateau", "training")
    assert (schedule.factor, schedule.patience, schedule.cooldown, schedule.min_lr) == (0.5, 5, 2, 1e-6)
    assert paper.early_stopping.patience == 30
    assert (paper.loss.kind, paper.ema_decay, paper.gradient_clip) == ("mse", None, None)
    for budget in ("smoke", "small", "gpu", "paper"):
        config = compose_run(["model=etgnn", "dataset=toy_bec", f"budget={budget}"])
        assert config.trainer.optimizer.name == "adamw"
        assert config.trainer.max_epochs == config.budget.max_epochs
    # What the command line says counts most, and other models are not concerned.
    assert compose_run(["model=etgnn", "dataset=toy_bec", "trainer.batch_size=7"]).trainer.batch_size == 7
    assert compose_run(["model=etgnn", "dataset=toy_bec", "tuning=etgnn_paper"]).trainer.batch_size == 60
    assert compose_run(["model=mace", "dataset=toy"]).trainer.optimizer.name == "adam"


def records(repository: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((repository / "results" / "records").glob("*.json"))]


def arguments_of(record: dict[str, Any]) -> list[str]:
    """What a user would type for the settings of a record."""
    labels, config = record["labels"], record["config"]
    head, basis, dataset, trainer = config["placement"].get("head", {}), config["basis"], config["dataset"], config["trainer"]
    arguments = [f"{group}={labels[group]}" for group in ("model", "placement", "budget", "seed")]
    arguments += [f"dataset={labels['dataset'].partition('_')[0]}"]  # points of a learning curve have a name of their own
    arguments += [f"dataset.{key}={dataset[key]}" for key in ("name", "n_train")]
    if basis or head.get("kind") == "linear":
        arguments += [f"basis={basis['name'] if basis else 'gaussian'}"]
        arguments += ["basis.grid=3"] if basis and labels["model"] == "mace" else []
    arguments += [f"placement.head.{key}={head[key]}" for key in ("kind", "match", "cost_ratio") if key in head]
    arguments += [f"trainer.{key}={trainer[key]}" for key in ("batch_size", "max_epochs")]
    return [*arguments, f"trainer.optimizer.lr={trainer['optimizer']['lr']}"]


def test_recorded_runs_keep_their_ids(repository: Path) -> None:
    """Every record's settings, composed anew by this version, lead to the id it was recorded under."""
    checked = {"rows": 0, "controls": 0, "points of learning curves": 0}
    for record in records(repository):
        labels = record["labels"]
        if labels["model"] not in ("allegro", "nequip", "mace"):
            continue
        config = compose_run(arguments_of(record))
        if record["config"] != config.science():
            continue  # made with other flags than these
        assert run_id(config, record["environment"]["dataset_sha256"]) == record["run_id"]
        kind = "controls" if "kind" in record["config"]["placement"].get("head", {}) else "rows"
        checked["points of learning curves" if "_" in labels["dataset"] else kind] += 1
    assert checked["rows"] >= 34
    assert checked["controls"] >= 24
    assert checked["points of learning curves"] >= 12


def test_newer_settings_enter_the_hash_only_off_their_default(tmp_path: Path) -> None:
    config = plan("model=fake", "dataset=fake")
    assert not {"born_effective_charges", "dielectric_tensor"} & set(config.science()["trainer"]["loss"])
    assert not {"cooldown", "follow"} & set(config.science()["trainer"]["schedule"])
    rest = plan("model=fake", "dataset=fake", "trainer.schedule.cooldown=2")
    assert rest.science()["trainer"]["schedule"]["cooldown"] == 2
    assert run_id(rest, SHA) != run_id(config, SHA)
    path = tmp_path / "my.xyz"
    path.write_text("".join(f"2\nProperties=species:S:1:pos:R:3 energy=1\nAr 0 0 0\nAr 0 0 {3 + i / 10}\n" for i in range(5)))
    own = ["model=fake", "dataset=extxyz", f"dataset.train={path}", "trainer.loss.forces=0"]
    assert not {"born_key", "dielectric_key"} & set(plan(*own).science()["dataset"])
    assert plan(*own, "dataset.born_key=null").science()["dataset"]["born_key"] is None
