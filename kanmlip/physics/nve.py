"""How well a potential conserves energy: an NVE run at one temperature, the same start and the same random numbers for every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator

from kanmlip.dynamics import MDSettings, fit_drift, simulate
from kanmlip.dynamics.files import SimulationFiles, read_thermo
from kanmlip.errors import ConfigError
from kanmlip.physics.part import Part

# DESIGN's bar: drift at most this, or this many times the MLP's, whichever is more.
DRIFT_MEV_PER_ATOM_PS = 0.02
DRIFT_RATIO = 1.5


def nve_drift(start: Atoms, calculator: Calculator, settings: MDSettings, folder: Path, cutoff: float, source: dict[str, Any]) -> Part:
    """Simulate, or go on with what lies in ``folder``, and fit the drift.

    Args:
        start: The structure.
        calculator: The potential.
        settings: An NVE run.
        folder: Of the simulation's files.
        cutoff: Å.
        source: What computes the forces; see :func:`kanmlip.dynamics.simulate`.

    Returns:
        ``drift_meV_per_atom_ps`` with its standard error, ``fluctuation_meV_per_atom``, ``temperature_K``, ``duration_ps``, and the total
        energy per atom in meV against time in ps.

    Raises:
        ConfigError: If the atoms flew apart, the run is too short for a line, or the folder holds another simulation.
    """
    atoms = start.copy()
    atoms.calc = calculator
    outcome = simulate(atoms, settings, folder, cutoff=cutoff, source=source, show_progress=True)
    if outcome.status != "done":
        raise ConfigError(f"NVE at {settings.temperature_K:g} K ended at step {outcome.step}: {outcome.reason}")
    thermo = read_thermo(SimulationFiles(folder).thermo)
    drift = fit_drift(thermo["time_ps"], thermo["conserved_eV"], len(atoms))
    if drift is None:
        raise ConfigError(f"NVE of {settings.steps} steps is too short for a drift; give more --nve-steps")
    values = {
        "drift_meV_per_atom_ps": drift.slope_meV_per_atom_ps,
        "drift_error_meV_per_atom_ps": drift.error_meV_per_atom_ps,
        "fluctuation_meV_per_atom": drift.fluctuation_meV_per_atom,
        "temperature_K": float(thermo["temperature_K"].mean()),
        "duration_ps": drift.duration_ps,
    }
    energy = 1000 * (thermo["conserved_eV"] - thermo["conserved_eV"][0]) / len(atoms)
    return Part(values, {"time_ps": thermo["time_ps"], "energy_meV_per_atom": energy})
