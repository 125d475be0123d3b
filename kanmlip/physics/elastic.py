"""Elastic constants of a cubic crystal from the stress of small strains."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from kanmlip.errors import ConfigError
from kanmlip.physics.crystal import is_cubic, relaxed, strained
from kanmlip.physics.part import Part

STRAIN = 2e-3


def elastic_constants(crystal: Atoms, calculator: Calculator) -> Part:
    """C11, C12 and C44 by central differences of the stress, atoms relaxed.

    Args:
        crystal: At zero pressure, its cell a cube along the axes.
        calculator: The potential, with stress.

    Returns:
        ``C11_GPa``, ``C12_GPa``, ``C44_GPa``, the bulk modulus (C11 + 2 C12)/3 that they make, and ``stable``: 1 if the crystal meets
        Born's criteria C11 > |C12|, C11 + 2 C12 > 0, C44 > 0, else 0.

    Raises:
        ConfigError: If the crystal is not a cube.
    """
    if not is_cubic(crystal):
        raise ConfigError("elastic constants are computed for a cubic cell along the axes only; this crystal's is not")
    stretch = np.diag([STRAIN, 0, 0])
    shear = np.zeros((3, 3))
    shear[1, 2] = shear[2, 1] = STRAIN / 2  # γ = 2 ε in Voigt's notation
    pull = _stress(crystal, stretch, calculator) - _stress(crystal, -stretch, calculator)
    twist = _stress(crystal, shear, calculator) - _stress(crystal, -shear, calculator)
    c11, c12, c44 = (float(value / (2 * STRAIN) / units.GPa) for value in (pull[0], (pull[1] + pull[2]) / 2, twist[3]))
    values = {
        "C11_GPa": c11,
        "C12_GPa": c12,
        "C44_GPa": c44,
        "bulk_modulus_GPa": (c11 + 2 * c12) / 3,
        "stable": float(c11 > abs(c12) and c11 + 2 * c12 > 0 and c44 > 0),
    }
    return Part(values)


def _stress(crystal: Atoms, strain: np.ndarray, calculator: Calculator) -> np.ndarray:
    """Stress [6] in Voigt's order, eV/Å³."""
    return np.asarray(relaxed(strained(crystal, strain), calculator).get_stress())
