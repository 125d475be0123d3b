"""Whether forces are the derivatives of the energy, and the stress its derivative by strain."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from kanmlip.physics.crystal import strained
from kanmlip.physics.part import Part

STEPS = (4e-3, 2e-3, 1e-3)  # Å, or strain times Å
DIRECTIONS = 12


def energy_force_consistency(frame: Atoms, calculator: Calculator, seed: int = 0) -> Part:
    """Compare forces and stress with central differences of the energy along random directions of all atoms.

    Differences at three steps are extrapolated to zero (Richardson), so that what is left is the potential's own roughness and
    rounding. Along a direction of all atoms every component of the forces takes part.

    Args:
        frame: A structure of the data.
        calculator: The potential.
        seed: Of the directions.

    Returns:
        ``force_error_eV_per_A``: the largest difference of a directional derivative, ``force_scale_eV_per_A`` what these derivatives
        are on average, and for periodic structures ``stress_error_meV_per_A3``.
    """
    random = np.random.default_rng(seed)
    atoms = frame.copy()
    atoms.calc = calculator
    forces = atoms.get_forces()
    errors, slopes = [], []
    for _ in range(DIRECTIONS):
        direction = random.normal(size=forces.shape)
        direction /= np.linalg.norm(direction)
        slope = float((forces * direction).sum())
        errors.append(abs(slope + extrapolated([_difference(frame, step * direction, calculator) / step for step in STEPS])))
        slopes.append(slope)
    values = {"force_error_eV_per_A": max(errors), "force_scale_eV_per_A": float(np.sqrt(np.mean(np.square(slopes))))}
    if frame.pbc.all():
        values["stress_error_meV_per_A3"] = _stress_error(frame, calculator, random)
    return Part(values)


def extrapolated(differences: list[float]) -> float:
    """The limit of central differences with steps h, h/2 and h/4, whose errors go with h² and h⁴."""
    first, second, third = differences
    once = ((4 * second - first) / 3, (4 * third - second) / 3)
    return (16 * once[1] - once[0]) / 15


def _difference(frame: Atoms, shift: np.ndarray, calculator: Calculator) -> float:
    energies = []
    for sign in (1, -1):
        copy = frame.copy()
        copy.positions += sign * shift
        copy.calc = calculator
        energies.append(copy.get_potential_energy())
    return float(energies[0] - energies[1]) / 2


def _stress_error(frame: Atoms, calculator: Calculator, random: np.random.Generator) -> float:
    atoms = frame.copy()
    atoms.calc = calculator
    stress, volume = atoms.get_stress(voigt=False), atoms.get_volume()
    # Strains that move the farthest atom about as far as the steps say.
    scale = 1 / np.linalg.norm(np.array(frame.cell), axis=1).max()
    errors = []
    for _ in range(3):
        strain = random.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        differences = []
        for step in STEPS:
            energies = []
            for sign in (1, -1):
                copy = strained(frame, sign * step * scale * strain)
                copy.calc = calculator
                energies.append(copy.get_potential_energy())
            differences.append((energies[0] - energies[1]) / (2 * step * scale * volume))
        errors.append(abs(float((stress * strain).sum()) - extrapolated(differences)))
    return 1000 * max(errors)
