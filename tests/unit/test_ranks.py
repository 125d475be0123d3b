"""Training in several processes is training in one: gradients, metrics, history, weights, checkpoints."""

from __future__ import annotations

import copy
import csv
import itertools
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kanmlip.data.batching import Sizes
from kanmlip.data.graph import Graph
from kanmlip.data.labels import LABELS
from kanmlip.data.neighbours import build_graphs
from kanmlip.evaluation import evaluate
from kanmlip.evaluation.tensor_metrics import TensorMetrics
from kanmlip.placement.config import HeadConfig
from kanmlip.training import fit, follow, loop
from kanmlip.training.config import TrainerConfig
from kanmlip.training.loop import open_fabric, session_of_first, share_state
from kanmlip.training.order import part_of, training_batches
from kanmlip.training.ranks import ALONE, Ranks, joined
from kanmlip.training.session import Session
from kanmlip.training.step import compute_gradients
from tests.conftest import rattled_silver
from tests.fakes import PairPotential, pair_frames
from tests.models.cases import Case, build_case
from tests.models.tensors import build_model, etgnn, silica
from tests.processes import in_processes

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def train() -> list[Graph]:
    return build_graphs(pair_frames(11, sizes=(1, 2, 3)), 3.5)


@pytest.fixture(scope="module")
def val() -> list[Graph]:
    return build_graphs(pair_frames(5, seed=1), 3.5)


def settings(**changes: Any) -> TrainerConfig:
    base = {
        "max_epochs": 4, "precision": "float64", "progress_bar": False, "optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.1},
        "ema_decay": 0.9, "device": "cpu", "batch_size": 5, "schedule": {"patience": 0}, "gradient_clip": 1.0,
        "loss": {"energy": 1, "forces": 1, "stress": 1},
    }  # fmt: skip
    return TrainerConfig(**{**base, **changes})


def gradients(potential: nn.Module, graphs: list[Graph], config: TrainerConfig, ranks: Ranks) -> list[Tensor | None]:
    """Of the loss of all graphs as one batch."""
    session = Session(potential.train(), config)
    part = part_of(graphs, range(len(graphs)), Sizes.of(graphs), CPU, ranks)
    compute_gradients(session, part, open_fabric(config))
    ranks.sum_gradients(session.average.parameters)
    return [p.grad for p in session.average.parameters]


