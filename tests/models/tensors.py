"""Small tensor models, silica to evaluate them on, and every placement × basis of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from ase import Atoms
from ase.spacegroup import crystal
from omegaconf import OmegaConf

from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.data.statistics import DataStats
from kanmlip.models.base import ModelConfig
from kanmlip.models.etgnn import ETGNN
from kanmlip.models.etgnn.layers import MLP, OUTPUT_SCALE
from kanmlip.models.etgnn.network import ETGNNNetwork, Sizes
from kanmlip.models.etgnn.potential import TensorPotential
from kanmlip.models.etgnn.tensor_heads import TensorTarget
from kanmlip.models.etgnn.topology import NearestNeighbours
from kanmlip.placement.config import HeadConfig, PlacementConfig
from kanmlip.placement.place import place
from kanmlip.placement.report import PlacementReport
from kanmlip.schema import locate
from tests.models.cases import Case, NamedBasis
from tests.models.settings import CONF, bases

BORN = "born_effective_charges"
STATS = DataStats(atomic_numbers=(8, 14), reference_energies={}, force_rms=1.0, avg_num_neighbors=8.0, cutoff=6.0)
# Two blocks, so that an update acts on what another one made.
SIZES = Sizes(
    hidden=16,
    num_blocks=2,
    down_features=8,
    basis_embedding=4,
    triplet_features=16,
    node_features=12,
    num_radial=4,
    num_spherical=5,
)


def silica(seed: int = 0, amplitude: float = 0.1) -> Atoms:
    """α-quartz, nine atoms, rattled; exact with amplitude 0."""
    atoms = crystal(["Si", "O"], [(0.4697, 0, 2 / 3), (0.4135, 0.2669, 0.7858)], spacegroup=154, cellpar=[4.913, 4.913, 5.405, 90, 90, 120])
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    bare.rattle(amplitude, seed=seed)
    return bare


def etgnn(size: str = "smoke", **changes: Any) -> ETGNN:
    """The settings of conf/model/etgnn.yaml in a size, with changes."""
    config = OmegaConf.create({"model": OmegaConf.load(CONF / "model" / "etgnn.yaml"), "budget": {"size": size}})
    fields: dict[str, Any] = OmegaConf.to_container(config, resolve=True)["model"]
    target = fields.pop("_target_")
    fields.pop("sizes")
    model: ETGNN = locate(target, "model")(**(fields | changes))
    return model


def build_model(
    model: ModelConfig, frames: list[Atoms], dtype: torch.dtype = torch.float64, seed: int = 7
) -> tuple[TensorPotential, Graph]:
    """A potential with tensors of order one, in evaluation mode, and the frames as a batch."""
    return loud(model.build(STATS, dtype, seed).eval()), model.collate(frames)


def build_network(
    targets: Mapping[str, TensorTarget], dtype: torch.dtype = torch.float64, seed: int = 7, **settings: Any
) -> TensorPotential:
    """A potential with tensors of any rank, named freely."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options: dict[str, Any] = {"num_species": 2, "cutoff": 6.0, "triplet_range": 4.0, "legacy_cutoff": False, "sizes": SIZES} | settings
        network = ETGNNNetwork(targets=targets, **options)
    for parameter in network.parameters():
        parameter.data = parameter.data.to(dtype)
    return loud(TensorPotential(network, STATS.atomic_numbers, float(options["triplet_range"])).eval())


def connected(frames: list[Atoms], max_neighbours: int = 8, triplet_range: float | None = 4.0) -> Graph:
    """Frames as a batch for :func:`build_network`."""
    from kanmlip.data.neighbours import build_graphs

    return batch_graphs(build_graphs(frames, NearestNeighbours(6.0, max_neighbours, True, triplet_range)))


def loud(potential: TensorPotential) -> TensorPotential:
    """Undo the small start of the outputs, or every error would be small."""
    with torch.no_grad():
        for module in potential.modules():
            if isinstance(module, MLP):
                module.layers[-1].weight /= OUTPUT_SCALE
                module.layers[-1].bias.normal_(generator=torch.Generator().manual_seed(1))
    return potential


@cache
def tensor_cases() -> list[Case]:
    """Every placement × basis of ETGNN."""
    swapped = [Case("etgnn", placement, basis) for placement in ETGNN.placements if placement != "none" for basis in bases()]
    return [Case("etgnn", "none", bases()[0]), *swapped]


def build_tensor_case(
    case: Case,
    frames: list[Atoms],
    dtype: torch.dtype = torch.float64,
    model: ModelConfig | None = None,
    head: HeadConfig | None = None,
    seed: int = 11,
) -> tuple[TensorPotential, Graph, PlacementReport]:
    """The potential of a case in evaluation mode, calibrated on ``frames``, with those frames as a batch."""
    model = model or etgnn()
    potential, graph = build_model(model, frames, dtype)
    torch.manual_seed(seed)
    report = place(potential, model, PlacementConfig(name=case.placement, head=head or HeadConfig()), NamedBasis(case.basis), graph)
    return potential.eval(), graph, report
