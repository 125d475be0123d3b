"""The MD benchmark: contenders share one path, work is counted once a step, time and memory are those of known work."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from kanmlip.benchmark import md, md_modes
from kanmlip.benchmark.md import LEAST_ROUNDS, Allowance, measure, schedule
from kanmlip.benchmark.md_contenders import MDContender, MDPlan
from kanmlip.benchmark.md_memory import STEPS, allocated_peak_mib, measure_memory, weights_mib
from kanmlip.benchmark.md_modes import make_evaluate
from kanmlip.benchmark.md_simulation import Evaluate, ReplayCalculator, Simulation
from kanmlip.benchmark.md_trajectory import Trajectory, starting_atoms
from kanmlip.data.graph import Graph
from kanmlip.data.neighbours import frame_to_graph
from kanmlip.dynamics.settings import MDSettings
from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.export.ase import KanmlipCalculator
from kanmlip.export.loading import LoadedRun
from kanmlip.kan import KAN, backend_cpu

PLAN = MDPlan(
    "allegro", "smoke", ("output",), ("gaussian",), ("parameters",), ("eager",), "torch", "cpu", "langevin", (71,), (4,), 2, memory=False
)


def settings(ensemble: str = "langevin") -> MDSettings:
    return MDSettings(ensemble=ensemble, temperature_K=300.0, timestep_fs=1.0, seed=2)


def collate(frames: Sequence[Atoms]) -> Graph:
    return frame_to_graph(frames[0], 3.0)


def forces_of(size: float) -> Evaluate:
    return lambda graph: (1.0, np.full(graph.positions.shape, size))


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    return Trajectory(starting_atoms(71), settings())


@pytest.mark.parametrize("ensemble", ["langevin", "nose_hoover"])
def test_contenders_pass_through_the_same_positions_whatever_their_forces(ensemble: str) -> None:
    path = Trajectory(starting_atoms(71), settings(ensemble))
    calm, wild = Simulation(forces_of(0.0), collate, path), Simulation(forces_of(1e6), collate, path)
    for simulation in (wild, calm):
        simulation.advance(3)
        simulation.advance(2)
    assert np.array_equal(calm.atoms.positions, wild.atoms.positions)
    assert np.array_equal(calm.atoms.positions, path.positions[5])
    assert not np.allclose(path.positions[5], path.positions[4])
    assert calm.calculator.evaluations == 6  # the start and five steps
    assert wild.calculator.latest is not None and wild.calculator.latest[1][0, 0] == 1e6


def test_a_contender_that_leaves_the_path_is_no_contender() -> None:
    simulation = Simulation(forces_of(0.0), collate, Trajectory(starting_atoms(71), settings()))
    simulation.advance(1)
    simulation.atoms.set_momenta(simulation.atoms.get_momenta() * (1 + 1e-9))
    with pytest.raises(KanmlipError, match="left the trajectory before step 2"):
        simulation.advance(1)


def test_an_evaluation_too_many_or_too_few_is_noticed() -> None:
    path = Trajectory(starting_atoms(71), settings())
    simulation = Simulation(forces_of(0.0), collate, path)
    simulation.atoms.positions[0, 0] += 1e-9  # ASE evaluates again what has changed
    with pytest.raises(KanmlipError, match="evaluation 3 is beyond the steps to be made"):
        simulation.advance(1)
    simulation = Simulation(forces_of(0.0), collate, path)
    simulation.calculator.evaluations -= 1
    with pytest.raises(KanmlipError, match=r"1 evaluations in 1 steps"):
        simulation.advance(1)


def test_the_crystal_stays_whole_and_warm() -> None:
    start = starting_atoms(568)
    assert len(start) == 568
    small = frame_to_graph(starting_atoms(71), 5.0).edge_index.shape[1]
    assert frame_to_graph(start, 5.0).edge_index.shape[1] == 8 * small  # the same neighbours an atom at every size
    assert start.get_temperature() == pytest.approx(300, rel=0.15)
    path = Trajectory(starting_atoms(71), settings())
    path.reach(100)
    assert np.abs(path.positions[100] - path.positions[0]).max() < 1.5
    with pytest.raises(ConfigError, match="--sizes=72 is not known; choose from: 4544, 568, 71"):
        starting_atoms(72)


def test_another_process_gets_the_same_path(trajectory: Trajectory, tmp_path: Path) -> None:
    trajectory.save(tmp_path / "path.npz", 3)
    loaded = Trajectory.load(tmp_path / "path.npz", settings())
    assert loaded.length == 3
    Simulation(forces_of(0.0), collate, loaded).advance(3)
    simulation = Simulation(forces_of(0.0), collate, loaded)
    simulation.advance(2)
    simulation.advance(3)  # further than the file goes
    trajectory.reach(5)
    assert np.array_equal(simulation.atoms.positions, trajectory.positions[5])


def test_shares_are_of_the_work_that_was_done(trajectory: Trajectory) -> None:
    def slow_evaluate(graph: Graph) -> tuple[float, np.ndarray]:
        time.sleep(0.03)
        return 1.0, np.zeros(graph.positions.shape)

    def slow_collate(frames: Sequence[Atoms]) -> Graph:
        time.sleep(0.01)
        return collate(frames)

    simulation = Simulation(slow_evaluate, slow_collate, trajectory)
    a_step = simulation.advance(5)
    assert a_step > 0.04
    assert simulation.seconds == pytest.approx(5 * a_step)
    assert 0.15 <= simulation.calculator.model_s <= simulation.seconds - simulation.calculator.neighbour_s
    assert simulation.calculator.neighbour_s >= 0.05
    assert simulation.warm_up(2, 5.0) >= 0.04
    assert simulation.calculator.evaluations == 6  # warming up is no step


@pytest.mark.parametrize(
    ("asked", "rounds", "step_s", "allowed", "found"),
    [
        (5000, 25, 1.0, None, (25, 200)),
        (5000, 25, 1.0, 1e9, (25, 200)),
        (5000, 25, 0.5, 500.0, (25, 40)),
        (50, 25, 1.0, None, (25, 2)),
        (50, 25, 10.0, 100.0, (10, 1)),
        (50, 25, 10.0, 0.0, (LEAST_ROUNDS, 1)),
        (3, 25, 1.0, None, (3, 1)),
    ],
)
def test_steps_are_cut_to_the_time(asked: int, rounds: int, step_s: float, allowed: float | None, found: tuple[int, int]) -> None:
    assert schedule(asked, rounds, step_s, allowed) == found


def test_time_that_is_left_is_shared() -> None:
    now = time.perf_counter()
    allowance = Allowance(100.0, 3, now - 40)
    assert allowance.next_case() == pytest.approx(20, abs=1)
    allowance.started -= 20
    assert allowance.next_case() == pytest.approx(20, abs=1)
    allowance.started -= 100
    assert allowance.next_case() == 0.0
    assert Allowance(None, 3, now).next_case() is None
    assert [Allowance(seconds, 3, now).minutes_a_case for seconds in (360.0, None)] == [2.0, 0.0]


def test_allocations_of_known_size_are_found() -> None:
    def step() -> None:
        a = torch.ones(2**20)  # 4 MiB
        b = a + 1  # 8 MiB
        del a
        kept = [b * i for i in range(3)]  # 4 + 12 MiB
        del kept, b
        torch.ones(2**19)

    assert allocated_peak_mib(step) == pytest.approx(16, rel=0.01)
    assert allocated_peak_mib(lambda: torch.ones(1)) < 0.01
    assert weights_mib(torch.nn.Linear(1023, 256)) == pytest.approx(1024 * 256 * 4 / 2**20)


def test_contenders_are_named_once_and_compared_within_their_mode() -> None:
    pytest.importorskip("allegro")
    plan = MDPlan(
        "allegro", "smoke", (), ("gaussian", "bspline"), ("widths", "parameters"), ("eager", "compile"), "auto", "cpu", "langevin", (71,),
        (1,), 1, memory=False,
    )  # fmt: skip
    contenders = plan.contenders(plan.prepare())
    assert len({one.name for one in contenders}) == len(contenders) == 2 * (1 + 3 * 2 * 2)
    assert contenders[0] == MDContender("none", "", "", "eager")
    assert {one.baseline for one in contenders if one.mode == "compile"} == {"MLP, compile"}
    assert all(one.baseline in {other.name for other in contenders} for one in contenders)


def test_a_contender_computes_what_the_calculator_of_a_run_computes(trajectory: Trajectory) -> None:
    pytest.importorskip("allegro")
    from kanmlip.experiment.configure import compose_run

    setting = PLAN.prepare()
    potential, _ = PLAN.build(setting, MDContender("output", "gaussian", "parameters", "eager"))
    config = compose_run(["model=allegro", "dataset=toy", "budget=small", "budget.size=smoke"])
    run = LoadedRun(potential, config, (47,), torch.float32, Path(), setting.stats, torch.device("cpu"))
    atoms = trajectory.start.copy()
    atoms.calc = KanmlipCalculator(run)
    given = [np.zeros((71, 3))]
    calculator = ReplayCalculator(md_modes.eager(potential, "cpu"), setting.model.collate, given)
    calculator.calculate(trajectory.start.copy(), ["forces"])
    assert calculator.latest is not None
    assert calculator.latest[0] == atoms.get_potential_energy()
    assert np.array_equal(calculator.latest[1], atoms.get_forces())
    assert calculator.results["forces"] is given[0]


def test_contenders_keep_hidden_values_or_recompute_them(trajectory: Trajectory) -> None:
    """The same forces to the last bit, and in the whole of a model less memory."""
    pytest.importorskip("allegro")
    found, peaks = [], []
    for keep in (True, False):
        plan = replace(PLAN, backend="auto", bases=("bspline",), placements=("all",), keep_hidden=keep)
        setting = plan.prepare()
        potential, report = plan.build(setting, MDContender("all", "bspline", "parameters", "eager"))
        kans = [module for module in potential.modules() if isinstance(module, KAN)]
        assert len(kans) == len(report.replaced) and {kan.keep_hidden for kan in kans} == {keep}
        evaluate, graph = md_modes.eager(potential, "cpu"), setting.model.collate([trajectory.start])
        found.append(evaluate(graph))
        peaks.append(allocated_peak_mib(lambda evaluate=evaluate, graph=graph: evaluate(graph)))
    assert found[0][0] == found[1][0] and np.array_equal(found[0][1], found[1][1])
    assert peaks[1] <= peaks[0]
    if backend_cpu.available():
        assert peaks[1] < peaks[0]


@pytest.mark.parametrize(("model", "package"), [("allegro", "allegro"), ("mace", "mace")])
def test_compiled_models_are_the_models(
    model: str, package: str, trajectory: Trajectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a compiler that takes the recorded program as it is: the real one takes a minute."""
    pytest.importorskip(package)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plan = MDPlan(model, *list(vars(PLAN).values())[1:])
    setting = plan.prepare()
    potential, _ = plan.build(setting, MDContender("output", "gaussian", "parameters", "compile"))
    smallest = setting.model.collate([trajectory.start])
    evaluate = make_evaluate(potential, "compile", "cpu", smallest, tmp_path / "none")
    larger = setting.model.collate([starting_atoms(568)])
    energy, forces = evaluate(larger)
    expected = potential(larger)
    assert energy == pytest.approx(float(expected["energy"]), rel=1e-6)
    assert np.abs(forces - expected["forces"].numpy()).max() < 1e-5
    assert forces.dtype == np.float64
    monkeypatch.setattr(md_modes, "_recorded", lambda *_: forces_of(0.0))
    monkeypatch.setattr(md_modes, "_compiled_energy", lambda *_: forces_of(0.0))
    with pytest.raises(KanmlipError, match=r"torch\.compile differs from the model in memory"):
        make_evaluate(potential, "compile", "cpu", smallest, tmp_path / "none")


