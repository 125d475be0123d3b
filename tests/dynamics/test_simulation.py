"""Simulations: resumed bit for bit, extended, refused, stopped in time; and the ensembles that the integrators sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from kanmlip.dynamics import MDSettings, fit_drift, simulate
from kanmlip.dynamics.files import SimulationFiles, read_thermo
from kanmlip.dynamics.integrator import draw_momenta, make_dynamics, temperature
from kanmlip.dynamics.settings import read_settings
from kanmlip.dynamics.watch import Limits
from kanmlip.errors import ConfigError
from kanmlip.experiment.lock import locked
from tests.dynamics.springs import ForgetfulEMT, Repulsion, Springs, bound_silver, silver_crystal

SHORT = {"temperature_K": 600.0, "equilibration": 8, "steps": 30, "interval": 3, "checkpoint_interval": 7, "seed": 3}
GROWING = ("thermo.csv", "trajectory.xyz", "state.npz")


def emt_silver() -> Atoms:
    atoms = bulk("Ag", a=4.09, cubic=True).repeat((2, 2, 1))
    del atoms[0]
    atoms.calc = ForgetfulEMT()
    return atoms


def after(steps: set[int]) -> Callable[[], bool]:
    """Asks to stop after these numbers of steps of this process."""
    count = iter(range(1, 10_000))
    return lambda: next(count) in steps


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "nose_hoover"])
def test_an_interrupted_simulation_ends_like_an_undisturbed_one_bit_for_bit(ensemble: str, tmp_path: Path) -> None:
    settings = MDSettings(ensemble=ensemble, **SHORT)
    assert simulate(emt_silver(), settings, tmp_path / "whole", cutoff=4.0).status == "done"
    # In the equilibration, at its end, in between, and beside the rows and states.
    parts = [simulate(emt_silver(), settings, tmp_path / "parts", cutoff=4.0, stop=after({stop})) for stop in (5, 3, 8, 2)]
    assert [(part.status, part.step) for part in parts] == [("interrupted", step) for step in (-3, 0, 8, 10)]
    assert simulate(emt_silver(), settings, tmp_path / "parts", cutoff=4.0).status == "done"
    for name in GROWING:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_what_was_written_after_the_last_state_is_cut_off(tmp_path: Path) -> None:
    settings = MDSettings(ensemble="langevin", **SHORT)
    simulate(emt_silver(), settings, tmp_path / "whole", cutoff=4.0)
    simulate(emt_silver(), settings, tmp_path / "killed", cutoff=4.0, stop=after({20}))
    # A process that was killed may have written a row and half a frame since.
    for name, text in (("thermo.csv", "15,0.015,1"), ("trajectory.xyz", "31\nLattice=")):
        with (tmp_path / "killed" / name).open("a") as file:
            file.write(text)
    simulate(emt_silver(), settings, tmp_path / "killed", cutoff=4.0)
    for name in GROWING:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_file_that_lost_something_is_not_gone_on_with(tmp_path: Path) -> None:
    settings = MDSettings(**SHORT)
    simulate(bound_silver(), settings, tmp_path, cutoff=4.0)
    thermo = tmp_path / "thermo.csv"
    thermo.write_text(thermo.read_text()[:-10])
    with pytest.raises(ConfigError, match=r"thermo\.csv has .* restore it, or start again with --restart"):
        simulate(bound_silver(), settings.model_copy(update={"steps": 40}), tmp_path, cutoff=4.0)


def test_more_steps_extend_a_simulation(tmp_path: Path) -> None:
    settings = MDSettings(**SHORT)
    simulate(bound_silver(), settings, tmp_path / "a", cutoff=4.0)
    longer = settings.model_copy(update={"steps": 50})
    simulate(bound_silver(), longer, tmp_path / "a", cutoff=4.0)
    simulate(bound_silver(), longer, tmp_path / "b", cutoff=4.0)
    assert (tmp_path / "a" / "thermo.csv").read_bytes() == (tmp_path / "b" / "thermo.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"--steps=20, but .* is at step 50 already"):
        simulate(bound_silver(), settings.model_copy(update={"steps": 20}), tmp_path / "a", cutoff=4.0)


def test_a_killed_simulation_is_as_far_as_its_state(tmp_path: Path) -> None:
    """md.json is written when a process begins and ends; one that is killed in between has gone on from there."""

    def kill() -> bool:
        if next(steps) == 20:
            raise SystemExit("killed")
        return False

    steps = iter(range(1, 100))
    settings = MDSettings(**SHORT)
    with pytest.raises(SystemExit):
        simulate(bound_silver(), settings, tmp_path, cutoff=4.0, stop=kill)
    assert SimulationFiles(tmp_path).saved_step() == 7
    written = (tmp_path / "thermo.csv").read_bytes()
    with pytest.raises(ConfigError, match=r"--steps=5, but .* is at step 7 already"):
        simulate(bound_silver(), settings.model_copy(update={"steps": 5}), tmp_path, cutoff=4.0)
    assert (tmp_path / "thermo.csv").read_bytes() == written
    (tmp_path / "state.npz").write_bytes((tmp_path / "state.npz").read_bytes()[:200])
    with pytest.raises(ConfigError, match=r"state\.npz cannot be read .* --restart"):
        simulate(bound_silver(), settings, tmp_path, cutoff=4.0)
    assert simulate(bound_silver(), settings, tmp_path, cutoff=4.0, restart=True).status == "done"


def test_another_simulation_is_refused_and_kept(tmp_path: Path) -> None:
    settings = MDSettings(**SHORT)
    source = {"run": "one"}
    simulate(bound_silver(), settings, tmp_path, cutoff=4.0, source=source)
    before = {name: (tmp_path / name).read_bytes() for name in GROWING}
    moved = bound_silver()
    moved.positions[0, 0] += 1e-9
    for atoms, changed, computed_by, message in (
        (bound_silver(), {"timestep_fs": 2.0}, source, "--timestep=2.0, but the simulation in .* has 1.0; choose another --output"),
        (bound_silver(), {}, {"run": "two"}, "run=two, but .* has one"),
        (moved, {}, source, "started from another structure"),
    ):
        with pytest.raises(ConfigError, match=message):
            simulate(atoms, settings.model_copy(update=changed), tmp_path, cutoff=4.0, source=computed_by)
    assert {name: (tmp_path / name).read_bytes() for name in GROWING} == before
    other = settings.model_copy(update={"timestep_fs": 2.0})
    assert simulate(bound_silver(), other, tmp_path, cutoff=4.0, source=source, restart=True).status == "done"
    assert read_thermo(tmp_path / "thermo.csv")["time_ps"][-1] == pytest.approx(0.06)


def test_two_processes_do_not_simulate_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(ConfigError, match="another process is simulating in"):
        simulate(bound_silver(), MDSettings(**SHORT), tmp_path, cutoff=4.0, restart=True)
    assert simulate(bound_silver(), MDSettings(**SHORT), tmp_path, cutoff=4.0).status == "done"


def test_atoms_that_fly_apart_stop_the_simulation_and_nothing_is_lost(tmp_path: Path) -> None:
    cluster = Atoms("Ag4", positions=2.0 * np.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1.0]]))
    start = cluster.copy()
    start.calc = cluster.calc = Repulsion(5.0)
    settings = MDSettings(temperature_K=1e5, steps=500, interval=5)  # so hot that heat is no reason
    outcome = simulate(cluster, settings, tmp_path, cutoff=4.0, limits=Limits(step_A=10))
    assert outcome.status == "unstable"
    assert "flew apart" in str(outcome.reason)
    frames = ase.io.read(tmp_path / "trajectory.xyz", ":")
    assert len(frames) == len(read_thermo(tmp_path / "thermo.csv")["step"]) == outcome.step // 5 + 1
    assert (tmp_path / "unstable.xyz").is_file()
    with pytest.raises(ConfigError, match=f"ended at step {outcome.step}: .*flew apart.* --restart"):
        simulate(start, settings, tmp_path, cutoff=4.0)


@pytest.mark.parametrize(
    ("spoil", "limits", "message"),
    [
        (lambda calc: setattr(calc, "stiffness", float("nan")), Limits(), "the energy is nan eV and 96 force components are not finite"),
        (lambda calc: setattr(calc, "places", calc.places + 800.0), Limits(), "the force on atom"),
        (lambda calc: setattr(calc, "places", calc.places + 30.0), Limits(step_A=0.05, heating=1e6), "moved by .* Å in one step"),
        (lambda calc: setattr(calc, "places", calc.places + 8.0), Limits(heating=1.5), "the temperature is .* above 450 K"),
        (lambda calc: calc.places.__setitem__(1, calc.places[0]), Limits(heating=100), "they fell into each other"),
    ],
)
def test_what_is_not_physical_is_noticed(spoil: Callable[[Springs], None], limits: Limits, message: str, tmp_path: Path) -> None:
    atoms = silver_crystal()
    calculator = Springs(atoms.get_positions(), stiffness=10.0)
    atoms.calc = calculator
    steps = iter(range(1000))

    def after_ten() -> bool:
        if next(steps) == 10:
            spoil(calculator)
            calculator.reset()
        return False

    outcome = simulate(atoms, MDSettings(steps=400, interval=1), tmp_path, cutoff=4.0, limits=limits, stop=after_ten)
    assert outcome.status == "unstable"
    assert message.split(".*", maxsplit=1)[0] in str(outcome.reason)
    assert message.rsplit(".*", maxsplit=1)[-1] in str(outcome.reason)
    assert len(read_thermo(tmp_path / "thermo.csv")["step"]) == outcome.step + 1 >= 11


def test_langevin_samples_the_canonical_ensemble(tmp_path: Path) -> None:
    """Equipartition: 3 N kT/2 in the springs and as much in the motion, whatever both started with."""
    atoms = bound_silver()
    settings = MDSettings(
        ensemble="langevin", temperature_K=400, timestep_fs=5, steps=1500, equilibration=200, friction_per_ps=20, interval=5
    )
    simulate(atoms, settings, tmp_path, cutoff=4.0)
    thermo = read_thermo(tmp_path / "thermo.csv")
    wanted = 1.5 * len(atoms) * units.kB * 400
    assert thermo["kinetic_eV"].mean() == pytest.approx(wanted, rel=0.06)
    assert thermo["potential_eV"].mean() == pytest.approx(wanted, rel=0.06)
    # Fluctuations of a canonical ensemble: Var E_kin = 3 N (kT)²/2.
    assert thermo["kinetic_eV"].std() == pytest.approx(wanted / np.sqrt(1.5 * len(atoms)), rel=0.2)
    assert np.isnan(thermo["conserved_eV"]).all()


def free_atoms(number: int) -> Atoms:
    """Atoms that feel nothing."""
    atoms = Atoms(f"Ag{number}", positions=3.0 * np.arange(3 * number).reshape(number, 3), cell=[99] * 3, pbc=True)
    atoms.calc = Springs(atoms.get_positions(), stiffness=0.0)
    return atoms


@pytest.mark.parametrize(("ensemble", "degrees"), [("nve", 9), ("nose_hoover", 9), ("langevin", 12)])
def test_temperature_is_that_of_the_atoms_that_can_move(ensemble: str, degrees: int, tmp_path: Path) -> None:
    """Where the centre of mass rests, 3N - 3 degrees of freedom share the kinetic energy."""
    settings = MDSettings(ensemble=ensemble, temperature_K=500, steps=4, interval=1, friction_per_ps=1e-9)
    simulate(free_atoms(4), settings, tmp_path, cutoff=20.0, limits=Limits(heating=1e9))
    thermo = read_thermo(tmp_path / "thermo.csv")
    np.testing.assert_allclose(thermo["temperature_K"], 2 * thermo["kinetic_eV"] / (degrees * units.kB), rtol=1e-12)


def test_a_nose_hoover_chain_leaves_atoms_of_its_temperature_alone(tmp_path: Path) -> None:
    """At rest as a whole, of the wanted temperature and free: nothing is to be done. A thermostat of 3N degrees of freedom heats."""
    atoms = free_atoms(4)
    random = np.random.default_rng(0)
    draw_momenta(atoms, 500, random)
    settings = MDSettings(ensemble="nose_hoover", temperature_K=500, damping_fs=20)
    dynamics = make_dynamics(atoms, settings, "nose_hoover", random)
    wanted = atoms.get_momenta() * np.sqrt(500 / temperature(dynamics))
    atoms.set_momenta(wanted)
    dynamics = make_dynamics(atoms, settings, "nose_hoover", random)
    dynamics.run(50)
    np.testing.assert_allclose(atoms.get_momenta(), wanted, rtol=1e-9)
    assert temperature(dynamics) == pytest.approx(500, rel=1e-9)


def test_nose_hoover_keeps_the_temperature_and_its_own_energy(tmp_path: Path) -> None:
    atoms = emt_silver()
    simulate(
        atoms,
        MDSettings(ensemble="nose_hoover", temperature_K=300, timestep_fs=4, steps=200, equilibration=20, interval=4),
        tmp_path,
        cutoff=4.0,
    )
    thermo = read_thermo(tmp_path / "thermo.csv")
    assert thermo["temperature_K"].mean() == pytest.approx(300, rel=0.25)
    # The thermostat gives and takes; with its own energy the sum is conserved.
    assert np.ptp(thermo["conserved_eV"]) < 0.05 * np.ptp(thermo["total_eV"])


def test_nve_conserves_energy_to_second_order_and_momentum_exactly(tmp_path: Path) -> None:
    spread = []
    for timestep, steps in ((8.0, 50), (4.0, 100)):
        atoms = emt_silver()
        folder = tmp_path / f"{timestep:g}"
        simulate(atoms, MDSettings(temperature_K=600, timestep_fs=timestep, steps=steps, interval=1), folder, cutoff=4.0)
        thermo = read_thermo(folder / "thermo.csv")
        assert np.array_equal(thermo["total_eV"], thermo["conserved_eV"])
        spread.append(thermo["total_eV"].std())
        assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-9
        drift = fit_drift(thermo["time_ps"], thermo["conserved_eV"], len(atoms))
        assert drift is not None
        assert abs(drift.slope_meV_per_atom_ps) < 5 * drift.error_meV_per_atom_ps + 0.5
    assert 2.5 < spread[0] / spread[1] < 6


def test_the_trajectory_has_what_an_analysis_needs(tmp_path: Path) -> None:
    atoms = bound_silver()
    simulate(atoms, MDSettings(**SHORT), tmp_path, cutoff=4.0)
    frames = ase.io.read(tmp_path / "trajectory.xyz", ":")
    thermo = read_thermo(tmp_path / "thermo.csv")
    assert [frame.info["step"] for frame in frames] == thermo["step"].tolist() == list(range(0, 31, 3))
    np.testing.assert_allclose([frame.get_potential_energy() for frame in frames], thermo["potential_eV"], atol=1e-8)
    np.testing.assert_allclose([frame.get_kinetic_energy() for frame in frames], thermo["kinetic_eV"], rtol=1e-6)
    np.testing.assert_allclose(frames[-1].positions, atoms.positions, atol=1e-7)
    assert frames[-1].get_forces().shape == (32, 3)
    # Equilibration has rows of its own and no frames.
    steps = [int(line.split(",")[0]) for line in (tmp_path / "thermo.csv").read_text().splitlines()[1:]]
    assert steps[:3] == [-8, -6, -3]
    assert SimulationFiles(tmp_path).description_now()["status"] == "done"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ensemble": "nvt"}, "--ensemble=nvt: input should be 'nve', 'langevin' or 'nose_hoover'"),
        ({"timestep_fs": 0}, "--timestep=0: input should be greater than 0"),
        ({"friction_per_ps": -1}, "--friction=-1: "),
        ({"ensemble": "langevin", "temperature_K": 0}, "--temperature=0 has no thermostat for --ensemble=langevin"),
    ],
)
def test_wrong_settings_are_named_as_options(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(dict(values))
    assert message in str(caught.value)
