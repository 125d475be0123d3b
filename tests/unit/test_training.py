"""The trainer on a potential that takes milliseconds."""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kanmlip.data.batching import Limits, Sizes
from kanmlip.data.graph import Graph
from kanmlip.data.neighbours import build_graphs
from kanmlip.errors import ConfigError, DivergenceError
from kanmlip.evaluation import evaluate
from kanmlip.training import FitResult, fit, loop
from kanmlip.training.averaging import ParameterAverage
from kanmlip.training.config import TrainerConfig
from kanmlip.training.frame import Frame
from kanmlip.training.loggers import LoggerConfig, build_loggers
from kanmlip.training.loss import loss_terms, total_loss
from kanmlip.training.order import training_batches
from kanmlip.training.session import Session
from tests.fakes import PairPotential, pair_frames


@pytest.fixture(scope="module")
def train() -> list[Graph]:
    return build_graphs(pair_frames(12), 3.5)


@pytest.fixture(scope="module")
def val() -> list[Graph]:
    return build_graphs(pair_frames(5, seed=1), 3.5)


def settings(**changes: Any) -> TrainerConfig:
    base = {"max_epochs": 4, "precision": "float64", "progress_bar": False, "optimizer": {"lr": 0.01}, "ema_decay": 0.9, "device": "cpu"}
    return TrainerConfig(**{**base, **changes})


def train_it(
    config: TrainerConfig, train: list[Graph], val: list[Graph], folder: Path, potential: PairPotential | None = None, **rest: Any
) -> FitResult:
    return fit(potential or PairPotential(), train, val, config, folder, [], seed=3, metadata={"run_id": "test"}, **rest)


