"""``kanmlip-md``: molecular dynamics with a trained run; drift, radial distribution and trajectory, resumable at every step."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from kanmlip.cli import answer

if TYPE_CHECKING:
    from ase import Atoms

    from kanmlip.dynamics import MDSettings, Outcome

INTERRUPTED = 130
EPILOG = """The same command again goes on where it was stopped, or with more --steps where it ended; the path is the same to the last
bit on one machine. Exit codes: 0 done, 1 the atoms flew apart, 2 wrong input and nothing started, 130 interrupted and resumable."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return answer("kanmlip-md", lambda: run(options))
    except KeyboardInterrupt:
        say("ended at once; the same command goes on from the last state")
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="kanmlip-md", description="Molecular dynamics with a trained run.", epilog=EPILOG)
    top.add_argument("run", metavar="RUN", help="a run folder, a run's name, or the beginning of one")
    physics = top.add_argument_group("what is simulated")
    physics.add_argument("--ensemble", default="nve", metavar="NAME", help="nve, langevin or nose_hoover (default %(default)s)")
    physics.add_argument("--temperature", type=float, default=300.0, metavar="K", help="(default %(default)s)")
    physics.add_argument("--timestep", type=float, default=1.0, metavar="FS", help="(default %(default)s)")
    physics.add_argument("--steps", type=int, default=5000, help="(default %(default)s)")
    physics.add_argument("--equilibration", type=int, default=0, metavar="STEPS", help="Langevin steps before (default %(default)s)")
    physics.add_argument("--friction", type=float, default=10.0, metavar="1/PS", help="of Langevin (default %(default)s)")
    physics.add_argument("--damping", type=float, default=100.0, metavar="FS", help="of the Nosé-Hoover chain (default %(default)s)")
    physics.add_argument("--seed", type=int, default=0, help="of velocities and thermostat (default %(default)s)")
    physics.add_argument("--structure", type=Path, default=None, metavar="FILE", help="(default: first validation frame of the run's data)")
    physics.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), metavar="N", help="repeat the structure along its vectors")
    model = top.add_argument_group("what computes it")
    model.add_argument("--dtype", default="float64", help="float64 or float32, whose rounding makes energies drift (default %(default)s)")
    model.add_argument("--device", default="cpu", help="cpu, cuda or auto (default %(default)s)")
    model.add_argument("--checkpoint", default="best", help="best or last (default %(default)s)")
    model.add_argument("--force-rough", action="store_true", help="simulate with a head whose forces jump, too")
    output = top.add_argument_group("what it leaves")
    output.add_argument("--interval", type=int, default=10, metavar="STEPS", help="between rows and frames (default %(default)s)")
    output.add_argument("--checkpoint-interval", type=int, default=100, metavar="STEPS", help="between states (default %(default)s)")
    output.add_argument("--output", type=Path, default=None, metavar="DIR", help="(default: md/<what is simulated> in the run folder)")
    output.add_argument("--restart", action="store_true", help="throw away what is in that folder")
    output.add_argument("--no-pictures", action="store_true", help="CSV and JSON only")
    return top


def run(options: argparse.Namespace) -> int:
    """Simulate, analyse, print; see :func:`main`.

    Raises:
        KanmlipError: For wrong input, before anything is computed.
    """
    from kanmlip.dynamics.analysis import analyse
    from kanmlip.dynamics.roughness import check_smooth
    from kanmlip.dynamics.settings import read_settings
    from kanmlip.dynamics.source import describe_source
    from kanmlip.dynamics.start import left_out, starting_structure
    from kanmlip.errors import ConfigError
    from kanmlip.experiment.validation import load_run_config
    from kanmlip.export.ase import KanmlipCalculator, check_structure
    from kanmlip.export.loading import find_run, load_potential
    from kanmlip.malloc import keep_freed_memory
    from kanmlip.pictures.figure import require_matplotlib

    keep_freed_memory()
    settings = read_settings(settings_of(options))
    if not options.no_pictures:
        require_matplotlib()
    config = load_run_config(find_run(options.run))
    if "forces" not in config.model.predicts:
        raise ConfigError(
            f"model={config.model.name} predicts {', '.join(sorted(config.model.predicts))} and no forces; there is no MD with it"
        )
    rough = check_smooth(config, options.force_rough)
    atoms = starting_structure(config, options.structure, tuple(options.repeat))
    loaded = load_potential(options.run, checkpoint=options.checkpoint, dtype=options.dtype, device=options.device)
    check_structure(atoms, loaded)
    atoms.calc = KanmlipCalculator(loaded)
    folder = options.output if options.output is not None else loaded.folder / "md" / name_of(settings, atoms)
    say(f"{loaded.folder.name}: {atoms.symbols}, {describe(settings)}, {options.dtype}, {loaded.device}")
    if rough is not None:
        say(f"warning: {rough}")
    if options.structure is not None and (unused := left_out(options.structure)):
        say(f"warning: {' and '.join(unused)} of {options.structure} are not used: velocities are drawn, masses are the elements' own")
    source = describe_source(loaded, options.checkpoint)
    with stop_on_signal() as stop:
        outcome = simulate_here(atoms, settings, folder, config.model.cutoff, source, options.restart, stop)
    summary = analyse(folder, pictures=not options.no_pictures)
    report(summary, outcome, folder)
    return {"done": 0, "interrupted": INTERRUPTED, "unstable": 1}[outcome.status]


