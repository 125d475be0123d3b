"""The ways out of a run folder, which models have which, and what each writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ase.data import chemical_symbols

from kanmlip.errors import ConfigError, MissingDependencyError, describe_choice
from kanmlip.experiment.atomic import write_text

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig
    from kanmlip.export.loading import LoadedRun
    from kanmlip.models.base import ModelConfig

TARGETS = ("ase", "lammps", "torchsim", "package")
PORTABLE = ("ase", "torchsim")  # those that write the folder of kanmlip.export.portable


@dataclass
class Export:
    """What was asked for, and what came of it.

    Attributes:
        reload: Loads the run anew, with the backend given: writers change the model that they write.
        folder: Where files go.
        device: Of compiled models.
        kernels: KANs in compiled models are kanmlip's kernels, which the file then holds.
        written: Files and folders, each with what it was checked by.
        notes: Lines for the user: how to use the files, and what was left out.
    """

    reload: Callable[[str], LoadedRun]
    folder: Path
    device: str
    kernels: bool = False
    written: dict[Path, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def family(model: ModelConfig) -> str:
    """Whose file formats a model has: ``mace``, ``nequip``, ``allegro``, or none's, which is ``""``."""
    for name in ("mace", "allegro", "nequip"):  # allegro needs nequip as well
        if name in model.requires:
            return name
    return ""


def check_route(config: RunConfig, target: str) -> None:
    """Refuse, before anything is built, what upstream has no way for.

    Raises:
        ConfigError: In one line, with a way that there is.
    """
    if target not in TARGETS:
        raise ConfigError(describe_choice("--to", target, TARGETS))
    model = config.model
    if target != "ase" and "energy" not in model.predicts:
        raise ConfigError(f"--to {target}: model={model.name} predicts {', '.join(sorted(model.predicts))} and no energy; choose --to ase")
    if target == "package" and family(model) not in ("nequip", "allegro"):
        raise ConfigError(
            f"--to package: packages are a format of NequIP and Allegro, model={model.name} has none; choose --to lammps or --to ase"
        )
    if target == "lammps" and not family(model):
        raise ConfigError(
            f"--to lammps: LAMMPS has no pair style for model={model.name}; choose --to ase and drive LAMMPS with kanmlip.export.lammps"
        )


def write(export: Export, target: str) -> None:
    """Write the files of a target that :func:`check_route` has passed.

    Raises:
        KanmlipError: If a written file is not the model in memory.
        MissingDependencyError: If a package that the target needs is not installed.
    """
    writer = {"ase": _ase, "torchsim": _torchsim, "package": _package, "lammps": _lammps}[target]
    writer(export)


def _ase(export: Export) -> None:
    from kanmlip.export.portable import write_portable

    difference = write_portable(export.reload("auto"), export.folder)
    export.written[export.folder] = str(difference or "loads again")
    export.notes.append(f'from kanmlip.export import ase; atoms.calc = ase.load("{export.folder}")')


def _torchsim(export: Export) -> None:
    from kanmlip.export.portable import write_portable
    from kanmlip.export.torchsim import TorchSimModel

    run = export.reload("auto")
    TorchSimModel(run)
    export.written[export.folder] = str(write_portable(run, export.folder))
    export.notes.append(f'from kanmlip.export import torchsim; model = torchsim.load("{export.folder}")')


def _package(export: Export) -> None:
    from kanmlip.export.nequip_files import write_package

    run = export.reload("inductor")
    path = export.folder / f"{run.folder.name}.nequip.zip"
    export.written[path] = str(write_package(run, path))
    target = f"pair_{family(run.config.model)}"
    export.notes += [
        f"on the machine that runs LAMMPS: nequip-compile {path.name} {run.folder.name}.nequip.pt2 --mode aotinductor --device cuda "
        f"--target {target}",
        f"for ML-IAP: nequip-prepare-lmp-mliap {path.name} {run.folder.name}.nequip.lmp.pt",
    ]


def _lammps(export: Export) -> None:
    run = export.reload("reference")
    if family(run.config.model) == "mace":
        _mace(export, run)
    else:
        _nequip(export, run)


def _nequip(export: Export, run: LoadedRun) -> None:
    """A package, and the model compiled from it for this kind of machine."""
    from kanmlip.export.nequip_compiled import compile_package
    from kanmlip.export.with_kernels import compile_with_kernels

    _package(export)
    (package,) = export.written
    style = family(run.config.model)
    path = export.folder / f"{run.folder.name}.nequip.pt2"
    if export.kernels:
        export.written[path] = str(compile_with_kernels(run, export.reload("native"), path, f"pair_{style}"))
        export.notes.append(
            f"{path.name} holds kanmlip's kernels, for this kind of processor and PyTorch {torch.__version__}; another PyTorch in LAMMPS "
            f"refuses it: --no-kernels leaves them out, for a slower model"
        )
    else:
        export.written[path] = str(compile_package(package, path, f"pair_{style}", export.device, run))
    # What the pair styles insist on (pair_nequip_allegro.cpp, init_style).
    newton = "on" if style == "allegro" else "off"
    _input(export, run, newton, [f"pair_style {style}", f"pair_coeff * * {path.name} {_symbols(run)}"])


def _mace(export: Export, run: LoadedRun) -> None:
    """The two formats of ``mace_create_lammps_model``."""
    from kanmlip.export.mace_files import write_libtorch, write_mliap

    name = run.folder.name
    libtorch, mliap = export.folder / f"{name}-lammps.pt", export.folder / f"{name}-mliap_lammps.pt"
    export.written[libtorch] = str(write_libtorch(run, libtorch))
    lines = ["pair_style mace no_domain_decomposition", f"pair_coeff * * {libtorch.name} {_symbols(run)}"]
    try:
        export.written[mliap] = str(write_mliap(export.reload("reference"), mliap))
        lines += ["# or, with ML-IAP and its Python:", f"# pair_style mliap unified {mliap.name} 0", f"# pair_coeff * * {_symbols(run)}"]
    except MissingDependencyError as error:
        export.notes.append(f"left out: {error}")
    _input(export, run, "on", lines)


def _input(export: Export, run: LoadedRun, newton: str, pair: list[str]) -> None:
    """The lines of a LAMMPS input that concern the model."""
    path = export.folder / "in.pair"
    head = [
        f"# {run.folder.name}, {str(run.dtype).removeprefix('torch.')}",
        "units metal",
        "atom_style atomic",
        "atom_modify map yes",
        f"newton {newton}",
    ]
    types = ", ".join(f"{number} = {symbol}" for number, symbol in enumerate(_symbols(run).split(), start=1))
    where = ["# read_data ... here", f"# atom types of the data file: {types}; where they are others, put the symbols below in their order"]
    write_text(path, "\n".join([*head, *where, *pair]) + "\n")
    export.written[path] = "lines for a LAMMPS input"
    export.notes.append("a LAMMPS without that pair style can be driven from Python: kanmlip.export.lammps.ExternalForces")


def _symbols(run: LoadedRun) -> str:
    return " ".join(chemical_symbols[z] for z in run.species)
