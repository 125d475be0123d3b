"""What a model may know of its data before training: taken from the training set alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kanmlip.errors import DataError

if TYPE_CHECKING:
    from kanmlip.data.graph import Graph


@dataclass(frozen=True)
class DataStats:
    """Statistics of the training set that fix a model's reference energies and scales.

    Attributes:
        atomic_numbers: Species present, ascending.
        reference_energies: E0 of each species in eV (least squares of total energy on composition, minimum norm); 0 for a set
            without energies.
        force_rms: Root mean square of the force components in eV/Å (of the energies per atom about E0 where a set has no forces; 1
            for a set with neither).
        avg_num_neighbors: Mean number of edges per atom within ``cutoff``.
        cutoff: Å.
    """

    atomic_numbers: tuple[int, ...]
    reference_energies: dict[int, float]
    force_rms: float
    avg_num_neighbors: float
    cutoff: float


def compute_statistics(graphs: Sequence[Graph], cutoff: float) -> DataStats:
    """Statistics of a training set; give it nothing else, or validation data leak into the model.

    Args:
        graphs: Training structures, one a graph; all with an energy, or none.
        cutoff: Å, of their neighbour lists.

    Raises:
        DataError: If some structures have an energy and others have not.
    """
    numbers = [graph.atomic_numbers.numpy() for graph in graphs]
    species = np.unique(np.concatenate(numbers))
    composition = np.array([[(z == s).sum() for s in species] for z in numbers], dtype=np.float64)
    labelled = sum("energy" in graph.labels for graph in graphs)
    if labelled not in (0, len(graphs)):
        raise DataError(
            f"{len(graphs) - labelled} of {len(graphs)} training structures have no energy, which reference energies are made from; "
            f"every frame needs one, or none"
        )
    energies = np.array([float(graph.labels["energy"][0]) if labelled else 0.0 for graph in graphs])
    # Minimum norm: with a single composition, as in HfO2, only a sum of reference energies is fixed.
    reference = np.linalg.lstsq(composition, energies, rcond=None)[0]
    if all("forces" in graph.labels for graph in graphs):
        scale = np.sqrt(np.mean(np.concatenate([graph.labels["forces"].numpy().ravel() for graph in graphs]) ** 2))
    else:
        scale = np.sqrt(np.mean(((energies - composition @ reference) / composition.sum(1)) ** 2))
    edges = sum(graph.edge_index.shape[1] for graph in graphs)
    return DataStats(
        atomic_numbers=tuple(int(z) for z in species),
        reference_energies={int(z): float(e) for z, e in zip(species, reference, strict=True)},
        # A set whose labels do not vary still needs a scale that can be divided by.
        force_rms=float(scale) if scale > 0 else 1.0,
        avg_num_neighbors=max(float(edges / composition.sum()), 1.0),
        cutoff=cutoff,
    )


def check_species(graphs: Sequence[Graph], stats: DataStats, split: str) -> None:
    """Check that a set has no species that the training set lacks.

    Raises:
        DataError: Naming the species and the first structure with one.
    """
    for graph in graphs:
        unknown = sorted(set(graph.atomic_numbers.tolist()) - set(stats.atomic_numbers))
        if unknown:
            raise DataError(
                f"frame {int(graph.frame[0])} of the {split} set has species Z={unknown} that the training set lacks "
                f"(it has Z={list(stats.atomic_numbers)}); move such a frame to the training set or leave it out"
            )