def simulate_here(
    atoms: Atoms, settings: MDSettings, folder: Path, cutoff: float, source: dict[str, Any], restart: bool, stop: Callable[[], bool]
) -> Outcome:
    """The simulation with its progress on stderr."""
    from kanmlip.dynamics import simulate

    return simulate(atoms, settings, folder, cutoff=cutoff, source=source, restart=restart, show_progress=True, stop=stop)


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options by the names of :class:`kanmlip.dynamics.MDSettings`."""
    return {
        "ensemble": options.ensemble.replace("-", "_"),
        "temperature_K": options.temperature,
        "timestep_fs": options.timestep,
        "steps": options.steps,
        "equilibration": options.equilibration,
        "interval": options.interval,
        "checkpoint_interval": options.checkpoint_interval,
        "friction_per_ps": options.friction,
        "damping_fs": options.damping,
        "seed": options.seed,
    }


def name_of(settings: MDSettings, atoms: Atoms) -> str:
    """Folder of a simulation: what a user varies most; the rest is compared before going on."""
    conditions = f"{settings.temperature_K:g}K-{settings.timestep_fs:g}fs"
    return f"{settings.ensemble}-{conditions}-{atoms.get_chemical_formula()}-s{settings.seed}"


def describe(settings: MDSettings) -> str:
    """The ensemble in a few words."""
    before = f" after {settings.equilibration} steps of equilibration" if settings.equilibration else ""
    length = settings.steps * settings.timestep_fs / 1000
    steps = f"{settings.steps} steps of {settings.timestep_fs:g} fs ({length:g} ps)"
    return f"{settings.ensemble} at {settings.temperature_K:g} K, {steps}{before}"


def report(summary: dict[str, Any], outcome: Outcome, folder: Path) -> None:
    """Print what came out."""
    from kanmlip.dynamics import Drift
    from kanmlip.experiment.lock import LOCK_FILE

    print(f"{outcome.status} at step {outcome.step}" + (f": {outcome.reason}" if outcome.reason else ""))
    if summary["temperature_K"] is not None:
        print(
            f"temperature   {summary['temperature_K']:.1f} ± {summary['temperature_deviation_K']:.1f} K over {summary['duration_ps']:g} ps"
        )
    if summary["drift"] is not None:
        print(f"energy drift  {Drift(**summary['drift'])}, fluctuation {summary['drift']['fluctuation_meV_per_atom']:.2g} meV/atom")
    elif summary["ensemble"] != "langevin":
        print("no energy drift: too few rows for a line; more --steps, or a shorter --interval")
    if "rdf_missing" in summary:
        print(f"no g(r): {summary['rdf_missing']}")
    print(f"in {folder}: {', '.join(sorted(path.name for path in folder.iterdir() if path.name != LOCK_FILE))}")
    if outcome.status == "interrupted":
        print("give the same command again to go on")
    if outcome.status == "unstable":
        print("what was written until then is whole; try a shorter --timestep, or train on structures like the one it ended at")


@contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the simulation after the step at hand; a second one ends it at once."""
    asked: list[int] = []

    def request(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after this step; again to end at once")

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
