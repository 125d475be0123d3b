"""The phonon band of an fcc crystal along its usual path, by phonopy."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from kanmlip.errors import ConfigError, MissingDependencyError
from kanmlip.physics.part import Part

# Points in units of the primitive cell's reciprocal vectors (Setyawan and Curtarolo, Comput. Mater. Sci. 49, 299 (2010)).
POINTS = {"Γ": (0, 0, 0), "X": (0.5, 0, 0.5), "W": (0.5, 0.25, 0.75), "K": (0.375, 0.375, 0.75), "L": (0.5, 0.5, 0.5)}
PATH = ("Γ", "X", "W", "K", "Γ", "L")
POINTS_A_SEGMENT = 40
DISPLACEMENT = 0.01  # Å, phonopy's own
LEAST_LENGTH = 12.0  # Å of the supercell: force constants of neighbours up to half of it


def phonon_band(crystal: Atoms, calculator: Calculator) -> Part:
    """Frequencies of a monatomic fcc crystal.

    Args:
        crystal: The conventional cell of four atoms at zero pressure.
        calculator: The potential.

    Returns:
        Longitudinal and transverse frequencies at X and L, ``highest_THz``, ``lowest_THz`` (negative for an imaginary frequency: the
        crystal is not stable), ``acoustic_at_gamma_THz`` (what is left of the translations, 0 if all is right); and the band,
        with the places of its corners.

    Raises:
        MissingDependencyError: If phonopy is not installed.
        ConfigError: If the crystal is not a conventional fcc cell.
    """
    if find_spec("phonopy") is None:
        raise MissingDependencyError("phonons need phonopy, which is not installed; run: pip install 'kanmlip[phonons]'")
    if not is_fcc(crystal):
        raise ConfigError("phonon bands are computed for the conventional cell of a monatomic fcc crystal only; this crystal is another")
    from phonopy import Phonopy
    from phonopy.phonon.band_structure import get_band_qpoints_and_path_connections
    from phonopy.structure.atoms import PhonopyAtoms

    # An even number: then the waves at L fit into the supercell as those at X do, and both frequencies are free of interpolation.
    times = 2 * int(np.ceil(LEAST_LENGTH / crystal.cell.lengths()[0] / 2))
    cell = PhonopyAtoms(symbols=list(crystal.symbols), cell=np.array(crystal.cell), scaled_positions=crystal.get_scaled_positions())
    phonons = Phonopy(cell, supercell_matrix=times * np.eye(3, dtype=int), primitive_matrix="F")
    phonons.generate_displacements(distance=DISPLACEMENT)
    phonons.forces = np.array([_forces(displaced, calculator) for displaced in phonons.supercells_with_displacements])
    phonons.produce_force_constants()
    corners = [[list(POINTS[name]) for name in PATH]]
    qpoints, connections = get_band_qpoints_and_path_connections(corners, npoints=POINTS_A_SEGMENT)
    phonons.run_band_structure(qpoints, path_connections=connections)
    band = phonons.get_band_structure_dict()
    frequencies = np.concatenate(band["frequencies"])  # [P, 3]
    at = {name: np.sort(phonons.get_frequencies(np.array(POINTS[name]))) for name in ("X", "L", "Γ")}
    values = {
        "X_longitudinal_THz": float(at["X"][2]),
        "X_transverse_THz": float(at["X"][0]),
        "L_longitudinal_THz": float(at["L"][2]),
        "L_transverse_THz": float(at["L"][0]),
        "highest_THz": float(frequencies.max()),
        "lowest_THz": float(frequencies.min()),
        "acoustic_at_gamma_THz": float(np.abs(at["Γ"]).max()),
    }
    distances = [np.asarray(segment) for segment in band["distances"]]
    corner_places = np.array([distances[0][0], *(segment[-1] for segment in distances)])
    return Part(values, {"distance": np.concatenate(distances), "frequency_THz": frequencies, "corners": corner_places})


def is_fcc(crystal: Atoms) -> bool:
    """Whether this is a cube along the axes with one species at its corners and faces."""
    from kanmlip.physics.crystal import is_cubic

    if not is_cubic(crystal) or len(crystal) != 4 or len(set(crystal.numbers.tolist())) != 1:
        return False
    places = crystal.get_scaled_positions() - crystal.get_scaled_positions()[0]
    found = {tuple(int(x) for x in np.round(2 * place) % 2) for place in places}
    return found == {(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0)} and bool(np.allclose(2 * places, np.round(2 * places), atol=1e-6))


def _forces(displaced: object, calculator: Calculator) -> np.ndarray:
    from phonopy.structure.atoms import PhonopyAtoms

    if not isinstance(displaced, PhonopyAtoms):
        raise ConfigError("phonopy gave no supercell with displacements; its version may not fit, kanmlip was tested with 4.10")
    atoms = Atoms(displaced.symbols, cell=displaced.cell, scaled_positions=displaced.scaled_positions, pbc=True)
    atoms.calc = calculator
    return np.asarray(atoms.get_forces())
