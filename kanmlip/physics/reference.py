"""What computed a dataset's labels, examined like a run: what a perfect potential would show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from ase.calculators.calculator import Calculator, all_changes

from kanmlip.dynamics.start import starting_structure
from kanmlip.errors import ConfigError
from kanmlip.export.loading import LoadedRun
from kanmlip.physics.consistency import energy_force_consistency
from kanmlip.physics.examination import PARTS, Check, Examination, Questions, checker, examine_crystal
from kanmlip.physics.part import Part

NOT_ASKED = "only potentials that were trained are judged by it"


class Fresh(Calculator):  # type: ignore[misc]
    """Computes every structure with a calculator of its own, as labels are computed.

    ASE's EMT keeps a neighbour list with a margin, and what it gives depends in the last digits on the structures before.

    Args:
        make: Returns a new calculator with energy, forces and stress.
    """

    implemented_properties: ClassVar = ["energy", "forces", "stress"]

    def __init__(self, make: Callable[[], Calculator]) -> None:
        super().__init__()
        self.make = make

    def calculate(self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Any = all_changes) -> None:
        """Energy (eV), forces (eV/Å) and, where the cell is periodic, stress (eV/Å³).

        Raises:
            ConfigError: If it does not know an element.
        """
        super().calculate(atoms, properties, system_changes)
        copy = self.atoms.copy()
        copy.calc = self.make()
        try:
            self.results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces()}
        except NotImplementedError as error:  # a crystal of elements that it does not know
            raise ConfigError(f"{type(copy.calc).__name__} does not compute {copy.symbols}: {error}") from error
        if copy.pbc.all():
            self.results["stress"] = copy.get_stress()


def examine_reference(run: LoadedRun, questions: Questions, say: Callable[[str], None]) -> Examination | None:
    """Check what computed the labels of a run's data; none where that is not known to ASE.

    Args:
        run: Whose dataset, structure and species are taken.
        questions: The same as the run's.
        say: Told what is being done.

    Raises:
        ConfigError: If the structure or the crystal cannot be read.
    """
    dataset = run.config.dataset
    source = dataset.label_source()
    if source is None:
        return None
    name = type(source).__name__
    calculator = Fresh(lambda: dataset.label_source() or source)
    parts = {part: Part(missing=NOT_ASKED) for part in PARTS}
    check: Check = checker(f"{name}, which made the labels", parts, say)
    start = starting_structure(run.config, questions.structure)
    check("consistency", lambda: energy_force_consistency(start, calculator))
    examine_crystal(run.species, calculator, questions.crystal, parts, check)
    return Examination(name, f"{name} (labels)", parts)
