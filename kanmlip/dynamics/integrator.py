"""ASE's integrators as the settings name them, and the part of their state that positions and momenta do not hold."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md import velocitydistribution
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import NoseHooverChainNVT, NoseHooverChainThermostat
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from kanmlip.dynamics.settings import Ensemble, MDSettings

# Names of ASE's own attributes for the positions and momenta of the chain; a test compares a resumed run bit for bit.
CHAIN = ("_eta", "_p_eta")


def draw_momenta(atoms: Atoms, temperature_K: float, random: np.random.Generator) -> None:  # noqa: N803 - ASE's name
    """Maxwell-Boltzmann momenta without motion of the centre of mass."""
    # The newer name first: ASE 3.29 deprecates the other.
    draw = getattr(velocitydistribution, "thermalize_momenta", None) or velocitydistribution.MaxwellBoltzmannDistribution
    draw(atoms, temperature_K=temperature_K, rng=random)
    stop_centre_of_mass(atoms)


def stop_centre_of_mass(atoms: Atoms) -> None:
    """Take the motion of the centre of mass away."""
    velocitydistribution.Stationary(atoms, preserve_temperature=False)


def make_dynamics(atoms: Atoms, settings: MDSettings, ensemble: Ensemble, random: np.random.Generator) -> MolecularDynamics:
    """ASE's integrator for ``ensemble`` on atoms that have a calculator and momenta."""
    timestep = settings.timestep_fs * units.fs
    if ensemble == "nve":
        return VelocityVerlet(atoms, timestep)
    if ensemble == "langevin":
        friction = settings.friction_per_ps / (1000 * units.fs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # fixcm=True would not sample the canonical ensemble exactly, says ASE.
            return Langevin(atoms, timestep, temperature_K=settings.temperature_K, friction=friction, fixcm=False, rng=random)
    return _nose_hoover(atoms, timestep, settings.temperature_K, settings.damping_fs * units.fs)


def _nose_hoover(atoms: Atoms, timestep: float, temperature_K: float, damping: float) -> NoseHooverChainNVT:  # noqa: N803 - ASE's name
    """ASE's integrator with a thermostat of as many degrees of freedom as move.

    ASE's own counts 3N, also where the centre of mass rests: what is left would be hotter than asked for by N/(N − 1).
    """
    dynamics = NoseHooverChainNVT(atoms, timestep, temperature_K=temperature_K, tdamp=damping)
    dynamics._thermostat = NoseHooverChainThermostat(
        num_atoms_global=degrees_of_freedom(dynamics) // 3, masses=dynamics.masses, temperature_K=temperature_K, tdamp=damping
    )
    return dynamics


def degrees_of_freedom(dynamics: MolecularDynamics) -> int:
    """What kinetic energy is shared among: 3N under Langevin, else 3N − 3, since the centre of mass is at rest and stays so."""
    number = len(dynamics.atoms)
    return 3 * number if isinstance(dynamics, Langevin) or number == 1 else 3 * number - 3


def temperature(dynamics: MolecularDynamics) -> float:
    """The temperature, K, that the kinetic energy stands for; ASE's own counts 3N degrees of freedom always."""
    return float(2 * dynamics.atoms.get_kinetic_energy() / (degrees_of_freedom(dynamics) * units.kB))


def conserved_energy(dynamics: MolecularDynamics) -> float:
    """What the integrator should conserve, eV; NaN for Langevin, which conserves nothing."""
    if isinstance(dynamics, Langevin):
        return float("nan")
    total = float(dynamics.atoms.get_potential_energy() + dynamics.atoms.get_kinetic_energy())
    # Not ASE's sum of the same: that one wants a free energy, which not every calculator has.
    return total + dynamics._thermostat.get_thermostat_energy() if isinstance(dynamics, NoseHooverChainNVT) else total


def capture(dynamics: MolecularDynamics, random: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Everything that decides the next steps, as arrays without pickles: positions, momenta, random numbers, thermostat."""
    state: dict[str, NDArray[Any]] = {
        "positions": dynamics.atoms.get_positions(),
        "momenta": dynamics.atoms.get_momenta(),
        # The generator's state has integers of 128 bits, which arrays cannot hold.
        "random": np.array(json.dumps(random.bit_generator.state)),
    }
    if isinstance(dynamics, NoseHooverChainNVT):
        state |= {f"chain{name}": getattr(dynamics._thermostat, name).copy() for name in CHAIN}
    return state


def restore_atoms(atoms: Atoms, random: np.random.Generator, state: dict[str, NDArray[Any]]) -> None:
    """Put positions, momenta and random numbers back; to be called before the integrator is made."""
    atoms.set_positions(state["positions"])
    atoms.set_momenta(state["momenta"])
    random.bit_generator.state = json.loads(str(state["random"]))


def restore_thermostat(dynamics: MolecularDynamics, state: dict[str, NDArray[Any]]) -> None:
    """Put the variables of a Nosé-Hoover chain back, if the integrator has one."""
    if isinstance(dynamics, NoseHooverChainNVT):
        for name in CHAIN:
            getattr(dynamics._thermostat, name)[:] = state[f"chain{name}"]
