"""The loops we measure our trainer against do train, and change the weights as ours does."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms

from kanmlip.benchmark.training_step import Setting, our_epoch
from kanmlip.benchmark.upstream_loops import mace_run_train, nequip_train
from kanmlip.data.neighbours import build_graphs
from kanmlip.training.config import TrainerConfig
from kanmlip.training.loop import open_fabric
from tests.models.settings import build, energy_models


@pytest.mark.parametrize("name", ["nequip", "mace"])
def test_one_epoch_of_the_upstream_loop_equals_one_of_ours(name: str, silver: list[Atoms]) -> None:
    model = energy_models()[name]
    potential, _, stats = build(model, silver, torch.float64)
    weight = 1.0 if name == "mace" else 0.5  # nequip normalises the weights of its loss to a sum of one
    trainer = TrainerConfig(
        batch_size=2,
        precision="float64",
        device="cpu",
        loss={"energy": weight, "forces": weight},
        optimizer={"lr": 1e-3},
        gradient_clip=1e3,
        ema_decay=0.9,
        progress_bar=False,
    )
    setting = Setting(model, stats, build_graphs(silver, model.cutoff), trainer)
    loop = mace_run_train if name == "mace" else nequip_train
    theirs = loop(potential, setting.batches(torch.device("cpu")), 1e-3, 0.9, 1e3)
    assert theirs.epoch() > 0
    our_epoch(setting, potential, open_fabric(trainer))()
    ours, other = (dict(module.named_parameters()) for module in (potential.upstream, theirs.model))
    for key in ours:
        torch.testing.assert_close(ours[key], other[key], rtol=0, atol=1e-9)
