"""Every check of a run's physics, one after another: what cannot be checked says why and stops nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator

from kanmlip.dynamics import MDSettings
from kanmlip.dynamics.simulation import fingerprint
from kanmlip.dynamics.source import describe_source
from kanmlip.dynamics.start import starting_structure
from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.experiment.config import RunConfig
from kanmlip.export.ase import KanmlipCalculator
from kanmlip.export.loading import LoadedRun
from kanmlip.physics.consistency import energy_force_consistency
from kanmlip.physics.crystal import reference_crystal
from kanmlip.physics.cutoff import smoothness_at_cutoff
from kanmlip.physics.elastic import elastic_constants
from kanmlip.physics.equation_of_state import equation_of_state
from kanmlip.physics.nve import nve_drift
from kanmlip.physics.part import Part
from kanmlip.physics.phonons import phonon_band

Check = Callable[[str, Callable[[], Part]], None]

PARTS = ("equation_of_state", "elastic_constants", "phonons", "nve", "cutoff", "consistency")


@dataclass(frozen=True)
class Questions:
    """What is asked of every run alike.

    Attributes:
        crystal: File of a crystal; none for the element's own.
        structure: File of the structure for NVE and consistency; none for the first validation frame of the run's data.
        nve: The NVE run; none to leave it out.
    """

    crystal: Path | None = None
    structure: Path | None = None
    nve: MDSettings | None = field(default_factory=lambda: MDSettings(temperature_K=600.0, equilibration=500, steps=5000, interval=5))


@dataclass(frozen=True)
class Examination:
    """The physics of one potential.

    Attributes:
        name: Of the run, or of what computed the labels.
        head: Placement and basis in the words of the tables.
        parts: Name → outcome, of ``PARTS``.
    """

    name: str
    head: str
    parts: dict[str, Part]

    def to_plain(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"run": self.name, "head": self.head, "parts": {name: part.to_plain() for name, part in self.parts.items()}}


def check_energies(config: RunConfig) -> None:
    """Refuse models that have no energy.

    Raises:
        ConfigError: Saying what the model predicts.
    """
    if "forces" not in config.model.predicts:
        raise ConfigError(f"model={config.model.name} predicts {', '.join(sorted(config.model.predicts))}: it has no energy to examine")


def examine(run: LoadedRun, questions: Questions, folder: Path, say: Callable[[str], None]) -> Examination:
    """Check a run's physics.

    Args:
        run: In float64: rounding in float32 would hide what is looked for.
        questions: The same for every run that is compared.
        folder: Gets the NVE run's files.
        say: Told what is being done.

    Raises:
        ConfigError: If the model has no energy, or the structure or crystal cannot be read.
    """
    check_energies(run.config)
    calculator, cutoff = KanmlipCalculator(run), run.config.model.cutoff
    start = starting_structure(run.config, questions.structure)
    parts: dict[str, Part] = {}
    check = checker(run.folder.name, parts, say)
    check("cutoff", lambda: smoothness_at_cutoff(start, calculator, cutoff, run.species))
    check("consistency", lambda: energy_force_consistency(start, calculator))
    nve = questions.nve
    if nve is None:
        parts["nve"] = Part(missing="left out (--nve-steps 0)")
    else:
        source = describe_source(run)
        # A run that is trained again, or another structure, has an NVE run of its own: there is nobody here to say --restart to.
        start_and_weights = hashlib.sha256(f"{fingerprint(start)} {source['weights']}".encode()).hexdigest()[:8]
        here = folder / f"nve-{nve.temperature_K:g}K-e{nve.equilibration}-s{nve.seed}-{start_and_weights}"
        check("nve", lambda: nve_drift(start, calculator, nve, here, cutoff, source))
    examine_crystal(run.species, calculator, questions.crystal, parts, check)
    config = run.config
    head = "MLP" if config.basis_name is None else f"{config.placement.name} {config.basis_name}"
    return Examination(run.folder.name, head, {name: parts[name] for name in PARTS})


def checker(name: str, parts: dict[str, Part], say: Callable[[str], None]) -> Check:
    """A function that puts the outcome of a check, or why there is none, among ``parts``."""

    def check(part: str, compute: Callable[[], Part]) -> None:
        say(f"{name}: {part.replace('_', ' ')}")
        try:
            parts[part] = compute()
        except KanmlipError as error:
            parts[part] = Part(missing=str(error))

    return check


def examine_crystal(species: Sequence[int], calculator: Calculator, path: Path | None, parts: dict[str, Part], check: Check) -> None:
    """The checks that need a crystal at its own lattice constant; each of them missing for the reason that the first one has."""
    crystals = []

    def fit() -> Part:
        part, crystal = equation_of_state(reference_crystal(species, path), calculator)
        crystals.append(crystal)
        return part

    check("equation_of_state", fit)
    for name, compute in (("elastic_constants", elastic_constants), ("phonons", phonon_band)):
        if crystals:
            check(name, lambda compute=compute: compute(crystals[0], calculator))  # type: ignore[misc]
        else:
            parts[name] = Part(missing=parts["equation_of_state"].missing)
