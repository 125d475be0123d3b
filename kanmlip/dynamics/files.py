"""The files of a simulation, and how they stay consistent with each other whenever a process ends."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from kanmlip.errors import ConfigError
from kanmlip.experiment.atomic import read_json, write_json, write_npz

THERMO = (
    "step", "time_ps", "potential_eV", "kinetic_eV", "total_eV", "conserved_eV", "temperature_K", "max_force_eV_per_A",
)  # fmt: skip
# What is made of a simulation when it ends, or is left by one that came to a bad end.
RESULTS = ("summary.json", "unstable.xyz", "rdf.csv", "rdf.png", "rdf.svg", "energy.png", "energy.svg")


class SimulationFiles:
    """One folder: md.json, thermo.csv, trajectory.xyz and state.npz.

    thermo.csv and trajectory.xyz only grow. A state names their lengths, and they are on the disk before it is: going on from a state
    cuts off what came after it, so that a resumed simulation leaves the same bytes as an undisturbed one.

    Args:
        folder: Made when first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.description = folder / "md.json"
        self.thermo = folder / "thermo.csv"
        self.trajectory = folder / "trajectory.xyz"
        self.state = folder / "state.npz"

    def describe(self, **content: Any) -> None:
        """Replace keys of md.json."""
        write_json(self.description, {**self.description_now(), **content})

    def description_now(self) -> dict[str, Any]:
        """md.json, empty where there is none."""
        content = read_json(self.description)
        return content if isinstance(content, dict) else {}

    def clear(self) -> None:
        """Remove what an earlier simulation left, its state first, and what was made of it."""
        for path in (self.state, self.thermo, self.trajectory, self.description, *(self.folder / name for name in RESULTS)):
            path.unlink(missing_ok=True)

    def append_row(self, row: Mapping[str, float | int]) -> None:
        """Add a row to thermo.csv: numbers as Python writes them, so that none loses a digit."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.thermo.exists() or self.thermo.stat().st_size == 0:
            writer.writerow(THERMO)
        writer.writerow([repr(row[name]) for name in THERMO])
        with self.thermo.open("a", encoding="utf-8") as file:
            file.write(text.getvalue())

    def append_frame(self, atoms: Atoms, step: int, time_ps: float) -> None:
        """Add a frame with energy, forces and momenta to trajectory.xyz, positions as they are, not wrapped."""
        from ase.io import write

        frame = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.set_array("momenta", atoms.get_momenta())
        frame.info |= {"step": step, "time_ps": time_ps}
        frame.calc = SinglePointCalculator(frame, energy=float(atoms.get_potential_energy()), forces=atoms.get_forces())
        write(self.trajectory, frame, format="extxyz", append=True)

    def save_state(self, step: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace state.npz, after everything written so far is on the disk."""
        lengths = {}
        for name in ("thermo", "trajectory"):
            path: Path = getattr(self, name)
            if path.exists():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            lengths[f"length_{name}"] = np.array(path.stat().st_size if path.exists() else 0)
        write_npz(self.state, {**arrays, **lengths, "step": np.array(step)})

    def saved_step(self) -> int | None:
        """The step of the last state, which md.json of a simulation that was killed does not know; none if there is no state."""
        if not self.state.exists():
            return None
        return int(self._read_state()["step"])

    def load_state(self) -> dict[str, NDArray[Any]] | None:
        """The last state, with the growing files cut back to it; none if there is none.

        Raises:
            ConfigError: If the state cannot be read, or a file is shorter than the state says.
        """
        if not self.state.exists():
            return None
        state = self._read_state()
        for name in ("thermo", "trajectory"):
            path: Path = getattr(self, name)
            length, there = int(state[f"length_{name}"]), path.stat().st_size if path.exists() else 0
            if there < length:
                raise ConfigError(
                    f"{path} has {there} bytes, but {self.state.name} was written after {length}; restore it, or start again with --restart"
                )
            if there > length:
                with path.open("rb+") as file:
                    file.truncate(length)
        return state

    def _read_state(self) -> dict[str, NDArray[Any]]:
        try:
            with np.load(self.state, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{self.state} cannot be read ({error}); start again with --restart") from error


def read_thermo(path: Path) -> dict[str, NDArray[np.float64]]:
    """The columns of thermo.csv, each [rows], from step 0 on.

    Raises:
        ConfigError: If there is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; run kanmlip-md first")
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in THERMO}
    production = columns["step"] >= 0
    return {name: values[production] for name, values in columns.items()}
