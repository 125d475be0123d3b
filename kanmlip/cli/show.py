"""``kanmlip-show``: pictures of a run, and with ``--physics`` its physics beside the MLP's."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.cli import answer

if TYPE_CHECKING:
    from kanmlip.dynamics import MDSettings
    from kanmlip.export.loading import LoadedRun

EPILOG = """Pictures: learning curves, parity plots, errors by element, and the learned functions of each KAN layer with the density of
its inputs, each as PNG and SVG. Where the run was logged to W&B they are added to its run there. Exit codes: 0, 2 for wrong input."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    return answer("kanmlip-show", lambda: show_physics(options) if options.physics else show_pictures(options))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="kanmlip-show", description="Pictures of a trained run, or its physics.", epilog=EPILOG)
    top.add_argument("run", metavar="RUN", help="a run folder, a run's name, or the beginning of one")
    top.add_argument("--output", type=Path, default=None, metavar="DIR", help="(default: pictures or physics in the run folder)")
    top.add_argument("--no-wandb", action="store_true", help="leave W&B alone though the run was logged there")
    pictures = top.add_argument_group("pictures")
    pictures.add_argument(
        "--functions", type=int, default=16, metavar="N", help="most important functions a KAN layer (default %(default)s)"
    )
    pictures.add_argument("--frames", type=int, default=8, metavar="N", help="structures for the densities (default %(default)s)")
    physics = top.add_argument_group("physics")
    physics.add_argument("--physics", action="store_true", help="equation of state, elastic constants, phonons, NVE, cutoff, consistency")
    physics.add_argument("--mlp", default=None, metavar="RUN", help="to compare with (default: the one of the same settings and seed)")
    physics.add_argument("--crystal", type=Path, default=None, metavar="FILE", help="(default: the element's own, if it is cubic)")
    physics.add_argument("--structure", type=Path, default=None, metavar="FILE", help="for NVE (default: first validation frame)")
    physics.add_argument("--nve-steps", type=int, default=5000, metavar="STEPS", help="of 1 fs; 0 for none (default %(default)s)")
    physics.add_argument("--nve-equilibration", type=int, default=500, metavar="STEPS", help="before them (default %(default)s)")
    physics.add_argument("--nve-temperature", type=float, default=600.0, metavar="K", help="(default %(default)s)")
    return top


def show_pictures(options: argparse.Namespace) -> int:
    """Draw a run.

    Raises:
        KanmlipError: For wrong input.
    """
    from kanmlip.errors import ConfigError
    from kanmlip.export.loading import load_potential
    from kanmlip.pictures.figure import require_matplotlib
    from kanmlip.pictures.run_pictures import draw_run

    for name in ("functions", "frames"):
        if getattr(options, name) < 1:
            raise ConfigError(f"--{name}={getattr(options, name)} must be 1 or more")
    require_matplotlib()
    run = load_potential(options.run)
    folder = options.output if options.output is not None else run.folder / "pictures"
    drawn = draw_run(run, folder, options.functions, options.frames)
    finish(run, folder, drawn.paths, options.no_wandb)
    for line in drawn.missing:
        print(f"not drawn: {line}")
    return 0


def show_physics(options: argparse.Namespace) -> int:
    """Examine a run and its MLP, write the report, print it.

    Raises:
        KanmlipError: For wrong input.
    """
    from kanmlip.errors import ConfigError
    from kanmlip.export.loading import load_potential
    from kanmlip.physics.crystal import reference_crystal
    from kanmlip.physics.examination import Questions, check_energies, examine
    from kanmlip.physics.pictures import draw_physics
    from kanmlip.physics.reference import examine_reference
    from kanmlip.physics.report import write_report
    from kanmlip.pictures.figure import require_matplotlib

    if options.nve_temperature == 0:
        raise ConfigError("--nve-temperature=0 moves nothing; give a temperature above 0 K, or leave the simulation out by --nve-steps=0")
    settings = nve_settings(options)
    require_matplotlib()
    run = load_potential(options.run, dtype="float64")
    check_energies(run.config)
    if options.crystal is not None:
        reference_crystal(run.species, options.crystal)
    mlp, note = load_mlp(run, options.mlp)
    questions = Questions(options.crystal, options.structure, settings)
    folder = options.output if options.output is not None else run.folder / "physics"
    examined = examine(run, questions, folder, say)
    other = examine(mlp, questions, folder / "mlp", say) if mlp else None
    reference = examine_reference(run, questions, say)
    if other is not None and other.head == examined.head:
        other = replace(other, head=other.name)
    print(write_report(examined, other, reference, note, folder, named=options.mlp is not None))
    paths = draw_physics([column for column in (examined, other, reference) if column is not None], folder)
    finish(run, folder, [*paths, folder / "physics.md", folder / "physics.json"], options.no_wandb)
    return 0


def nve_settings(options: argparse.Namespace) -> MDSettings | None:
    """The NVE run that the options describe; none if it is left out."""
    from kanmlip.dynamics.settings import read_settings

    values = {"temperature_K": options.nve_temperature, "equilibration": options.nve_equilibration, "steps": options.nve_steps or 1}
    settings = read_settings({**values, "interval": 5}, prefix="--nve-")
    return settings if options.nve_steps else None


def load_mlp(run: LoadedRun, name: str | None) -> tuple[LoadedRun | None, str | None]:
    """The run to compare with, and if there is none to be found, why; one that is named must be there, and be an MLP's."""
    from kanmlip.errors import ConfigError
    from kanmlip.export.loading import load_potential
    from kanmlip.physics.counterpart import find_counterpart

    if name is not None:
        named = load_potential(name, dtype="float64")
        if named.config.has_kan:
            raise ConfigError(f"--mlp={name} is {named.folder.name}, which has KANs; name a run with placement=none, or leave --mlp out")
        return named, None
    try:
        folder = find_counterpart(run.folder, run.config)
    except ConfigError as error:
        return None, str(error)
    return (None, None) if folder is None else (load_potential(folder, dtype="float64"), None)


def finish(run: LoadedRun, folder: Path, paths: list[Path], no_wandb: bool) -> None:
    """Say what was written, and hand the pictures to W&B if the run was logged there."""
    say(f"in {folder}: {', '.join(sorted(path.name for path in paths))}")
    if run.config.logger.wandb and not no_wandb:
        from kanmlip.pictures.wandb_images import log_pictures

        log_pictures(run.config.logger, run.folder, paths)
        say("logged to W&B")


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
