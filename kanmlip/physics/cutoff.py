"""What happens when a neighbour crosses the cutoff: jumps of the energy and of the force on the atom that moves."""

from __future__ import annotations

from itertools import combinations_with_replacement

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, covalent_radii

from kanmlip.physics.part import Part

# The bar of the study: an energy conserved to 0.1 meV/atom/ps allows no larger jump.
LARGEST_JUMP_EV = 1e-6
SPACING = 1e-4  # Å between the points on either side of the cutoff
CURVE = np.linspace(-0.6, 0.15, 151)


def smoothness_at_cutoff(frame: Atoms, calculator: Calculator, cutoff: float, species: tuple[int, ...]) -> Part:
    """Move one atom through the cutoff of another, in a dimer of every pair of species, in a trimer, and in a structure.

    A jump is the difference of two parabolas, through three points on either side, continued to the cutoff itself: what changes
    smoothly drops out, also where the other neighbours pull.

    Args:
        frame: A structure of the data, in which the pair nearest to the cutoff is taken.
        calculator: The potential.
        cutoff: Å.
        species: Atomic numbers that the model knows.

    Returns:
        ``dimer_jump_eV``, ``trimer_jump_eV`` (the largest of the species) and ``frame_jump_eV`` (without it if no pair of the frame is
        near), the same of the force (``…_force_jump_eV_per_A``), ``largest_jump_eV``, and E(r) of the dimers around the cutoff, less its
        value beyond.
    """
    values: dict[str, float] = {}
    curves: dict[str, np.ndarray] = {"r_A": cutoff + CURVE}
    for first, second in combinations_with_replacement(species, 2):
        pair = f"{chemical_symbols[first]}-{chemical_symbols[second]}"
        bond = covalent_radii[first] + covalent_radii[second]
        dimer = Atoms([first, second], positions=[[0, 0, 0], [0, 0, cutoff]])
        trimer = Atoms([first, second, first], positions=[[0, 0, 0], [0, 0, cutoff], [0.9 * bond, 0, 0.4 * bond]])
        for name, cluster in (("dimer", dimer), ("trimer", trimer)):
            _keep_largest(values, name, crossing_jump(cluster, 1, np.array([0.0, 0.0, 1.0]), calculator))
        energies = np.array([_energy(dimer, 1, np.array([0.0, 0.0, x]), calculator)[0] for x in CURVE])
        curves[f"energy_eV {pair}"] = energies - energies[-1]
    pair_in_frame = nearest_to_cutoff(frame, cutoff)
    if pair_in_frame is not None:
        moved, direction, offset = pair_in_frame
        at_cutoff = frame.copy()
        at_cutoff.positions[moved] += offset * direction
        _keep_largest(values, "frame", crossing_jump(at_cutoff, moved, direction, calculator))
    values["largest_jump_eV"] = max(value for name, value in values.items() if name.endswith("_jump_eV"))
    return Part(values, curves)


def _keep_largest(values: dict[str, float], name: str, jump: tuple[float, float]) -> None:
    for key, value in zip((f"{name}_jump_eV", f"{name}_force_jump_eV_per_A"), jump, strict=True):
        values[key] = max(values.get(key, 0.0), value)


def crossing_jump(at_cutoff: Atoms, moved: int, direction: np.ndarray, calculator: Calculator) -> tuple[float, float]:
    """Jumps of energy (eV) and force (eV/Å) where an atom crosses.

    Args:
        at_cutoff: With the atom exactly at the cutoff of another.
        moved: Index of the atom.
        direction: [3], unit vector away from the other.
        calculator: The potential.
    """
    sides = []
    for sign in (-1.0, 1.0):
        at = [_energy(at_cutoff, moved, sign * step * SPACING * direction, calculator) for step in (1, 2, 3)]
        # The parabola through the values at 1, 2 and 3 spacings, at 0.
        sides.append(3 * np.array(at[0]) - 3 * np.array(at[1]) + np.array(at[2]))
    energy, force = sides[1][0] - sides[0][0], sides[1][1:] - sides[0][1:]
    return float(abs(energy)), float(np.linalg.norm(force))


def _energy(atoms: Atoms, moved: int, shift: np.ndarray, calculator: Calculator) -> tuple[float, float, float, float]:
    """Energy (eV) and the force (eV/Å) on the atom that is moved."""
    copy = atoms.copy()
    copy.positions[moved] += shift
    copy.calc = calculator
    fx, fy, fz = copy.get_forces()[moved]
    return float(copy.get_potential_energy()), float(fx), float(fy), float(fz)


def nearest_to_cutoff(frame: Atoms, cutoff: float) -> tuple[int, np.ndarray, float] | None:
    """The pair whose distance is nearest to the cutoff: the atom to move, the unit vector to it from the other, and how far to move.

    A pair of an atom with its own image does not count: both would move. None where no pair is within 1.5 Å beyond the cutoff.
    """
    from matscipy.neighbours import neighbour_list

    from kanmlip.data.neighbours import search_cell

    reach = cutoff + 1.5
    cell, positions = search_cell(frame, reach)
    i, j, vector = neighbour_list("ijD", positions=positions, cell=cell, pbc=frame.pbc, cutoff=reach)
    distance = np.linalg.norm(vector, axis=1)
    distance[i == j] = np.inf
    if not np.isfinite(distance).any():
        return None
    best = int(np.abs(distance - cutoff).argmin())
    return int(j[best]), vector[best] / distance[best], float(cutoff - distance[best])
