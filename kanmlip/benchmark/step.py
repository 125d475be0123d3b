"""The step benchmark: what KANs in place of a model's MLPs cost in a whole training step and in a step of molecular dynamics."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kanmlip.benchmark.bars import Bar, step_bars
from kanmlip.benchmark.contenders import choose_backend, parse_basis
from kanmlip.benchmark.interleave import Ratio, interleave, ratios, repeated
from kanmlip.benchmark.training_step import Setting, our_epoch
from kanmlip.data.graph import batch_graphs
from kanmlip.errors import ConfigError, describe_choice
from kanmlip.kan import KAN, Basis
from kanmlip.models.potential import Potential
from kanmlip.placement.config import HeadConfig, PlacementConfig
from kanmlip.placement.report import PlacementReport

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig

BASELINE = "MLP"
TOY = "toy"
# Of the models that learn tensors, the set they are studied on; of all others the toy set.
DATASETS = {"etgnn": "sio2_bec"}
TOY_FRAMES = 4
WHAT = {"training": "training step", "md": "MD step (energy and forces)"}


@dataclass(frozen=True)
class StepPlan:
    """What to measure of one model.

    Attributes:
        model: Name in conf/model.
        size: Column of its sizes.
        placements: Which; empty for all that the model has.
        bases: See ``contenders.parse_basis``.
        matches: ``widths``, ``parameters``.
        what: Keys of ``WHAT``.
        backend: Of every KAN.
        device: ``cpu`` or ``cuda``.
        rounds: Turns of each contender.
        frames: Structures of an epoch.
        dataset: Name in conf/dataset. Of the toy set (71 atoms of Ag) an epoch is the same at all sizes, in batches of budget small; of any
            other it has the batches of the budget of that size.
    """

    model: str
    size: str
    placements: tuple[str, ...]
    bases: tuple[str, ...]
    matches: tuple[str, ...]
    what: tuple[str, ...]
    backend: str
    device: str
    rounds: int
    frames: int
    dataset: str = TOY


@dataclass(frozen=True)
class StepResult:
    """One contender.

    Attributes:
        placement: ``none`` for the MLP.
        basis: Empty for the MLP.
        match: ``widths`` or ``parameters``; empty for the MLP.
        parameters: Of the whole model.
        head_parameters: Of the replaced modules, and of what stands there now.
        widths: Of the KANs, in the order in which the model calls them.
        ratios: Time over the MLP's by what was timed; ``seconds`` are those of one structure.
    """

    placement: str
    basis: str
    match: str
    parameters: int
    head_parameters: tuple[int, int]
    widths: tuple[tuple[int, ...], ...]
    ratios: dict[str, Ratio]

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "ratios": {name: vars(ratio) for name, ratio in self.ratios.items()}}


@dataclass(frozen=True)
class _Recipe:
    name: str
    backend: str

    def build(self) -> Basis:
        return parse_basis(self.name)


def compose(model: str, size: str, dataset: str, device: str = "cpu") -> RunConfig:
    """The run whose steps are timed.

    Raises:
        ConfigError: If the model, the size or the dataset does not exist, or they do not go together.
    """
    from kanmlip.experiment.configure import compose_run

    budget = ["budget=small", f"budget.size={size}"] if dataset == TOY else [f"budget={size}"]
    return compose_run([f"model={model}", f"dataset={dataset}", *budget, f"trainer.device={device}", "trainer.progress_bar=false"])


def default_frames(model: str, size: str, dataset: str) -> int:
    """Structures of an epoch where nobody says how many: of the toy set two batches, of any other one batch of the budget."""
    return TOY_FRAMES if dataset == TOY else compose(model, size, dataset).trainer.batch_size


def check(plan: StepPlan) -> RunConfig:
    """The run of a plan, which can be measured.

    Raises:
        ConfigError: If the model, a placement, the size or the dataset does not exist, or a model without forces is to be timed in
            molecular dynamics.
        DataError: If the dataset's files are not there.
        MissingDependencyError: If the model's package is not.
    """
    from kanmlip.data.root import data_root

    config = compose(plan.model, plan.size, plan.dataset, plan.device)
    for placement in plan.placements:
        if placement not in config.model.placements:
            raise ConfigError(describe_choice("--placements", placement, config.model.placements))
    if "md" in plan.what and "forces" not in config.model.predicts:
        raise ConfigError(f"--what=md: {plan.model} has no forces; choose --what=training")
    config.model.require_upstream()
    config.dataset.check(data_root())
    return config


def prepare(plan: StepPlan) -> Setting:
    """The model and its structures.

    Raises:
        KanmlipError: As :func:`check`.
    """
    from kanmlip.data.root import cache_root, data_root
    from kanmlip.data.statistics import compute_statistics

    config = check(plan)
    # Not the whole set, which would have to be read and checked: a random part, the same each time.
    part = {} if plan.dataset == TOY else {"n_train": plan.frames, "n_val": 1, "n_test": 1}
    splits = config.dataset.model_copy(update=part).load(data_root())
    graphs = config.model.graphs(splits.train[: plan.frames], cache_root())
    return Setting(config.model, compute_statistics(graphs, config.model.cutoff), graphs, config.trainer)


def build(setting: Setting, plan: StepPlan, placement: str, basis: str, match: str) -> tuple[Potential, PlacementReport]:
    """A contender's model with its KANs on the plan's backend, and what was replaced."""
    head = HeadConfig(match="parameters" if match == "parameters" else "widths")
    potential, report = setting.build_and_report(PlacementConfig(name=placement, head=head), _Recipe(basis or "gaussian", plan.backend))
    potential.to(plan.device)
    for module in potential.modules():
        if isinstance(module, KAN):
            choose_backend(module, plan.backend)
    return potential, report


def kan_against_mlp(plan: StepPlan, say: Callable[[str], None] = lambda _: None) -> dict[str, StepResult]:
    """Every placement × basis × match over the model's MLP, interleaved in one process."""
    setting = prepare(plan)
    placements = plan.placements or tuple(setting.model.placements)
    cases = [(BASELINE, "none", "", "")]
    for placement in (placement for placement in placements if placement != "none"):
        for basis in plan.bases:
            cases += [(f"{placement} {basis}, equal {match}", placement, basis, match) for match in plan.matches]
    built = {name: build(setting, plan, *case) for name, *case in cases}
    potentials = {name: potential for name, (potential, _) in built.items()}
    timed = {}
    for what in plan.what:
        say(f"{plan.model} {plan.size} {WHAT[what]}: {len(potentials)} contenders, {plan.rounds} rounds")
        calls = _training_calls(setting, potentials) if what == "training" else _md_calls(setting, potentials, plan.device)
        timed[what] = ratios(interleave(calls, plan.rounds, warmup=1), BASELINE)
    results = {}
    for name, placement, basis, match in cases:
        report = built[name][1]
        counts = sum(r.parameters_before for r in report.replaced), sum(r.parameters_after for r in report.replaced)
        widths = tuple(r.widths for r in report.replaced)
        own = {what: timed[what][name] for what in plan.what}
        results[name] = StepResult(placement, basis, match, report.parameters_total, counts, widths, own)
    return results


