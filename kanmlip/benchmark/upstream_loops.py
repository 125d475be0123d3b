"""One epoch of the upstream packages' own training loops on our models and batches, to measure our trainer against."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from kanmlip.benchmark.interleave import synchronise
from kanmlip.data.graph import Graph
from kanmlip.models.mace_energy import MACEPotential
from kanmlip.models.nequip_energy import NequIPPotential


class Loop(NamedTuple):
    """An upstream training loop.

    Attributes:
        epoch: Trains for one epoch and returns its seconds, the set-up excluded; optimiser and average live on between calls.
        model: What it trains, a copy of the potential's upstream model.
    """

    epoch: Callable[[], float]
    model: nn.Module


def nequip_train(potential: NequIPPotential, batches: Sequence[Graph], learning_rate: float, ema_decay: float, clip: float) -> Loop:
    """What ``nequip-train`` runs: a Lightning ``Trainer`` over nequip's ``EMALightningModule`` with its energy and force loss.

    Args:
        potential: Its upstream model is copied and trained as it is.
        batches: float64 batches, converted to nequip's dictionary form beforehand.
        learning_rate: Of Adam.
        ema_decay: Of the weight average.
        clip: Norm that gradients are clipped to.

    Returns:
        The loop, with a trainer made anew for each epoch around one module.
    """
    import lightning
    from nequip.train import EMALightningModule

    upstream = copy.deepcopy(potential.upstream)

    class Prebuilt(EMALightningModule):  # type: ignore[misc, unused-ignore]
        def _build_model(self, model_config: dict[str, Any]) -> nn.Module:
            return upstream

    names = list(cast("Any", upstream).type_names)
    module = Prebuilt(
        ema_decay=ema_decay,
        model={"type_names": names},
        num_datasets={"train": 1, "val": 0, "test": 0, "predict": 0},
        optimizer={"_target_": "torch.optim.Adam", "lr": learning_rate},
        loss={"_target_": "nequip.train.EnergyForceLoss", "coeffs": {"total_energy": 1.0, "forces": 1.0}},
    )
    data = [nequip_data(potential, graph) for graph in batches]
    stopwatch = Stopwatch()

    class Timed(lightning.Callback):  # type: ignore[misc, unused-ignore]
        def on_train_epoch_start(self, *_: object) -> None:
            stopwatch.start()

        def on_train_epoch_end(self, *_: object) -> None:
            stopwatch.stop()

    def epoch() -> float:
        trainer = lightning.Trainer(
            callbacks=[Timed()],
            max_epochs=1,
            accelerator="cpu" if data[0]["pos"].device.type == "cpu" else "gpu",
            devices=1,
            gradient_clip_val=clip,
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, torch.utils.data.DataLoader(cast("Any", data), batch_size=None))
        return stopwatch.seconds

    return Loop(epoch, upstream)


def nequip_data(potential: NequIPPotential, graph: Graph) -> dict[str, Tensor]:
    """A batch and its labels in nequip's dictionary form, energies as [S, 1]."""
    labels = {"total_energy": graph.labels["energy"].view(-1, 1), "forces": graph.labels["forces"]}
    return {**potential.inputs(graph, graph.positions, graph.cell), **labels}


def mace_run_train(potential: MACEPotential, batches: Sequence[Graph], learning_rate: float, ema_decay: float, clip: float) -> Loop:
    """What ``mace_run_train`` runs for each batch, ``mace.tools.train.take_step``, with its energy and force loss and EMA.

    Args and return value are those of :func:`nequip_train`.
    """
    from mace.modules.loss import WeightedEnergyForcesLoss
    from mace.tools.train import take_step
    from torch_ema import ExponentialMovingAverage

    model = copy.deepcopy(potential.upstream)
    data = [MACEBatch(potential, graph) for graph in batches]
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    ema = ExponentialMovingAverage(model.parameters(), decay=ema_decay)
    loss = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1.0)
    wanted = {"forces": True, "virials": False, "stress": False}

    stopwatch = Stopwatch()

    def epoch() -> float:
        stopwatch.start()
        for batch in data:
            take_step(
                model=model,
                loss_fn=loss,
                batch=batch,
                optimizer=optimizer,
                ema=ema,
                output_args=wanted,
                max_grad_norm=clip,
                device=batch.device,
            )
        stopwatch.stop()
        return stopwatch.seconds

    return Loop(epoch, model)


class Stopwatch:
    """Seconds between a start and a stop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.started = 0.0

    def start(self) -> None:
        """Begin."""
        synchronise()
        self.started = time.perf_counter()

    def stop(self) -> None:
        """End."""
        synchronise()
        self.seconds = time.perf_counter() - self.started


class MACEBatch:
    """The few things that MACE's training step asks of its batch type."""

    def __init__(self, potential: MACEPotential, graph: Graph) -> None:
        dtype = potential.network_dtype
        sender = graph.edge_index[0]
        shifts = torch.bmm(graph.edge_cell_shift.to(graph.cell.dtype).unsqueeze(1), graph.cell[graph.batch[sender]]).squeeze(1)
        self.fields: dict[str, Tensor] = potential.inputs(graph, graph.positions, graph.cell)
        self.fields |= {"positions": graph.positions.to(dtype), "shifts": shifts.to(dtype)}
        self.fields |= {name: label.to(dtype) for name, label in graph.labels.items()}
        ones = torch.ones(graph.num_structures, dtype=dtype, device=graph.positions.device)
        self.fields |= {"weight": ones, "energy_weight": ones, "forces_weight": ones}
        self.device = graph.positions.device

    def __getattr__(self, name: str) -> Tensor:
        try:
            return cast("Tensor", self.__dict__["fields"][name])
        except KeyError as error:
            raise AttributeError(name) from error

    def __getitem__(self, name: str) -> Tensor:
        return self.fields[name]

    def to(self, device: torch.device) -> MACEBatch:
        """Already there."""
        return self

    def to_dict(self) -> dict[str, Tensor]:
        """A fresh dictionary: MACE writes into it."""
        return dict(self.fields)
