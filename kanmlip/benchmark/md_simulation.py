"""One contender's molecular dynamics: ASE's integrator, our neighbour list and the contender's energy and forces in every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from numpy.typing import NDArray

from kanmlip.benchmark.interleave import synchronise
from kanmlip.benchmark.md_trajectory import Trajectory
from kanmlip.data.graph import Graph
from kanmlip.dynamics.integrator import make_dynamics
from kanmlip.errors import KanmlipError

# Energy in eV and forces [N, 3] in eV/Å of one structure; they are on the host, so the device is done.
Evaluate = Callable[[Graph], tuple[float, NDArray[np.float64]]]
Collate = Callable[[Sequence[Atoms]], Graph]


class ReplayCalculator(Calculator):  # type: ignore[misc]  # ase comes without types
    """Does the work of :class:`kanmlip.export.ase.KanmlipCalculator`, then hands ASE the forces of a given trajectory.

    Attributes:
        evaluations: How often the model was evaluated.
        neighbour_s: Seconds in neighbour lists and graphs.
        model_s: Seconds in the model, transfers included.
        latest: What the model itself found last.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, evaluate: Evaluate, collate: Collate, forces: Sequence[NDArray[np.float64]]) -> None:
        super().__init__()
        self.evaluate = evaluate
        self.collate = collate
        self.given = forces
        self.evaluations = 0
        self.neighbour_s = 0.0
        self.model_s = 0.0
        self.latest: tuple[float, NDArray[np.float64]] | None = None

    def calculate(
        self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """ASE calls this once a step.

        Raises:
            KanmlipError: If ASE calls it more often.
        """
        if self.evaluations == len(self.given):
            raise KanmlipError(f"evaluation {self.evaluations + 1} is beyond the steps to be made: the timings are not of steps; report it")
        super().calculate(atoms, properties, system_changes)
        start = time.perf_counter()
        graph = self.collate([self.atoms])
        between = time.perf_counter()
        self.latest = self.evaluate(graph)
        end = time.perf_counter()
        self.neighbour_s += between - start
        self.model_s += end - between
        self.results = {"energy": self.latest[0], "forces": self.given[self.evaluations]}
        self.evaluations += 1


class Simulation:
    """A contender on its way along the trajectory.

    Args:
        evaluate: The contender.
        collate: Its model's neighbour list.
        trajectory: To follow.

    Attributes:
        step: Steps made.
        seconds: That they took.
        first_s: Seconds of the evaluation at the start, whatever is loaded or compiled on first use included.
    """

    def __init__(self, evaluate: Evaluate, collate: Collate, trajectory: Trajectory) -> None:
        trajectory.reach(0)
        self.trajectory = trajectory
        self.atoms = trajectory.start.copy()
        self.calculator = ReplayCalculator(evaluate, collate, trajectory.forces)
        self.atoms.calc = self.calculator
        settings = trajectory.settings
        self.dynamics = make_dynamics(self.atoms, settings, settings.ensemble, np.random.default_rng(settings.seed))
        start = time.perf_counter()
        self.dynamics.run(0)  # the forces at the start belong to no step
        self.first_s = time.perf_counter() - start
        self.calculator.neighbour_s = self.calculator.model_s = 0.0
        self.step = 0
        self.seconds = 0.0

    def warm_up(self, times: int, seconds: float) -> float:
        """Evaluate the start again, so often and so long at most; returns the seconds of the fastest evaluation so far."""
        end, best = time.perf_counter() + seconds - self.first_s, self.first_s
        for _ in range(times):
            start = time.perf_counter()
            if start > end:
                break
            self.calculator.evaluate(self.calculator.collate([self.atoms]))
            best = min(best, time.perf_counter() - start)
        return best

    def advance(self, steps: int) -> float:
        """Seconds a step of the next steps.

        Raises:
            KanmlipError: If the atoms are not where the trajectory has them, or the model was not evaluated once a step.
        """
        self.trajectory.reach(self.step + steps)
        synchronise()
        start = time.perf_counter()
        self.dynamics.run(steps)
        synchronise()
        seconds = time.perf_counter() - start
        self.seconds += seconds
        self.step += steps
        if self.calculator.evaluations != self.step + 1:
            raise KanmlipError(f"{self.calculator.evaluations} evaluations in {self.step} steps: the timings are not of steps; report it")
        if not np.array_equal(self.atoms.positions, self.trajectory.positions[self.step]):
            raise KanmlipError(f"the atoms left the trajectory before step {self.step}: contenders cannot be compared; report it")
        return seconds / steps
