"""Factors between the units that energies, forces and stresses come in, recognised by their size."""

from __future__ import annotations

import math
from collections.abc import Mapping

HARTREE, RYDBERG, BOHR, KCAL_MOL, KJ_MOL = 27.211386, 13.605693, 0.52917721, 1 / 23.060548, 1 / 96.485332  # in eV and Å (CODATA 2018)
GPA = 1 / 160.21766  # in eV/Å³
# ΔE is so many times the work of the forces where …
ENERGY_FACTORS = {
    "the energies are in hartree": 1 / HARTREE,
    "the energies are in rydberg": 1 / RYDBERG,
    "the energies are in kcal/mol": 1 / KCAL_MOL,
    "the energies are in kJ/mol": 1 / KJ_MOL,
    "the energies are in meV, or the forces in keV/Å": 1e3,
    "the forces are in hartree/bohr": HARTREE / BOHR,
    "the forces are in rydberg/bohr": RYDBERG / BOHR,
    "the forces are in hartree/Å": HARTREE,
    "the forces are in kcal/mol/Å": KCAL_MOL,
    "the forces are in kJ/mol/Å": KJ_MOL,
    "the forces are in meV/Å": 1e-3,
    "the forces are in eV/bohr": 1 / BOHR,
    "the positions are in bohr": BOHR,
    "energies and forces are in hartree and hartree/bohr, positions in Å": 1 / BOHR,
}
STRESS_FACTORS = {
    "it is in eV/Å³": 1.0,
    "it is in GPa": GPA,
    "it is in kbar": GPA / 10,
    "it is in bar": GPA / 1e4,
    "it is in meV/Å³": 1e-3,
    "it is in hartree/bohr³": HARTREE / BOHR**3,
    "it is in rydberg/bohr³": RYDBERG / BOHR**3,
}


def name_energy_factor(factor: float, tolerance: float) -> str:
    """What a wrong factor between energies and the work of forces most likely means.

    Args:
        factor: Energies over work.
        tolerance: Factor by which it may be off.
    """
    sign = "what is given as forces has the opposite sign (gradients): multiply it by -1" if factor < 0 else ""
    if sign and _near(abs(factor), 1.0, tolerance):
        return sign
    text = _nearest(abs(factor), ENERGY_FACTORS, tolerance) or "check the units of energies (eV), forces (eV/Å) and positions (Å)"
    return f"{text}{'; and ' + sign if sign else ''}; convert to eV and Å"


def name_stress_factor(factor: float, volume: float, tolerance: float) -> str:
    """The same for the work of the stress.

    Args:
        factor: Energies over work.
        volume: Of the cell, Å³: a virial is minus the stress times the volume.
        tolerance: Factor by which it may be off.
    """
    opposite = " and has the opposite sign (ASE's is positive where the cell wants to shrink): multiply it by -1" if factor < 0 else ""
    if _near(abs(factor) * volume, 1.0, tolerance):
        return "it is a virial in eV" + ("; name it by dataset.virial_key instead" if factor < 0 else " of the opposite sign")
    text = _nearest(abs(factor), STRESS_FACTORS, tolerance) or "check its unit (eV/Å³)"
    return f"{text}{opposite}; convert it to eV/Å³"


def _nearest(factor: float, names: Mapping[str, float], tolerance: float) -> str:
    """The units whose factors are the nearest, of those within the tolerance; several where they cannot be told apart."""
    distance = {name: abs(math.log(factor / value)) for name, value in names.items()}
    least = min(distance.values())
    if least > math.log(tolerance):
        return ""
    slack = math.log(tolerance) / 4
    return "probably " + " or ".join(sorted((name for name in names if distance[name] < least + slack), key=lambda name: distance[name]))


def _near(value: float, expected: float, tolerance: float) -> bool:
    return value > 0 and abs(math.log(value / expected)) < math.log(tolerance)