def ours_against_upstream(plan: StepPlan) -> dict[str, Ratio]:
    """Our trainer on placement=none over the upstream package's own loop on the same weights and batches."""
    from kanmlip.benchmark.upstream_loops import mace_run_train, nequip_train
    from kanmlip.training.loop import open_fabric

    setting = prepare(plan)
    fabric = open_fabric(setting.trainer)
    potential, _ = build(setting, plan, "none", "", "")
    loop, name = (mace_run_train, "mace_run_train") if plan.model == "mace" else (nequip_train, "nequip-train")
    settings = {"learning_rate": 1e-4, "ema_decay": 0.99, "clip": 10.0}
    theirs = loop(potential, setting.batches(fabric.device), **settings)  # type: ignore[arg-type]
    ours = our_epoch(setting, potential, fabric)
    calls = {name: _each(theirs.epoch, len(setting.graphs)), "kanmlip": _each(repeated(ours, 0.0), len(setting.graphs))}
    return ratios(interleave(calls, plan.rounds), name)


def _each(epoch: Callable[[], float], structures: int) -> Callable[[], float]:
    """Seconds of one structure from those of an epoch."""
    return lambda: epoch() / structures


def _training_calls(setting: Setting, potentials: dict[str, Potential]) -> dict[str, Callable[[], float]]:
    """One epoch of each on a copy."""
    from kanmlip.training.loop import open_fabric

    fabric = open_fabric(setting.trainer)
    count = len(setting.graphs)
    return {
        name: _each(repeated(our_epoch(setting, copy.deepcopy(potential), fabric), 0.0), count) for name, potential in potentials.items()
    }


def _md_calls(setting: Setting, potentials: dict[str, Potential], device: str) -> dict[str, Callable[[], float]]:
    """Energy and forces of one structure by each; nobody wants gradients by parameters in molecular dynamics."""
    graph = batch_graphs(setting.graphs[:1]).to(device)

    def call(potential: Potential) -> Callable[[], float]:
        frozen = copy.deepcopy(potential).eval().requires_grad_(False)
        return repeated(lambda: frozen(graph), 0.1)

    return {name: call(potential) for name, potential in potentials.items()}


def measured_bars(plan: StepPlan, results: dict[str, StepResult]) -> list[Bar]:
    """The bars that this plan measures, with what was found; they are for the toy set."""
    bars = []
    for what in plan.what if results and plan.dataset == TOY else ():
        for match in plan.matches:
            own = {(r.placement, r.basis): r.ratios[what] for r in results.values() if r.match == match}
            bars += step_bars(plan.model, plan.device, what, match, own)
    return bars
