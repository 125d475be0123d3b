"""Energy against volume: lattice constant, cohesion and bulk modulus by the equation of Birch and Murnaghan."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.eos import EquationOfState

from kanmlip.errors import ConfigError
from kanmlip.physics.crystal import relaxed, strained
from kanmlip.physics.part import Part

SCAN = np.linspace(0.90, 1.12, 23)  # lengths, to find the minimum wherever the potential has it
FIT = np.linspace(0.99, 1.01, 9)  # near enough for the bulk modulus to be that of the elastic constants


def equation_of_state(crystal: Atoms, calculator: Calculator) -> tuple[Part, Atoms]:
    """Fit E(V) around the minimum nearest to the crystal's own volume.

    Cells are scaled without a change of shape; atoms that the symmetry does not hold in place relax.

    Args:
        crystal: Near equilibrium.
        calculator: The potential.

    Returns:
        ``lattice_constant_A`` (the length of the first vector), ``volume_A3_per_atom``, ``energy_eV_per_atom`` and
        ``bulk_modulus_GPa``, with E(V) over the whole scan; and the crystal at the minimum.

    Raises:
        ConfigError: If the energy has no minimum between 0.90 and 1.12 of the given lengths.
    """
    number = len(crystal)

    def evaluate(base: Atoms, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        cells = [relaxed(strained(base, (length - 1) * np.eye(3)), calculator) for length in lengths]
        return np.array([cell.get_volume() for cell in cells]), np.array([cell.get_potential_energy() for cell in cells])

    volumes, energies = evaluate(crystal, SCAN)
    valleys = [i for i in range(1, len(SCAN) - 1) if energies[i] < min(energies[i - 1], energies[i + 1])]
    if not valleys:
        raise ConfigError(f"E(V) has no minimum between {SCAN[0]:.2f} and {SCAN[-1]:.2f} of the crystal's lengths")
    guess = min(valleys, key=lambda i: abs(SCAN[i] - 1))
    centre = strained(crystal, (SCAN[guess] - 1) * np.eye(3))
    for _ in range(2):  # the second fit is centred on the minimum of the first
        try:
            volume, energy, modulus = EquationOfState(*evaluate(centre, FIT), eos="birchmurnaghan").fit(warn=False)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"E(V) around its minimum is no Birch-Murnaghan curve: {error}") from error
        centre = strained(centre, ((volume / centre.get_volume()) ** (1 / 3) - 1) * np.eye(3))
    ratio = (volume / crystal.get_volume()) ** (1 / 3)
    values = {
        "lattice_constant_A": float(ratio * crystal.cell.lengths()[0]),
        "volume_A3_per_atom": float(volume / number),
        "energy_eV_per_atom": float(energy / number),
        "bulk_modulus_GPa": float(modulus / units.GPa),
    }
    curves = {"volume_A3_per_atom": volumes / number, "energy_eV_per_atom": energies / number}
    return Part(values, curves), relaxed(centre, calculator)
