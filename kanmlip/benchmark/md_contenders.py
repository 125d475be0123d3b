"""What the MD benchmark measures and against what: placements, bases, widths and ways to evaluate, as plain data that a child can build."""

from __future__ import annotations

from dataclasses import dataclass

from kanmlip.benchmark.md_record import Match, Mode
from kanmlip.benchmark.step import StepPlan, build, prepare
from kanmlip.benchmark.training_step import Setting
from kanmlip.dynamics.settings import Ensemble, MDSettings
from kanmlip.kan import KAN
from kanmlip.models.potential import EnergyPotential
from kanmlip.placement.report import PlacementReport

# The form of a KAN that needs PyTorch's own operators only, which a file for another program has to have.
PORTABLE = "inductor"
# By mode, the backend of the KANs where it is not the plan's.
_BACKENDS = {"aot": PORTABLE, "native": "native"}


@dataclass(frozen=True)
class MDPlan:
    """What to measure of one model.

    Attributes:
        model: Name in conf/model.
        size: Column of its sizes.
        placements: Besides ``none``; empty for all that the model has.
        bases: See ``contenders.parse_basis``.
        matches: ``widths``, ``parameters``.
        modes: Keys of ``md_modes.MODES``.
        backend: Of every KAN, those that AOTInductor compiles excepted.
        device: ``cpu`` or ``cuda``.
        ensemble: Integrator.
        systems: Numbers of atoms.
        steps: Of each contender, by system.
        rounds: Turns that they are made in.
        memory: Measure it, in a process a contender.
        keep_hidden: See :class:`kanmlip.kan.KAN`; of every KAN.
    """

    model: str
    size: str
    placements: tuple[str, ...]
    bases: tuple[str, ...]
    matches: tuple[Match, ...]
    modes: tuple[Mode, ...]
    backend: str
    device: str
    ensemble: Ensemble
    systems: tuple[int, ...]
    steps: tuple[int, ...]
    rounds: int
    memory: bool
    keep_hidden: bool = True

    @property
    def settings(self) -> MDSettings:
        """Of the dynamics: 300 K and 1 fs, as in the paper."""
        return MDSettings(ensemble=self.ensemble, temperature_K=300.0, timestep_fs=1.0, seed=2)

    def prepare(self) -> Setting:
        """The model's settings and the structures it is calibrated with; for what is raised see :func:`kanmlip.benchmark.step.prepare`."""
        return prepare(self._step_plan(self.backend))

    def contenders(self, setting: Setting) -> list[MDContender]:
        """The MLP and every placement × basis × match, in each mode; the MLP first."""
        placements = [name for name in self.placements or tuple(setting.model.placements) if name != "none"]
        cases: list[tuple[str, str, Match]] = [("none", "", "")]
        cases += [(placement, basis, match) for placement in placements for basis in self.bases for match in self.matches]
        return [MDContender(*case, mode) for mode in self.modes for case in cases]

    def build(self, setting: Setting, contender: MDContender) -> tuple[EnergyPotential, PlacementReport]:
        """A contender's potential, untrained but calibrated, frozen, on the device; and what was replaced."""
        plan = self._step_plan(_BACKENDS.get(contender.mode, self.backend))
        potential, report = build(setting, plan, contender.placement, contender.basis, contender.match)
        if not isinstance(potential, EnergyPotential):
            raise TypeError(f"{self.model} has no energy")
        potential.eval().requires_grad_(False)
        for module in potential.modules():
            if isinstance(module, KAN):
                module.keep_hidden = self.keep_hidden
        return potential, report

    def _step_plan(self, backend: str) -> StepPlan:
        return StepPlan(self.model, self.size, self.placements, self.bases, self.matches, ("md",), backend, self.device, self.rounds, 4)


@dataclass(frozen=True)
class MDContender:
    """One potential in one mode; for the fields see :class:`kanmlip.benchmark.md_record.MDResult`."""

    placement: str
    basis: str
    match: Match
    mode: Mode

    @property
    def name(self) -> str:
        """Name in tables; unique within a plan."""
        kind = "MLP" if self.placement == "none" else f"{self.placement} {self.basis}, equal {self.match}"
        return kind if self.mode == "eager" else f"{kind}, {self.mode}"

    @property
    def baseline(self) -> str:
        """Name of the MLP that it is compared with: that of the same mode."""
        return MDContender("none", "", "", self.mode).name
