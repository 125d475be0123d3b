"""What every model is to the rest of kanmlip: typed settings that build a potential, and a potential that maps a graph to physics."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from kanmlip.errors import MissingDependencyError
from kanmlip.schema import Schema

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from ase import Atoms
    from torch import nn

    from kanmlip.data.graph import Graph
    from kanmlip.data.neighbours import Connectivity
    from kanmlip.data.statistics import DataStats
    from kanmlip.models.potential import Potential
    from kanmlip.placement.config import PlacementConfig
    from kanmlip.placement.head import Swap


class ModelConfig(Schema, ABC):
    """Hyper-parameters of a model and the adapter to its upstream package, in one immutable object.

    A model is one file with one subclass and one ``conf/model/<name>.yaml``. Modules of subclasses import their upstream
    package inside ``build`` alone, so that a user with only one upstream installed can run that model.

    Attributes:
        name: The model's name in run ids and tables.
        cutoff: Radius of the neighbour list in Å.
        targets: Group of replaceable modules → globs of their paths inside ``Potential.upstream``.
        placements: Placement → groups it replaces; ``none`` is always there.
        requires: Import name of each needed package → what to install.
        predicts: Labels the model can learn; of settings with a choice among them, those that are chosen.
    """

    targets: ClassVar[Mapping[str, tuple[str, ...]]]
    placements: ClassVar[Mapping[str, tuple[str, ...]]]
    requires: ClassVar[Mapping[str, str]]
    predicts: ClassVar[frozenset[str]] = frozenset({"energy", "forces", "stress"})

    name: str
    cutoff: float = Field(gt=0)

    @abstractmethod
    def build(self, stats: DataStats, dtype: torch.dtype, seed: int) -> Potential:
        """Construct the upstream model with all its MLPs in place.

        Args:
            stats: Statistics of the training set.
            dtype: Precision of the network; geometry and total energies stay float64.
            seed: Seed of the initial weights; the global random state is left as it was.

        Raises:
            MissingDependencyError: If the upstream package is not installed.
        """

    @abstractmethod
    def swap(self, module: nn.Module, group: str, placement: PlacementConfig) -> Swap:
        """Say how a KAN takes the place of ``module``, one of the modules that ``targets[group]`` matches."""

    def connectivity(self) -> float | Connectivity:
        """How this model connects the atoms of a structure: a radius in Å unless a model says otherwise."""
        return self.cutoff

    def graphs(self, frames: Sequence[Atoms], cache: Path | None = None, indices: Sequence[int] | None = None) -> list[Graph]:
        """One graph a structure, as this model wants it; see :func:`kanmlip.data.neighbours.build_graphs`."""
        from kanmlip.data.neighbours import build_graphs

        return build_graphs(frames, self.connectivity(), cache, indices)

    def collate(self, frames: Sequence[Atoms]) -> Graph:
        """Turn structures into one batch with this model's edges and triplets (float64, CPU)."""
        from kanmlip.data.graph import batch_graphs

        return batch_graphs(self.graphs(frames))

    def forward(self, potential: Potential, batch: Graph, compute_stress: bool = True) -> dict[str, torch.Tensor]:
        """Evaluate a built potential.

        Returns:
            The labels that the model predicts: ``energy`` [S] eV, ``forces`` [N, 3] eV/Å, ``stress`` [S, 3, 3] eV/Å³, or tensors
            under the names and in the units of :mod:`kanmlip.data.labels`.
        """
        result: dict[str, torch.Tensor] = potential(batch, compute_stress=compute_stress)
        return result

    def require_upstream(self) -> None:
        """Check that the upstream packages are installed, without importing them.

        Raises:
            MissingDependencyError: In one line, with the command that installs what is missing.
        """
        missing = [package for package in self.requires if importlib.util.find_spec(package) is None]
        if missing:
            wanted = " ".join(dict.fromkeys(self.requires[package] for package in missing))
            raise MissingDependencyError(f"model={self.name} needs {', '.join(missing)}, which is not installed; run: pip install {wanted}")
