"""A simulation from its first velocities to its last step, in parts if need be: every part goes on to the last bit where one ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from kanmlip.dynamics.files import SimulationFiles
from kanmlip.dynamics.integrator import (
    capture,
    conserved_energy,
    draw_momenta,
    make_dynamics,
    restore_atoms,
    restore_thermostat,
    stop_centre_of_mass,
    temperature,
)  # fmt: skip
from kanmlip.dynamics.progress import StepProgress
from kanmlip.dynamics.settings import MDSettings, option
from kanmlip.dynamics.watch import Limits, UnstableError, Watch
from kanmlip.errors import ConfigError
from kanmlip.experiment.lock import AlreadyRunningError, locked


@dataclass(frozen=True)
class Outcome:
    """How a part of a simulation ended.

    Attributes:
        status: ``unstable`` where the watch stopped it, ``interrupted`` where somebody asked.
        step: The last step that is whole.
        reason: One line for ``unstable``.
    """

    status: Literal["done", "interrupted", "unstable"]
    step: int
    reason: str | None = None


def simulate(
    atoms: Atoms,
    settings: MDSettings,
    folder: Path,
    *,
    cutoff: float,
    source: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    restart: bool = False,
    show_progress: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a simulation, or go on with one whose files lie in ``folder``.

    Args:
        atoms: The structure at the start with a calculator; afterwards at the last step.
        settings: See :class:`MDSettings`. A simulation that is done goes on if ``steps`` has grown.
        folder: Gets md.json, thermo.csv, trajectory.xyz and state.npz.
        cutoff: Å; see :class:`Watch`.
        source: What computes the forces, as plain data; another one does not go on with this simulation.
        limits: When atoms count as flying apart.
        restart: Throw away what is there.
        show_progress: A bar on a terminal, a line now and then elsewhere.
        stop: Asked after every step; true ends this part with a state to go on from.

    Raises:
        ConfigError: If the folder holds another simulation, files that do not fit together, or a process at work; nothing is
            changed then.
    """
    files = SimulationFiles(folder)
    identity = {"settings": settings.path_of(), "start_sha256": fingerprint(atoms), "source": dict(source or {})}
    with _alone_in(folder):
        if restart:
            files.clear()
        check_same(files.description_now(), identity, settings, folder, files.saved_step())
        run = _Run(atoms, settings, files, cutoff, limits)
        files.describe(**identity, steps=settings.steps, status="running", step=run.step, reason=None, num_atoms=len(atoms))
        outcome = run.advance(show_progress, stop)
        files.describe(status=outcome.status, step=outcome.step, reason=outcome.reason)
    return outcome


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    try:
        with locked(folder):
            yield
    except AlreadyRunningError as error:
        raise ConfigError(f"another process is simulating in {folder}; wait for it, or choose another --output") from error


def fingerprint(atoms: Atoms) -> str:
    """Checksum of species, positions, cell and boundary conditions."""
    digest = hashlib.sha256()
    for array in (atoms.numbers, atoms.positions, np.asarray(atoms.cell), atoms.pbc):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_same(before: Mapping[str, Any], identity: Mapping[str, Any], settings: MDSettings, folder: Path, step: int | None) -> None:
    """Check that what a folder holds is an earlier part of this simulation, and one that can be gone on with; ``step`` is its state's.

    Raises:
        ConfigError: Naming what differs and the way out.
    """
    if not before:
        return
    way_out = "choose another --output, or throw that simulation away with --restart"
    for section in ("settings", "source"):
        then, now = before.get(section) or {}, identity[section]
        for key in now:
            if then.get(key) != now[key]:
                name = option(key) if section == "settings" else key
                raise ConfigError(f"{name}={now[key]}, but the simulation in {folder} has {then.get(key)}; {way_out}")
    if before.get("start_sha256") != identity["start_sha256"]:
        raise ConfigError(f"the simulation in {folder} started from another structure; {way_out}")
    if before.get("status") == "unstable":
        raise ConfigError(f"the simulation in {folder} ended at step {before.get('step')}: {before.get('reason')}; {way_out}")
    if step is not None and step > settings.steps:
        raise ConfigError(f"--steps={settings.steps}, but the simulation in {folder} is at step {step} already; {way_out}")


