"""The structure a simulation starts from: a file, or a frame of the run's own data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from kanmlip.data.root import data_root
from kanmlip.errors import ConfigError, DataError
from kanmlip.experiment.config import RunConfig


def starting_structure(config: RunConfig, path: Path | None = None, repeat: tuple[int, int, int] = (1, 1, 1)) -> Atoms:
    """A structure without calculator and momenta.

    Args:
        config: Of the run; the first validation frame of its dataset is taken unless a file is given.
        path: Any file that ASE reads; its last structure.
        repeat: How often along each lattice vector.

    Raises:
        ConfigError: If the file cannot be read or the structure cannot be repeated like that.
    """
    atoms = read_structure(path) if path is not None else _first_frame(config)
    if min(repeat) < 1:
        raise ConfigError(f"--repeat={' '.join(map(str, repeat))}: each number must be 1 or more")
    if max(repeat) > 1 and not all(atoms.pbc[axis] for axis in range(3) if repeat[axis] > 1):
        raise ConfigError(f"--repeat={' '.join(map(str, repeat))}: the structure is not periodic along every repeated direction")
    return atoms.repeat(repeat)


def read_structure(path: Path, option: str = "--structure") -> Atoms:
    """The last structure of a file that an option names, bare.

    Raises:
        ConfigError: If there is none that ASE can read, or its atoms are constrained, which would be another simulation.
    """
    from ase.io import read

    try:
        atoms = read(path, -1)
    except Exception as error:  # ase.io fails in as many ways as there are formats
        raise ConfigError(f"{option}={path} cannot be read as a structure: {type(error).__name__}: {error}") from error
    if atoms.constraints:
        kinds = ", ".join(sorted({type(constraint).__name__ for constraint in atoms.constraints}))
        raise ConfigError(
            f"{option}={path} has constraints ({kinds}), which are not kept here; save it without them, or use ASE's own dynamics "
            f"with kanmlip.export.ase.load"
        )
    return bare(atoms)


def left_out(path: Path) -> list[str]:
    """What a file that :func:`read_structure` has read says of its atoms beyond what is taken from it."""
    from ase.io import read

    atoms = read(path, -1)
    return [
        *(["velocities"] if "momenta" in atoms.arrays and atoms.arrays["momenta"].any() else []),
        *(["masses"] if "masses" in atoms.arrays and not np.allclose(atoms.get_masses(), bare(atoms).get_masses()) else []),
    ]


def _first_frame(config: RunConfig) -> Atoms:
    try:
        splits = config.dataset.load(data_root())
    except DataError as error:
        raise ConfigError(f"the run's data are not here ({error}); give a structure with --structure FILE") from error
    return bare((splits.val or splits.train)[0])


def bare(atoms: Atoms) -> Atoms:
    """Species, positions, cell and boundary conditions alone."""
    return Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