def test_what_a_mode_cannot_do_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("allegro")
    monkeypatch.setattr(md_modes, "_recorded", lambda *_: 1 / 0)
    plan = MDPlan(*[("eager", "compile") if key == "modes" else value for key, value in vars(PLAN).items()])
    heard: list[str] = []
    (case,) = measure(plan, Allowance(3e10, 5, 0.0), heard.append)
    assert case.minutes_a_case == 1e8, "the limit is on record"
    eager, compiled = case.find("output", "gaussian", "parameters"), case.find("output", "gaussian", "parameters", "compile")
    assert eager is not None and eager.timing is not None and not eager.missing
    assert compiled is not None and compiled.timing is None
    assert compiled.missing == "torch.compile failed: ZeroDivisionError: division by zero"
    assert any("output gaussian, equal parameters, compile: torch.compile failed" in line for line in heard)
    assert (case.steps, case.steps_asked, case.rounds, case.atoms) == (4, 4, 2, 71)
    assert [len(values) for values in case.seconds.values()] == [2, 2]
    mlp = case.find("none")
    assert mlp is not None and mlp.timing is not None and mlp.timing.ratio == 1.0
    assert eager.timing.ratio == pytest.approx(np.median(np.divide(*(case.seconds[one.name] for one in (eager, mlp)))))
    assert 0 < eager.timing.neighbour_share < 1 and 0.2 < eager.timing.model_share < 1
    assert eager.head_parameters[1] <= eager.head_parameters[0] and mlp.head_parameters == (0, 0)
    assert case.environment["device"] == "cpu"


