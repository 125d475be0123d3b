"""The one trainer learns tensors per atom and per structure, and resumes them exactly."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kanmlip.data.batching import Limits
from kanmlip.data.graph import Graph
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.toy_bec import ToyBEC
from kanmlip.errors import ConfigError
from kanmlip.evaluation import evaluate
from kanmlip.training import FitResult, fit
from kanmlip.training.config import DEFAULT_WEIGHTS, LossConfig, TrainerConfig
from kanmlip.training.loss import TERMS, loss_terms, total_loss
from kanmlip.training.order import training_batches
from tests.tensor_fakes import SpeciesTensors

CUTOFF = 2.6  # Å: nearest neighbours alone, whose dyads the fake potential adds up


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Graph], list[Graph]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KANMLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        splits = ToyBEC(name="toy_bec", n_frames=24).load(tmp_path_factory.getbasetemp())
    return build_graphs(splits.train, CUTOFF), build_graphs(splits.val, CUTOFF)


def settings(**changes: Any) -> TrainerConfig:
    base: dict[str, Any] = {
        "max_epochs": 4,
        "precision": "float64",
        "progress_bar": False,
        "optimizer": {"name": "adamw", "lr": 0.05},
        "loss": {"energy": 0, "forces": 0, "born_effective_charges": 1},
        "monitor": "val/bec_mae_e",
        "ema_decay": None,
        "device": "cpu",
    }
    return TrainerConfig(**{**base, **changes})


def train_it(config: TrainerConfig, graphs: tuple[list[Graph], list[Graph]], folder: Path, potential: SpeciesTensors) -> FitResult:
    return fit(potential, *graphs, config, folder, [], seed=3, metadata={})


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").open()))


def test_it_learns_charges_and_a_tensor_of_the_structure(graphs: tuple[list[Graph], list[Graph]], tmp_path: Path) -> None:
    potential = SpeciesTensors()
    before = evaluate(potential, graphs[1], 3, "cpu").metrics
    loss = {"energy": 0, "forces": 0, "born_effective_charges": 1, "dielectric_tensor": 2}
    result = train_it(settings(max_epochs=80, loss=loss, schedule={"name": "cosine"}), graphs, tmp_path, potential)
    after = evaluate(potential, graphs[1], 3, "cpu").metrics
    assert after["bec_mae_e"] < 0.3 * before["bec_mae_e"]
    assert after["dielectric_mae"] < 0.3 * before["dielectric_mae"]
    assert result.best_value == pytest.approx(after["bec_mae_e"], rel=1e-12)
    # Formal charges up to what the neighbours add: the signs are the data's.
    table = potential.upstream.table.detach()
    assert float(table[12].trace() - table[8].trace()) > 3
    first = rows(tmp_path)[0]
    assert {"train/loss_born_effective_charges", "train/loss_dielectric_tensor", "val/bec_mae_e", "val/bec_mae_O_e"} <= set(first)
    assert "train/loss_energy" not in first


def test_the_loss_is_the_mean_square_over_all_components(graphs: tuple[list[Graph], list[Graph]]) -> None:
    graph = next(training_batches(graphs[0], Limits(5), 0, 0, torch.device("cpu"))).graph
    assert graph is not None
    output = SpeciesTensors()(graph)
    config = LossConfig(energy=0, forces=0, born_effective_charges=3.0, dielectric_tensor=0.5)
    terms = loss_terms(config, output, graph)
    charges = (output["born_effective_charges"] - graph.labels["born_effective_charges"]).square().sum() / (9 * 5 * 8)
    dielectric = (output["dielectric_tensor"] - graph.labels["dielectric_tensor"]).square().sum() / (9 * 5)
    assert float(terms["born_effective_charges"].detach()) == pytest.approx(float(charges.detach()))
    assert float(total_loss(config, terms).detach()) == pytest.approx(float((3 * charges + 0.5 * dielectric).detach()))
    absolute = loss_terms(config.model_copy(update={"kind": "mae"}), output, graph)["dielectric_tensor"]
    expected = (output["dielectric_tensor"] - graph.labels["dielectric_tensor"]).abs().mean()
    assert float(absolute.detach()) == pytest.approx(float(expected.detach()))


def test_the_weights_of_the_configuration_are_those_of_every_label(repository: Path) -> None:
    import yaml

    loss = yaml.safe_load((repository / "conf" / "trainer" / "default.yaml").read_text())["loss"]
    assert {name: loss[name] for name in TERMS} == DEFAULT_WEIGHTS
    assert set(LossConfig.model_fields) == {"kind", "huber_delta", *TERMS}


@pytest.mark.parametrize(
    "changes",
    [
        {"ema_decay": 0.9, "schedule": {"name": "cosine"}},
        {"schedule": {"name": "plateau", "patience": 0, "cooldown": 1, "follow": "training"}},
    ],
)
def test_an_interrupted_run_ends_like_an_undisturbed_one(
    changes: dict[str, Any], graphs: tuple[list[Graph], list[Graph]], tmp_path: Path
) -> None:
    undisturbed, resumed = SpeciesTensors(), SpeciesTensors(seed=9)
    train_it(settings(max_epochs=6, **changes), graphs, tmp_path / "a", undisturbed)

    class Interrupt:
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            if step == 3:
                raise KeyboardInterrupt

        def finalize(self, status: str) -> None:
            assert status == "interrupted"

    with pytest.raises(KeyboardInterrupt):
        fit(SpeciesTensors(), *graphs, settings(max_epochs=6, **changes), tmp_path / "b", [Interrupt()], 3, {})
    result = train_it(settings(max_epochs=6, **changes), graphs, tmp_path / "b", resumed)
    assert result.epochs_run == 6
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    for one, other in zip(rows(tmp_path / "a"), rows(tmp_path / "b"), strict=True):
        assert {k: v for k, v in one.items() if k != "time/train_s"} == {k: v for k, v in other.items() if k != "time/train_s"}


def test_the_plateau_may_be_one_of_the_training_loss(graphs: tuple[list[Graph], list[Graph]], tmp_path: Path) -> None:
    """With a validation metric that stands still (its labels are what is predicted) only the followed quantity can differ."""
    train, val = graphs
    still = SpeciesTensors()
    perfect = [replace(g, labels={"born_effective_charges": torch.full_like(g.labels["born_effective_charges"], 1e3)}) for g in val]
    rates = {}
    for follow in ("training", "validation"):
        schedule = {"name": "plateau", "factor": 0.5, "patience": 1, "cooldown": 2, "follow": follow, "min_lr": 0.0}
        config = settings(max_epochs=9, optimizer={"name": "adamw", "lr": 1e-3}, schedule=schedule, monitor="val/bec_mae_e")
        potential = SpeciesTensors()
        potential.load_state_dict(still.state_dict())
        train_it(config, (train, perfect), tmp_path / follow, potential)
        rates[follow] = [float(row["lr"]) for row in rows(tmp_path / follow)]
    losses = [float(row["train/loss"]) for row in rows(tmp_path / "training")]
    assert losses == sorted(losses, reverse=True)
    assert set(rates["training"]) == {1e-3}
    assert rates["validation"] != rates["training"]


def test_cooldown_is_the_rest_after_a_reduction(graphs: tuple[list[Graph], list[Graph]], tmp_path: Path) -> None:
    for cooldown, expected in ((0, [1, 1, 0.5, 0.25, 0.125, 0.0625]), (2, [1, 1, 0.5, 0.5, 0.5, 0.25])):
        schedule = {"name": "plateau", "factor": 0.5, "patience": 0, "cooldown": cooldown, "follow": "training", "min_lr": 0.0}
        # At so small a rate no epoch improves the loss by the part in 10,000 that the schedule asks for.
        config = settings(max_epochs=6, optimizer={"lr": 1e-6}, schedule=schedule)
        train_it(config, graphs, tmp_path / str(cooldown), SpeciesTensors())
        assert [float(row["lr"]) / 1e-6 for row in rows(tmp_path / str(cooldown))] == pytest.approx(expected)


def test_a_missing_tensor_is_named_before_training(graphs: tuple[list[Graph], list[Graph]], tmp_path: Path) -> None:
    train, val = graphs
    lacking = [*train[:-1], replace(train[-1], labels={"dielectric_tensor": train[-1].labels["dielectric_tensor"]})]
    with pytest.raises(ConfigError, match=r"trainer\.loss\.born_effective_charges=1.*of the training set has no born_effective_charges"):
        train_it(settings(), (lacking, val), tmp_path, SpeciesTensors())
    with pytest.raises(ConfigError, match=r"trainer\.monitor=val/bec is not measured.*val/bec_mae_e"):
        train_it(settings(monitor="val/bec"), graphs, tmp_path, SpeciesTensors())
