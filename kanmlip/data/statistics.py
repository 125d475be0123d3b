"""What a model may know of its data before training: taken from the training set alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataStats:
    """Statistics of the training set that fix a model's reference energies and scales.

    Attributes:
        atomic_numbers: Species present, ascending.
        reference_energies: E0 of each species in eV (least squares of total energy on composition, minimum norm).
        force_rms: Root mean square of the force components in eV/Å (of the energies per atom about E0 where a set has no forces).
        avg_num_neighbors: Mean number of edges per atom within ``cutoff``.
        cutoff: Å.
    """

    atomic_numbers: tuple[int, ...]
    reference_energies: dict[int, float]
    force_rms: float
    avg_num_neighbors: float
    cutoff: float