def test_it_fits_energies_forces_and_stress(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    potential = PairPotential()
    before = evaluate(potential, val, 3, "cpu").metrics
    config = settings(max_epochs=60, loss={"energy": 1, "forces": 1, "stress": 1}, schedule={"name": "cosine"})
    result = train_it(config, train, val, tmp_path, potential)
    after = evaluate(potential, val, 3, "cpu").metrics
    for key in ("force_mae_eV_per_A", "energy_mae_eV_per_atom", "stress_mae_meV_per_A3"):
        assert after[key] < 0.3 * before[key], key
    assert result.best_value == pytest.approx(after["force_mae_eV_per_A"], rel=1e-12)
    assert (result.epochs_run, result.updates, result.stopped_because) == (60, 180, "max_epochs")
    assert not potential.training


def test_history_has_a_row_an_epoch(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    result = train_it(settings(schedule={"name": "cosine", "min_lr": 0.0}), train, val, tmp_path)
    rows = list(csv.DictReader(result.history_path.open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    rates = [float(row["lr"]) for row in rows]
    np.testing.assert_allclose(rates, [0.01 * (1 + np.cos(np.pi * t / 4)) / 2 for t in range(4)])
    assert {"train/loss", "train/loss_energy", "train/loss_forces", "val/force_mae_eV_per_A", "time/train_s"} <= set(rows[0])


def test_plateau_halves_the_learning_rate_and_early_stopping_ends_the_run(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    config = settings(
        max_epochs=50,
        optimizer={"lr": 1e-7},
        schedule={"name": "plateau", "patience": 0, "factor": 0.5, "min_lr": 0.0},
        early_stopping={"patience": 6, "min_delta": 1e-3},
    )
    result = train_it(config, train, val, tmp_path)
    assert result.epochs_run == 7
    assert "no improvement" in result.stopped_because
    rates = [float(row["lr"]) for row in csv.DictReader(result.history_path.open())]
    assert rates[-1] < rates[0]


def test_max_minutes_ends_a_run_after_the_last_epoch_that_fits(
    train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of 30 s by this clock, validation and what comes after it included: two fit into 80 s, also for a run that is resumed."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    result = train_it(settings(max_epochs=9, max_minutes=80 / 60), train, val, tmp_path)
    assert (result.epochs_run, result.train_s) == (2, 20.0)
    assert result.stopped_because == "trainer.max_minutes=1.33333 leaves no time for epoch 3 of 9"
    again = train_it(settings(max_epochs=9, max_minutes=80 / 60), train, val, tmp_path)
    assert (again.epochs_run, again.best_value) == (2, result.best_value)
    longer = train_it(settings(max_epochs=9, max_minutes=100 / 60), train, val, tmp_path)
    assert (longer.epochs_run, longer.train_s) == (3, 30.0)
    assert train_it(settings(max_epochs=9, max_minutes=1e-3), train, val, tmp_path / "short").epochs_run == 1


@pytest.mark.parametrize(("minutes", "epochs"), [(204, 3), (205, 4)], ids=str)
def test_max_minutes_counts_what_comes_before_and_after_training(
    minutes: int, epochs: int, train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 s before, epochs of 30 s, and an evaluation of 4.5 validations of 10 s: four epochs take 205 s."""
    ticks = itertools.count(step=10)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    config = settings(max_epochs=9, max_minutes=minutes / 60)
    assert train_it(config, train, val, tmp_path, frame=Frame(-40.0, 4.5)).epochs_run == epochs
    # Preparing it once more, 40 s, is counted too: 245 s with another epoch after the third.
    again = train_it(settings(max_epochs=9, max_minutes=244 / 60), train, val, tmp_path, frame=Frame(next(ticks) - 30.0, 4.5))
    assert again.epochs_run == epochs


def test_a_run_s_evaluation_is_of_all_splits_in_one_process(train: list[Graph], val: list[Graph]) -> None:
    assert Frame.of(None, {"train": val, "val": val, "test": []}, devices=1).evaluation == 2.0
    work = [int(Sizes.of(part).work.sum()) for part in (train, val)]
    assert Frame.of(None, {"train": train, "val": val, "test": val}, devices=2).evaluation == pytest.approx(2 * (2 + work[0] / work[1]))


def test_the_average_is_the_formula_and_leaves_the_trained_parameters_alone() -> None:
    module = torch.nn.Linear(2, 1)
    average = ParameterAverage(module, 0.8)
    expected = module.weight.detach().clone()
    for step in range(15):
        with torch.no_grad():
            module.weight.add_(1.0)
        average.update()
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    trained = module.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(module.weight.detach(), expected)
    assert torch.equal(module.weight, trained)


def test_the_loss_is_its_formula(train: list[Graph]) -> None:
    graph = next(training_batches(train, Limits(3), 0, 0, torch.device("cpu"))).graph
    assert graph is not None
    output = PairPotential().eval()(graph, compute_stress=True)
    config = settings(loss={"energy": 2.0, "forces": 3.0, "stress": 0.0}).loss
    energy = ((output["energy"] - graph.labels["energy"]) / graph.num_atoms).square().mean()
    forces = (output["forces"] - graph.labels["forces"]).square().mean()
    assert float(total_loss(config, loss_terms(config, output, graph))) == pytest.approx(float(2 * energy + 3 * forces))
    absolute = settings(loss={"kind": "mae", "energy": 0.0, "forces": 1.0}).loss
    expected = float((output["forces"] - graph.labels["forces"]).abs().mean())
    assert float(loss_terms(absolute, output, graph)["forces"]) == pytest.approx(expected)


def test_gradients_are_clipped(train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms = []
    original = torch.optim.Adam.step

    def spy(self: torch.optim.Adam, *args: Any, **kwargs: Any) -> Any:
        norms.append(torch.cat([p.grad.flatten() for group in self.param_groups for p in group["params"]]).norm().item())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    train_it(settings(max_epochs=1, gradient_clip=1e-3), train, val, tmp_path)
    assert max(norms) <= 1e-3 * (1 + 1e-6)
    assert norms[0] == pytest.approx(1e-3, rel=0.01)


def test_order_is_a_function_of_seed_and_epoch_that_sees_every_structure_once(train: list[Graph]) -> None:
    def frames(seed: int, epoch: int) -> list[int]:
        parts = training_batches(train, Limits(5), seed, epoch, torch.device("cpu"))
        return [int(f) for part in parts if part.graph is not None for f in part.graph.frame]

    assert frames(1, 2) == frames(1, 2)
    assert frames(1, 2) != frames(1, 3) != frames(2, 3)
    assert sorted(frames(1, 2)) == list(range(12))


@pytest.mark.parametrize("term", ["energy", "forces", "stress"])
def test_a_label_the_loss_needs_but_the_data_lack_is_named_before_training(
    term: str, train: list[Graph], val: list[Graph], tmp_path: Path
) -> None:
    lacking = [*train[:-1], replace(train[-1], labels={k: v for k, v in train[-1].labels.items() if k != term})]
    with pytest.raises(ConfigError, match=rf"trainer.loss.{term}=.*frame 11 of the training set.*trainer.loss.{term}=0"):
        train_it(settings(loss={"energy": 1, "forces": 1, "stress": 1}), lacking, val, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_divergence_is_named_and_keeps_the_last_good_checkpoint(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    train_it(settings(max_epochs=1), train, val, tmp_path)
    good = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(DivergenceError, match=r"epoch 2.*trainer.optimizer.lr"):
        forces = train[3].labels["forces"].clone()
        forces[0, 0] = float("nan")
        broken = [*train[:3], replace(train[3], labels={**train[3].labels, "forces": forces})]
        train_it(settings(max_epochs=3), broken, val, tmp_path)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == good


def test_a_metric_that_was_never_finite_is_named(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    broken = replace(val[0], positions=torch.full_like(val[0].positions, float("nan")))
    with pytest.raises(DivergenceError, match=r"val/force_mae_eV_per_A was not finite in any of 2 epochs"):
        train_it(settings(max_epochs=2), train, [broken], tmp_path)


def test_float32_networks_train_on_float64_geometry(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    potential = PairPotential(dtype=torch.float32)
    train_it(settings(precision="float32"), train, val, tmp_path, potential)
    assert next(potential.parameters()).dtype == torch.float32


def test_a_finished_run_is_not_trained_again(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    first = train_it(settings(), train, val, tmp_path)
    fresh = PairPotential(seed=5)
    second = train_it(settings(), train, val, tmp_path, fresh)
    assert second.updates == first.updates
    assert evaluate(fresh, val, 2, "cpu").metrics["force_mae_eV_per_A"] == pytest.approx(first.best_value, rel=1e-12)


def test_a_corrupt_checkpoint_falls_back_to_the_one_before(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    undisturbed = train_it(settings(), train, val, tmp_path / "a")
    train_it(settings(max_epochs=3, schedule={"name": "constant"}), train, val, tmp_path / "b")
    expected = train_it(settings(schedule={"name": "constant"}), train, val, tmp_path / "c")
    last = tmp_path / "b" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"last\.ckpt cannot be read.*earlier state"):
        resumed = train_it(settings(schedule={"name": "constant"}), train, val, tmp_path / "b")
    assert (resumed.updates, resumed.best_value) == (expected.updates, expected.best_value)
    assert undisturbed.updates == resumed.updates


def test_checkpoints_hold_nothing_but_tensors_and_plain_data(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    train_it(settings(), train, val, tmp_path)
    for name in ("last.ckpt", "best.ckpt"):
        state = torch.load(tmp_path / "checkpoints" / name, weights_only=True)
        assert state["metadata"] == {"run_id": "test"}
        assert set(state["model"]) == set(PairPotential().state_dict())


def test_monitoring_what_is_not_measured_lists_what_is(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer.monitor=val/forces.*val/force_mae_eV_per_A"):
        train_it(settings(monitor="val/forces"), train, val, tmp_path)


def test_adamw_decays_weights_and_adam_does_not() -> None:
    kinds = {name: type(Session(PairPotential(), settings(optimizer={"name": name})).optimizer) for name in ("adam", "adamw")}
    assert kinds == {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


@pytest.mark.slow
def test_tensorboard_and_offline_wandb_write_files(
    train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    loggers = build_loggers(LoggerConfig(tensorboard=True, wandb=True), tmp_path, "run-1", {"seed": 1})
    fit(PairPotential(), train, val, settings(max_epochs=2), tmp_path, loggers, 0, {})
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = run.glob("run-*.wandb")
    deadline = time.monotonic() + 60  # another process writes it, late on a busy machine
    while b"val/force_mae_eV_per_A" not in log.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert b"val/force_mae_eV_per_A" in log.read_bytes()
    assert os.environ.get("WANDB_API_KEY") is None
    # The run stays open until it is known what it came to: the record's names, and checksums of the checkpoints.
    record = tmp_path / "record.json"
    record.write_text("{}")
    best = tmp_path / "checkpoints" / "best.ckpt"
    for logger in loggers:
        logger.conclude({"test/force_rmse_meV_per_A": 1.5, "time/epochs": 2.0}, {"record": record, "best": best})
    deadline = time.monotonic() + 60
    wanted = (b"test/force_rmse_meV_per_A", hashlib.sha256(best.read_bytes()).hexdigest().encode())
    while not all(text in log.read_bytes() for text in wanted) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert all(text in log.read_bytes() for text in wanted)
    (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    assert b"final/test/force_rmse_meV_per_A" in events.read_bytes()


def test_metrics_equal_their_formulas_over_batches_of_unequal_size(val: list[Graph]) -> None:
    potential = PairPotential()
    evaluation = evaluate(potential, val, batch_size=2, device="cpu")
    p = evaluation.predictions
    force = p["forces_pred"] - p["forces_true"]
    energy = p["energy_pred"] - p["energy_true"]
    stress = p["stress_pred"] - p["stress_true"]
    expected = {
        "energy_mae_eV_per_atom": np.abs(energy / p["num_atoms"]).mean(),
        "energy_mae_eV_per_cell": np.abs(energy).mean(),
        "energy_rmse_meV_per_atom": 1e3 * np.sqrt(np.mean((energy / p["num_atoms"]) ** 2)),
        "force_mae_eV_per_A": np.abs(force).mean(),
        "force_rmse_meV_per_A": 1e3 * np.sqrt(np.mean(force**2)),
        "stress_mae_meV_per_A3": 1e3 * np.abs(stress).mean(),
        "stress_rmse_meV_per_A3": 1e3 * np.sqrt(np.mean(stress**2)),
        "stress_zero_rmse_meV_per_A3": 1e3 * np.sqrt(np.mean(p["stress_true"] ** 2)),
    }
    assert evaluation.metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert evaluation.metrics[key] == pytest.approx(value, rel=1e-10), key
    assert p["frame"].tolist() == list(range(5))