def assert_same_gradients(potential: nn.Module, graphs: list[Graph], config: TrainerConfig, size: int) -> None:
    alone = gradients(copy.deepcopy(potential), graphs, config, ALONE)
    scale = max(float(g.abs().max()) for g in alone if g is not None)
    assert scale > 0
    for found in in_processes(size, lambda ranks: gradients(potential, graphs, config, ranks)):
        assert isinstance(found, list), found
        for one, other in zip(alone, found, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert float((one - other).abs().max()) <= 1e-10 * scale


@pytest.mark.parametrize("kind", ["mse", "mae", "huber"])
@pytest.mark.parametrize(("structures", "size"), [(5, 2), (7, 3), (1, 2)])
def test_gradients_are_those_of_one_process(train: list[Graph], kind: str, structures: int, size: int) -> None:
    """Of structures with 4, 8 and 12 atoms, unequally many a process, and of fewer structures than processes."""
    config = settings(loss={"kind": kind, "energy": 1, "forces": 2, "stress": 3})
    assert_same_gradients(PairPotential(), train[:structures], config, size)


@pytest.mark.parametrize("case", [Case("allegro", "all", "bspline"), Case("mace", "output", "gaussian")], ids=str)
def test_gradients_of_a_model_with_kans_are_those_of_one_process(case: Case) -> None:
    pytest.importorskip(case.model)
    frames = [rattled_silver(repeat, seed) for seed, repeat in enumerate([(1, 1, 1), (2, 1, 1), (1, 1, 1)])]
    potential, _, model, _ = build_case(case, frames, torch.float64)
    assert_same_gradients(potential, model.graphs(frames), settings(), 2)


def test_a_parameter_that_no_label_reads_has_a_gradient_in_no_process() -> None:
    """ETGNN's node block as published: with weight decay, a gradient of zeros would shrink it, none leaves it alone."""
    frames = [silica(seed) for seed in range(3)]
    model = etgnn(unread_node_block=True)
    potential, _ = build_model(model, frames)
    charges = [torch.randn(9, 3, 3, dtype=torch.float64) for _ in frames]
    graphs = [replace(g, labels={"born_effective_charges": z}) for g, z in zip(model.graphs(frames), charges, strict=True)]
    config = settings(loss={"energy": 0, "forces": 0, "born_effective_charges": 1})
    assert any(g is None for g in gradients(copy.deepcopy(potential), graphs, config, ALONE))
    assert_same_gradients(potential, graphs, config, 2)


def run(ranks: Ranks, train: list[Graph], val: list[Graph], config: TrainerConfig, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Train as one of the processes; each starts with weights of its own, of which the first process's count."""
    potential = PairPotential(seed=seed + ranks.rank)
    if not ranks.leads:
        follow(potential, train, val, config, 3, ranks)
        return {}
    result = fit(potential, train, val, config, folder, [], 3, {"run_id": "test"}, ranks)
    return {"updates": result.updates, "best": result.best_value, "weights": dict(potential.state_dict())}


def history(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "history.csv").open())
    return [{name: float(value) for name, value in row.items() if not name.startswith("time/")} for row in rows]


def assert_same_run(folders: tuple[Path, Path], results: tuple[dict[str, Any], dict[str, Any]]) -> None:
    one, other = (history(folder) for folder in folders)
    assert len(one) == len(other) > 0
    for row, same in zip(one, other, strict=True):
        assert row == pytest.approx(same, rel=1e-9)
    assert results[0]["updates"] == results[1]["updates"]
    for name, value in results[0]["weights"].items():
        torch.testing.assert_close(value, results[1]["weights"][name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("size", "changes"), [(2, {}), (3, {"batch_size": 2}), (2, {"batch_atoms": 24, "loss": {"energy": 1, "forces": 1}})], ids=str
)
def test_a_run_of_several_processes_is_that_of_one(
    size: int, changes: dict[str, Any], train: list[Graph], val: list[Graph], tmp_path: Path
) -> None:
    config = settings(**changes)
    alone = run(ALONE, train, val, config, tmp_path / "alone")
    together = in_processes(size, lambda ranks: run(ranks, train, val, config, tmp_path / "together"))
    assert together[1:] == [{}] * (size - 1)
    assert_same_run((tmp_path / "alone", tmp_path / "together"), (alone, together[0]))
    # One process writes, and what one process alone writes.
    files = [sorted(str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*")) for name in ("alone", "together")]
    assert files[0] == files[1]


def test_all_end_by_the_first_process_s_clock(
    train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who ended by its own, here a hundred times as fast or slow, would leave the others waiting."""

    def body(ranks: Ranks) -> int:
        ticks = itertools.count(step=10 if ranks.leads else 1000)
        monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
        return len(run(ranks, train, val, settings(max_epochs=9, max_minutes=80 / 60), tmp_path))

    assert in_processes(2, body) == [3, 0]
    assert len(history(tmp_path)) == 2


@pytest.mark.parametrize("sizes", [(2, 1), (1, 3), (3, 2)], ids=str)
def test_a_run_goes_on_with_another_number_of_processes(
    sizes: tuple[int, int], train: list[Graph], val: list[Graph], tmp_path: Path
) -> None:
    config = settings()
    alone = run(ALONE, train, val, config, tmp_path / "alone")
    parts = tmp_path / "parts"
    for size, epochs in zip(sizes, (2, 4), strict=True):
        now = settings(max_epochs=epochs)
        resumed = in_processes(size, lambda ranks, now=now: run(ranks, train, val, now, parts, seed=7 if now.max_epochs == 4 else 0))
    assert_same_run((tmp_path / "alone", parts), (alone, resumed[0]))


def test_scales_and_grids_that_another_process_calibrated_otherwise_are_the_first_one_s() -> None:
    pytest.importorskip("allegro")
    frames = [[rattled_silver((1, 1, 1), seed, amplitude)] for seed, amplitude in ((1, 0.05), (2, 0.25))]
    head = HeadConfig(update_grid=True)
    built = [build_case(Case("allegro", "output", "bspline"), own, torch.float64, head) for own in frames]
    graph = built[0][1]
    energies = [float(potential(graph)["energy"]) for potential, *_ in built]
    assert energies[0] != energies[1], "the two calibrations are to differ"

    def start(ranks: Ranks) -> float:
        potential = built[ranks.rank][0]
        if ranks.leads:
            share_state(Session(potential, settings()), ranks)
        else:
            session_of_first(potential, settings(), open_fabric(settings()), ranks)
        return float(potential(graph)["energy"])

    assert in_processes(2, start) == [energies[0]] * 2


def test_metrics_are_those_of_one_process(val: list[Graph]) -> None:
    potential = PairPotential()
    expected = evaluate(potential, val, 2, "cpu").metrics
    for size in (2, 3, 7):
        found = in_processes(size, lambda ranks: evaluate(potential, val, 2, "cpu", with_predictions=False, ranks=ranks).metrics)
        assert all(metrics == found[0] for metrics in found), "every process must draw the same conclusions"
        assert found[0] == pytest.approx(expected, rel=1e-13)


def test_metrics_of_species_that_a_process_never_meets_are_merged() -> None:
    random = torch.Generator().manual_seed(1)
    target = torch.randn(6, 3, 3, generator=random, dtype=torch.float64)
    prediction = target + torch.randn(6, 3, 3, generator=random, dtype=torch.float64)
    numbers = torch.tensor([8, 8, 8, 14, 14, 47])
    whole = TensorMetrics(LABELS["born_effective_charges"], CPU)
    whole.update(prediction, target, numbers)
    first, second = (TensorMetrics(LABELS["born_effective_charges"], CPU) for _ in range(2))
    first.update(prediction[:3], target[:3], numbers[:3])
    second.update(prediction[3:], target[3:], numbers[3:])
    first.merge({key: dict(metric.metric_state) for key, metric in second.metrics.items()})  # type: ignore[arg-type]
    assert first.compute() == pytest.approx(whole.compute(), rel=1e-13)
    assert {"bec_mae_O_e", "bec_mae_Si_e", "bec_mae_Ag_e"} <= set(first.compute())


def test_every_process_has_its_part_of_the_same_batches(train: list[Graph]) -> None:
    def frames(ranks: Ranks, epoch: int) -> list[list[int]]:
        parts = training_batches(train, settings().limits, 3, epoch, CPU, ranks)
        return [[] if part.graph is None else part.graph.frame.tolist() for part in parts]

    for epoch in range(3):
        alone = frames(ALONE, epoch)
        together = [frames(Ranks(rank, 2), epoch) for rank in range(2)]
        for batch, *parts in zip(alone, *together, strict=True):
            assert sorted(batch) == sorted(frame for part in parts for frame in part)


def test_processes_that_drift_apart_end_the_run() -> None:
    def drift(ranks: Ranks) -> str:
        module = nn.Linear(3, 2).double()
        with torch.no_grad():
            module.weight.fill_(1.0)
            module.bias.fill_(0.5 + (1e-15 if ranks.rank == 1 else 0.0))
        ranks.check_equal(module, "after epoch 3")
        return "alike"

    for said in in_processes(2, drift):
        assert "RuntimeError: after epoch 3, processes 0 and 1 of this run differ in bias" in said


def test_divergence_is_every_process_s(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    broken = [*train[:3], replace(train[3], labels={**train[3].labels, "energy": torch.tensor([np.nan])}), *train[4:]]
    said = in_processes(2, lambda ranks: run(ranks, broken, val, settings(), tmp_path))
    assert all(str(text).startswith("DivergenceError: the loss became nan in epoch 1") for text in said), said


def test_a_process_that_is_gone_is_an_error_of_ours_in_the_others() -> None:
    def leave(ranks: Ranks) -> str:
        if ranks.rank == 1:
            os._exit(9)
        ranks.gather("waiting for nobody")
        return "nothing happened"

    first, second = in_processes(2, leave)
    assert first.startswith("LostProcessError: another process of this run is gone; the same command resumes it")
    assert second is None


def test_memory_that_runs_out_in_an_exchange_is_no_lost_process() -> None:
    def exhaust(ranks: Ranks) -> None:
        parameter = nn.Parameter(torch.zeros(3))
        parameter.grad = torch.ones_like(parameter)
        if ranks.rank == 1:
            torch.cat = _no_memory  # in this fork alone
        ranks.sum_gradients([parameter])

    first, second = in_processes(2, exhaust)
    assert second.startswith("OutOfMemoryError: CUDA out of memory")
    assert first.startswith("LostProcessError")


def _no_memory(*arguments: Any) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def test_a_process_has_the_gpu_that_its_run_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one of its number: another run may have that."""
    said: list[Any] = []
    monkeypatch.setattr(torch.cuda, "set_device", said.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **_: said.append(backend))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    with joined(1, 2, tmp_path / "meeting", 3) as ranks:
        assert ranks == Ranks(1, 2)
    assert said == [3, "cpu:gloo,cuda:nccl"]
    with joined(1, 2, tmp_path / "meeting"):
        pass
    assert said[2:] == ["gloo"]
