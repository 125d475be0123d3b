"""Benchmarks connect atoms as the model says, not by a radius alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kanmlip.benchmark.step import StepPlan, default_frames, prepare
from kanmlip.benchmark.training_step import Setting
from kanmlip.data.root import data_root
from kanmlip.models.allegro import Allegro
from kanmlip.models.etgnn.topology import NearestNeighbours

PLAN = StepPlan("allegro", "smoke", (), (), (), (), "auto", "cpu", rounds=1, frames=2)


def of_the_gpu_check() -> Setting:
    """scripts/ is no package."""
    spec = importlib.util.spec_from_file_location("gpu_check", Path(__file__).parents[2] / "scripts" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    setting: Setting = module.prepare(["model=allegro", "budget.size=smoke"], 2)
    return setting


@pytest.mark.parametrize("prepared", [lambda: prepare(PLAN), of_the_gpu_check], ids=["bench step", "gpu check"])
def test_the_model_connects_the_atoms(prepared: Callable[[], Setting], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Allegro, "connectivity", lambda _: NearestNeighbours(5.0, 3, whole_shells=False, triplet_range=None))
    graphs = prepared().graphs
    assert [graph.edge_index.shape[1] for graph in graphs] == [3 * 71] * 2
    assert all(graph.triplets.shape[1] > 0 for graph in graphs)


def test_tensors_are_learned_in_batches_of_the_budget() -> None:
    folder = data_root() / "sio2_bec"
    if not folder.is_dir():
        pytest.skip(f"the SiO2 set is not in {folder}")
    frames = default_frames("etgnn", "small", "sio2_bec")
    assert frames == 20  # conf/tuning/etgnn_small.yaml
    setting = prepare(StepPlan("etgnn", "small", ("output",), (), (), ("training",), "auto", "cpu", 1, frames, "sio2_bec"))
    assert [int(graph.num_atoms) for graph in setting.graphs] == [6] * 20
    assert all(graph.triplets.shape[1] > 0 for graph in setting.graphs)
    (batch,) = setting.batches(torch.device("cpu"))
    assert batch.labels["born_effective_charges"].shape == (120, 3, 3)
    assert setting.model.hidden == 32
