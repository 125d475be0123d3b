"""A trained run as a TorchSim model: ``model = kanmlip.export.torchsim.load(run)``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from kanmlip.errors import ConfigError, MissingDependencyError
from kanmlip.export.ase import check_structure
from kanmlip.export.loading import LoadedRun, LoadOptions, load_potential

try:
    from torch_sim.models.interface import ModelInterface
except ImportError as missing:
    raise MissingDependencyError(f"TorchSim cannot be imported ({missing}); run: pip install torch-sim-atomistic") from missing


def load(run: str | Path, **options: Unpack[LoadOptions]) -> TorchSimModel:
    """The model of a run; for the options and what is raised see :func:`kanmlip.export.loading.load_potential`."""
    return TorchSimModel(load_potential(run, **options))


class TorchSimModel(ModelInterface):  # type: ignore[misc]  # torch_sim may be absent where types are checked
    """Energy [S] eV, forces [N, 3] eV/Å and stress [S, 3, 3] eV/Å³ (ASE's sign) of a batch of systems, in one call of the network.

    ``dtype`` is that of the states, float64: our geometry and total energies are, whatever the precision of the network
    (``run.dtype``). States in float32 are taken as well, and answered in float32. Neighbour lists are made on the CPU.

    Args:
        run: From :func:`kanmlip.export.loading.load_potential`.
        compute_stress: Return the stress; needs a cell.

    Raises:
        ConfigError: If the model does not predict energies.
    """

    def __init__(self, run: LoadedRun, compute_stress: bool = True) -> None:
        super().__init__()
        if "energy" not in run.config.model.predicts:
            raise ConfigError(f"model={run.config.model.name} predicts {', '.join(sorted(run.config.model.predicts))} and no energy")
        self.run = run
        self.potential = run.potential
        self._device = run.device
        self._dtype = torch.float64
        self._compute_stress = compute_stress
        self._compute_forces = True

    @property
    def compute_stress(self) -> bool:
        """Whether ``forward`` returns the stress; may be changed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, value: bool) -> None:
        self._compute_stress = value

    @property
    def compute_forces(self) -> bool:
        """Always: they come with the energy."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, value: bool) -> None:
        if not value:
            raise ConfigError("compute_forces=False is not possible: forces come with the energy")

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Evaluate a ``SimState``, or a dictionary of its fields.

        Raises:
            DataError: If a system has a species that the model was not trained on, or no finite coordinates.
        """
        frames = systems(state)
        for atoms in frames:
            check_structure(atoms, self.run)
        graph = self.run.config.model.collate(frames).to(device=self.run.device)
        output = self.run.config.model.forward(self.potential, graph, compute_stress=self._compute_stress)
        like = _field(state, "positions")
        return {name: value.detach().to(device=like.device, dtype=like.dtype) for name, value in output.items()}


def systems(state: Any) -> list[Atoms]:
    """The systems of a state as structures; TorchSim keeps cells as columns, ASE as rows."""
    positions, numbers, cell = (_field(state, name).detach().cpu().double().numpy() for name in ("positions", "atomic_numbers", "cell"))
    alone = isinstance(state, Mapping) and "system_idx" not in state
    index = np.zeros(len(numbers), dtype=int) if alone else _field(state, "system_idx").cpu().numpy()
    periodic = state["pbc"] if isinstance(state, Mapping) else state.pbc
    periodic = periodic.tolist() if isinstance(periodic, Tensor) else periodic
    return [
        Atoms(numbers=numbers[index == s].astype(int), positions=positions[index == s], cell=cell[s].T, pbc=periodic)
        for s in range(len(cell))
    ]


def _field(state: Any, name: str) -> Tensor:
    value: Tensor = state[name] if isinstance(state, Mapping) else getattr(state, name)
    return value
