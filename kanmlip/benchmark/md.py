"""The MD benchmark: what KANs in place of a model's MLPs cost in a step of molecular dynamics, in time and memory (Table 4)."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from kanmlip.benchmark.interleave import interleave, paired
from kanmlip.benchmark.machine import Watch
from kanmlip.benchmark.md_contenders import PORTABLE, MDContender, MDPlan
from kanmlip.benchmark.md_memory import STEPS, measure_memory
from kanmlip.benchmark.md_modes import PACKAGED, make_evaluate
from kanmlip.benchmark.md_record import MDCase, MDMemory, MDResult, MDTiming
from kanmlip.benchmark.md_simulation import Evaluate, Simulation
from kanmlip.benchmark.md_trajectory import Trajectory, starting_atoms
from kanmlip.benchmark.training_step import Setting
from kanmlip.errors import KanmlipError
from kanmlip.experiment.environment import describe
from kanmlip.placement.report import PlacementReport

Say = Callable[[str], None]
# Evaluations before any is timed. On a CPU a slow one needs no second.
WARMUP, WARMUP_S = {"cpu": 3, "cuda": 100}, {"cpu": 0.3, "cuda": 20.0}
# However short the time: fewer have no interval worth the name.
LEAST_ROUNDS = 5


@dataclass
class Allowance:
    """Time that is left, shared evenly by the cases to come.

    Attributes:
        seconds: Of all; none for as long as it takes.
        cases: Yet to come.
        started: When the clock started.
        minutes_a_case: An even share of the whole; 0 for no bound.
    """

    seconds: float | None
    cases: int
    started: float
    minutes_a_case: float = field(init=False)

    def __post_init__(self) -> None:
        self.minutes_a_case = (self.seconds or 0.0) / 60 / max(1, self.cases)

    def next_case(self) -> float | None:
        """Seconds for the next case."""
        if self.seconds is None:
            return None
        share = max(0.0, self.seconds - (time.perf_counter() - self.started)) / max(1, self.cases)
        self.cases -= 1
        return share


@dataclass
class _Runner:
    """A contender that is built, and what there is of it."""

    contender: MDContender
    report: PlacementReport
    package: Path
    evaluate: Evaluate | None = None
    missing: str = ""


def schedule(asked: int, rounds: int, step_s: float, allowed_s: float | None) -> tuple[int, int]:
    """Rounds, and steps in a turn, that fit.

    Args:
        asked: Steps of each contender.
        rounds: Turns of each.
        step_s: Seconds of one step of every contender together.
        allowed_s: Seconds for all of it; none for no bound.
    """
    fit = asked if allowed_s is None else min(asked, int(allowed_s / step_s))
    turns = min(rounds, max(fit, LEAST_ROUNDS), asked)
    return turns, max(1, fit // turns)


def measure(plan: MDPlan, allowance: Allowance, say: Say) -> Iterator[MDCase]:
    """Measure one model, a system at a time.

    Args:
        plan: What to measure.
        allowance: Time for it; steps are cut to fit, and the case says so.
        say: Takes progress.

    Raises:
        ConfigError: If a name in the plan does not exist.
        KanmlipError: If a contender left the trajectory.
    """
    setting = plan.prepare()
    with tempfile.TemporaryDirectory() as folder:
        trajectories = {atoms: Trajectory(starting_atoms(atoms), plan.settings) for atoms in plan.systems}
        runners = _build(plan, setting, trajectories[plan.systems[0]], Path(folder), say)
        memory = _memory(plan, runners, trajectories, Path(folder), say) if plan.memory else {}
        for atoms, asked in zip(plan.systems, plan.steps, strict=True):
            yield _case(plan, setting, runners, trajectories[atoms], asked, {name: m[atoms] for name, m in memory.items()}, allowance, say)


def _build(plan: MDPlan, setting: Setting, trajectory: Trajectory, folder: Path, say: Say) -> list[_Runner]:
    example = setting.model.collate([trajectory.start])
    contenders = plan.contenders(setting)
    built: dict[str, _Runner] = {}
    # AOTInductor first: it forgets what torch.compile had made.
    for turn, contender in enumerate(sorted(contenders, key=lambda one: one.mode not in PACKAGED)):
        if contender.mode != "eager":
            say(f"{plan.model}: {contender.name}: compiling ({turn + 1} of {len(contenders)})")
        potential, report = plan.build(setting, contender)
        runner = built[contender.name] = _Runner(contender, report, folder / f"{turn}.nequip.pt2")
        try:
            runner.evaluate = make_evaluate(potential, contender.mode, plan.device, example, runner.package)
        except KanmlipError as error:
            runner.missing = str(error)
            say(f"{plan.model}: {contender.name}: {error}")
    return [built[contender.name] for contender in contenders]


def _memory(
    plan: MDPlan, runners: Sequence[_Runner], trajectories: dict[int, Trajectory], folder: Path, say: Say
) -> dict[str, dict[int, MDMemory]]:
    """By name and number of atoms; contenders whose process failed lack."""
    files = {}
    for atoms, trajectory in trajectories.items():
        files[atoms] = folder / f"{atoms}.npz"
        trajectory.save(files[atoms], STEPS)
    found = {}
    for runner in (one for one in runners if one.evaluate is not None):
        say(f"{plan.model}: {runner.contender.name}: memory")
        try:
            found[runner.contender.name] = measure_memory(plan, runner.contender, files, runner.package)
        except KanmlipError as error:
            runner.missing = str(error)
            say(str(error))
    return found


def _case(
    plan: MDPlan, setting: Setting, runners: Sequence[_Runner], trajectory: Trajectory, asked: int, memory: dict[str, MDMemory],
    allowance: Allowance, say: Say,
) -> MDCase:  # fmt: skip
    atoms = len(trajectory.start)
    watch = Watch()
    start = time.perf_counter()
    trajectory.reach(trajectory.length + 1)
    step_s = time.perf_counter() - start
    simulations, missing, evaluation_s = _start(plan, setting, runners, trajectory, say)
    step_s += evaluation_s
    rounds, turn = schedule(asked, plan.rounds, step_s, allowance.next_case())
    say(
        f"{plan.model} {plan.size}, {atoms} atoms: {len(simulations)} contenders, {rounds} rounds of {turn} steps "
        f"({asked:,} steps each were asked for), about {rounds * turn * step_s / 60:.1f} minutes"
    )
    # Called within the loop: the name is bound there.
    calls = {name: (lambda simulation=simulation: simulation.advance(turn)) for name, simulation in simulations.items()}
    seconds = interleave(calls, rounds, warmup=0)
    quietness = watch.stop()
    return MDCase(
        model=plan.model, size=plan.size, device=plan.device, backend=plan.backend, portable_backend=PORTABLE,
        keep_hidden=plan.keep_hidden, dtype=setting.trainer.precision, atoms=atoms,
        edges=int(setting.model.collate([trajectory.start]).edge_index.shape[1]), steps_asked=asked, steps=rounds * turn, rounds=rounds,
        minutes_a_case=allowance.minutes_a_case, ensemble=plan.ensemble, temperature_K=plan.settings.temperature_K,
        timestep_fs=plan.settings.timestep_fs,
        environment=describe(plan.device, 1, "toy"), quiet=quietness.quiet, machine=asdict(quietness),
        results=tuple(_result(runner, missing[runner.contender.name], seconds, simulations, memory) for runner in runners),
        seconds={name: values.tolist() for name, values in seconds.items()},
    )  # fmt: skip


def _start(
    plan: MDPlan, setting: Setting, runners: Sequence[_Runner], trajectory: Trajectory, say: Say
) -> tuple[dict[str, Simulation], dict[str, str], float]:
    """Warm simulations by name, why others are missing, and the seconds of one evaluation of each together."""
    simulations: dict[str, Simulation] = {}
    missing = {runner.contender.name: runner.missing for runner in runners}
    seconds = 0.0
    for runner in (one for one in runners if one.evaluate is not None):
        name = runner.contender.name
        try:
            simulation = Simulation(cast("Evaluate", runner.evaluate), setting.model.collate, trajectory)
            seconds += simulation.warm_up(WARMUP[plan.device], WARMUP_S[plan.device])
        except (RuntimeError, MemoryError) as error:  # out of memory, or a compiled model that is for other sizes
            lines = str(error).strip().splitlines() or ["no message"]
            missing[name] = f"{type(error).__name__}: {lines[0][:160]}"
            say(f"{plan.model}, {len(trajectory.start)} atoms: {name}: {missing[name]}")
        else:
            simulations[name] = simulation
    return simulations, missing, seconds


def _result(
    runner: _Runner, missing: str, seconds: dict[str, NDArray[np.float64]], simulations: dict[str, Simulation], memory: dict[str, MDMemory]
) -> MDResult:
    contender, replaced = runner.contender, runner.report.replaced
    timing = None
    if contender.name in seconds:
        own, simulation = seconds[contender.name], simulations[contender.name]
        ratio = paired(own, seconds[contender.baseline]) if contender.baseline in seconds else None
        timing = MDTiming(
            ms_per_step=1e3 * float(np.median(own)),
            ratio=ratio and ratio.median,
            low=ratio and ratio.low,
            high=ratio and ratio.high,
            model_share=simulation.calculator.model_s / simulation.seconds,
            neighbour_share=simulation.calculator.neighbour_s / simulation.seconds,
        )
    return MDResult(
        name=contender.name, placement=contender.placement, basis=contender.basis, match=contender.match, mode=contender.mode,
        parameters=runner.report.parameters_total,
        head_parameters=(sum(r.parameters_before for r in replaced), sum(r.parameters_after for r in replaced)),
        widths=tuple(tuple(r.widths) for r in replaced), timing=timing, memory=memory.get(contender.name), missing=missing,
    )  # fmt: skip
