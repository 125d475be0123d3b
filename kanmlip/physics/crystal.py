"""The crystal that equation of state, elastic constants and phonons are taken of, and its lattice constant in a potential."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.data import chemical_symbols, reference_states
from ase.optimize import BFGS

from kanmlip.dynamics.start import read_structure
from kanmlip.errors import ConfigError

CUBIC = ("fcc", "bcc", "diamond", "sc")
RELAXED = 1e-4  # eV/Å


def reference_crystal(species: Sequence[int], path: Path | None = None) -> Atoms:
    """The conventional cubic cell of an element's ground state at its experimental lattice constant, or a structure from a file.

    Args:
        species: Atomic numbers that the model knows.
        path: A crystal in any form that ASE reads.

    Raises:
        ConfigError: If there is no file and the model has several elements, or one whose ground state is not cubic.
    """
    if path is not None:
        crystal = read_structure(path, "--crystal")
        if not crystal.pbc.all():
            raise ConfigError(f"--crystal={path} is not periodic in all three directions")
        return crystal
    if len(species) != 1:
        names = ", ".join(chemical_symbols[z] for z in species)
        raise ConfigError(f"the model knows {names}: which crystal of them? Give it with --crystal FILE")
    symbol, state = chemical_symbols[species[0]], reference_states[species[0]] or {}
    if state.get("symmetry") not in CUBIC:
        raise ConfigError(f"{symbol} is not cubic in its ground state ({state.get('symmetry')}); give a crystal with --crystal FILE")
    return bulk(symbol, state["symmetry"], a=state["a"], cubic=True)


def is_cubic(crystal: Atoms) -> bool:
    """Whether the cell is a cube along the axes."""
    cell = np.array(crystal.cell)
    return bool(np.allclose(cell, cell[0, 0] * np.eye(3), atol=1e-6 * abs(cell[0, 0])))


def relaxed(crystal: Atoms, calculator: Calculator) -> Atoms:
    """A copy with the calculator, atoms moved to where the forces vanish; the cell stays.

    Raises:
        ConfigError: If they do not vanish anywhere near.
    """
    crystal = crystal.copy()
    crystal.calc = calculator
    if np.linalg.norm(crystal.get_forces(), axis=1).max() > RELAXED:
        optimiser = BFGS(crystal, logfile=None)
        if not optimiser.run(fmax=RELAXED, steps=200):
            raise ConfigError(f"the atoms of {crystal.symbols} do not come to rest within 200 steps of BFGS")
    return crystal


def strained(crystal: Atoms, strain: np.ndarray) -> Atoms:
    """A copy with cell and atoms deformed by the symmetric strain [3, 3]."""
    copy = crystal.copy()
    copy.set_cell(np.array(crystal.cell) @ (np.eye(3) + strain), scale_atoms=True)
    return copy
