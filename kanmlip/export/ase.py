"""A trained run as an ASE calculator: ``atoms.calc = kanmlip.export.ase.load(run)``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from kanmlip.data.labels import LABELS, has_volume
from kanmlip.errors import DataError
from kanmlip.export.loading import LoadedRun, LoadOptions, load_potential


def load(run: str | Path, **options: Unpack[LoadOptions]) -> KanmlipCalculator:
    """The calculator of a run; for the options and what is raised see :func:`kanmlip.export.loading.load_potential`."""
    return KanmlipCalculator(load_potential(run, **options))


class KanmlipCalculator(Calculator):  # type: ignore[misc]  # ase comes without types
    """Energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt order, ASE's sign) of a trained model; for ETGNN, its tensors.

    The model knows total energies only, so there are no energies of single atoms. ``free_energy`` is ``energy``.
    Results are kept as ASE keeps them: an unchanged structure is not computed again.

    Args:
        run: From :func:`kanmlip.export.loading.load_potential`.

    Attributes:
        run: The same.
    """

    def __init__(self, run: LoadedRun) -> None:
        super().__init__()
        self.run = run
        predicts = sorted(run.config.model.predicts)
        self.implemented_properties: list[str] = [*predicts, "free_energy"] if "energy" in predicts else predicts
        self._wants_stress = False

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Evaluate the model; ASE calls this when it has no results for a structure.

        Raises:
            DataError: If the structure has a species that the model was not trained on, or no atoms.
            PropertyNotImplementedError: If stress is asked for and the cell has no volume.
        """
        super().calculate(atoms, properties, system_changes)
        check_structure(self.atoms, self.run)
        # As with ASE's own calculators: along open directions too stress is the virial over the cell's volume.
        has_volume = bool(self.atoms.cell.rank == 3)
        if "stress" in properties and not has_volume:
            raise PropertyNotImplementedError("stress needs a cell with a volume; this structure's has none")
        # Who asks for stress once, asks after every step and after the forces: one evaluation for both, then.
        self._wants_stress = self._wants_stress or "stress" in properties
        with_stress = self._wants_stress and has_volume
        graph = self.run.config.model.collate([self.atoms]).to(device=self.run.device)
        output = self.run.config.model.forward(self.run.potential, graph, compute_stress=with_stress)
        self.results = to_ase({name: value.detach().cpu().numpy() for name, value in output.items()})


def to_ase(output: dict[str, np.ndarray]) -> dict[str, Any]:
    """The labels of a batch of one structure, in the shapes that ASE has them in."""
    results: dict[str, Any] = {}
    for name, value in output.items():
        results[name] = np.asarray(value if LABELS[name].per == "atom" else value[0], dtype=np.float64)
    if "energy" in results:
        results["energy"] = results["free_energy"] = float(results["energy"])
    if "stress" in results:
        results["stress"] = full_3x3_to_voigt_6_stress(results["stress"])
    return results


def check_structure(atoms: Atoms, run: LoadedRun) -> None:
    """Check that a structure has atoms, none that the model does not know, and coordinates and vectors from which distances follow.

    A search for neighbours leaves out an atom that is nowhere, without a word, and need not end where a vector is no number.

    Raises:
        DataError: Naming what is wrong, and the way out.
    """
    if len(atoms) == 0:
        raise DataError("the structure has no atoms")
    lost = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
    if len(lost):
        raise DataError(f"atom {lost[0]} of the structure is at {atoms.positions[lost[0]]}: coordinates must be finite numbers")
    if not np.isfinite(np.asarray(atoms.cell)).all():
        raise DataError(f"the structure's cell is {atoms.cell.tolist()}: its vectors must be finite numbers")
    if not has_volume(atoms):
        along = ", ".join(name for name, periodic in zip("abc", atoms.pbc, strict=True) if periodic)
        raise DataError(
            f"the structure is periodic along {along}, where its cell is {atoms.cell.tolist()}: no vectors or dependent ones; "
            f"give it a cell, or pbc=False where it is open"
        )
    unknown = sorted(set(atoms.numbers.tolist()) - set(run.species))
    if unknown:
        symbols = ", ".join(chemical_symbols[z] for z in unknown)
        raise DataError(
            f"the structure has {symbols}, which {run.folder.name} was not trained on; "
            f"it knows {', '.join(chemical_symbols[z] for z in run.species)}"
        )