class _Run:
    """One part of a simulation."""

    def __init__(self, atoms: Atoms, settings: MDSettings, files: SimulationFiles, cutoff: float, limits: Limits | None) -> None:
        self.atoms = atoms
        self.settings = settings
        self.files = files
        self.random = np.random.default_rng(settings.seed)
        # Against the structure at the start, whichever step this part begins with.
        self.watch = Watch(atoms, cutoff, settings.temperature_K, limits)
        state = files.load_state()
        if state is None:
            files.clear()
            self.step = -settings.equilibration
            draw_momenta(atoms, settings.temperature_K, self.random)
            self.dynamics = self._dynamics()
            self.fresh = True
        else:
            self._resume(state)

    def _resume(self, state: dict[str, NDArray[Any]]) -> None:
        self.step = int(state["step"])
        restore_atoms(self.atoms, self.random, state)
        self.watch.before = self.atoms.get_positions()
        self.dynamics = self._dynamics()
        restore_thermostat(self.dynamics, state)
        self.fresh = False

    def _dynamics(self) -> MolecularDynamics:
        return make_dynamics(self.atoms, self.settings, "langevin" if self.step < 0 else self.settings.ensemble, self.random)

    def advance(self, show_progress: bool, stop: Callable[[], bool]) -> Outcome:
        """Make the remaining steps."""
        settings = self.settings
        try:
            if self.fresh:
                self.watch.check(self.atoms, thorough=True)
                self._write()
                self._save()
            with StepProgress(settings.steps + settings.equilibration, self.step + settings.equilibration, show_progress) as progress:
                while self.step < settings.steps:
                    self._one_step()
                    if self.step % settings.interval == 0:
                        progress.show(self.step + settings.equilibration, self.step, temperature(self.dynamics), self.atoms)
                    asked = stop()
                    if asked or self.step % settings.checkpoint_interval == 0 or self.step == settings.steps:
                        self._save()
                    if asked and self.step < settings.steps:
                        return Outcome("interrupted", self.step)
        except UnstableError as error:
            return self._unstable(str(error))
        return Outcome("done", self.step)

    def _one_step(self) -> None:
        self.dynamics.run(1)
        due = (self.step + 1) % self.settings.interval == 0
        self.watch.check(self.atoms, thorough=due)
        self.step += 1
        if self.step == 0:
            # Langevin leaves the centre of mass moving, which would look like temperature from here on.
            stop_centre_of_mass(self.atoms)
            self.dynamics = self._dynamics()
            self._write()
        elif due:
            self._write()

    def _write(self) -> None:
        atoms, time = self.atoms, self.step * self.settings.timestep_fs / 1000
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        self.files.append_row(
            {
                "step": self.step,
                "time_ps": time,
                "potential_eV": potential,
                "kinetic_eV": kinetic,
                "total_eV": potential + kinetic,
                "conserved_eV": conserved_energy(self.dynamics),
                "temperature_K": temperature(self.dynamics),
                "max_force_eV_per_A": float(np.linalg.norm(atoms.get_forces(), axis=1).max()),
            }
        )
        if self.step >= 0:
            self.files.append_frame(atoms, self.step, time)

    def _save(self) -> None:
        self.files.save_state(self.step, capture(self.dynamics, self.random))

    def _unstable(self, reason: str) -> Outcome:
        """Keep the structure that was too much for the potential beside the trajectory, for whoever wants to see what happened."""
        from ase.io import write

        frame = Atoms(self.atoms.symbols, positions=self.atoms.positions, cell=self.atoms.cell, pbc=self.atoms.pbc)
        if np.isfinite(frame.positions).all():
            write(self.files.folder / "unstable.xyz", frame, format="extxyz")
        return Outcome("unstable", self.step, reason)