def test_a_contender_out_of_memory_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("allegro")
    make = md.make_evaluate
    made: list[str] = []

    def second_fails(*arguments: object) -> Evaluate:
        made.append("")
        return make(*arguments) if len(made) == 1 else lambda _: torch.zeros(2**60)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(md, "make_evaluate", second_fails)
    (case,) = measure(PLAN, Allowance(None, 1, 0.0), lambda _: None)
    mlp, kan = case.results
    assert mlp.timing is not None and mlp.timing.ratio == 1.0
    assert kan.timing is None and kan.missing.startswith("RuntimeError: ")


def test_aot_of_mace_is_refused_before_anything_is_compiled(tmp_path: Path) -> None:
    pytest.importorskip("mace")
    plan = MDPlan("mace", *list(vars(PLAN).values())[1:])
    setting = plan.prepare()
    potential, _ = plan.build(setting, MDContender("none", "", "", "aot"))
    with pytest.raises(KanmlipError, match="upstream has no AOTInductor route for this model"):
        make_evaluate(potential, "aot", "cpu", setting.model.collate([starting_atoms(71)]), tmp_path / "none")


def test_memory_of_a_fresh_process(trajectory: Trajectory, tmp_path: Path) -> None:
    pytest.importorskip("allegro")
    systems = {71: tmp_path / "71.npz", 568: tmp_path / "568.npz"}
    trajectory.save(systems[71], STEPS)
    Trajectory(starting_atoms(568), settings()).save(systems[568], STEPS)
    found = measure_memory(PLAN, MDContender("none", "", "", "eager"), systems, tmp_path / "none")
    small, large = found[71], found[568]
    assert small.weights == large.weights and 0 < (small.weights or 0) < 0.1
    assert 4 < (large.peak_allocated or 0) / (small.peak_allocated or 1) < 8.5  # eight times the atoms
    assert large.peak_reserved is None
    if large.process is not None:
        assert (large.process_less_empty or 0) > 0.7 * (large.peak_allocated or 0)
        assert (large.empty or 0) > 100  # torch alone
    with pytest.raises(KanmlipError, match=r"memory of allegro output gaussian, equal parameters: the child process failed .*71\.npz"):
        measure_memory(PLAN, MDContender("output", "gaussian", "parameters", "eager"), {71: tmp_path / "no" / "71.npz"}, tmp_path / "none")
