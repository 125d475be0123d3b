"""Effects that benchmarks measured: the cost of a training step, and of a step of molecular dynamics."""

from __future__ import annotations

from kanmlip.report.claims import Part
from kanmlip.report.effect import Effect, Sources
from kanmlip.report.matching import Match
from kanmlip.report.step_benchmark import StepCost, step_cost


def step_effect(part: Part, sources: Sources) -> Effect:
    """The cost of an update of the model, at the budget's sizes or those of budget gpu."""
    cost = step_cost(sources.benchmarks, part.of, sources.budget)
    if cost is None:
        return Effect(obstacles=(unmeasured(part.of, sources.budget),))
    return Effect(
        value=cost.ratio,
        interval=(cost.low, cost.high),
        seeds=(cost.rounds,),
        obstacles=(*noise(cost), *elsewhere(cost.device)),
        remarks=(f"time of one update at equal widths by {cited(cost)}; interval over its {cost.rounds} rounds",),
        sources=(cost.file,),
    )


def dynamics_effect(part: Part, sources: Sources) -> Effect:
    """Molecular dynamics of the smallest system there is; memory where CUDA counted it."""
    device = "cuda" if part.kind == "md_memory" else None
    sizes = dict.fromkeys((sources.budget, "gpu"))  # as for training steps, the size of budget gpu where there is none of its own
    cases = [case for size in sizes for case in sources.md if case.size == size and case.model == part.of.model]
    cases = [case for case in cases if device in (None, case.device)]
    for case in sorted(cases, key=lambda c: (c.size != sources.budget, c.atoms, c.device != "cuda", "/" in c.file, c.file)):
        ours, mlp = case.find(part.of.placement, part.of.basis or "", "widths"), case.find("none")
        if ours is None or mlp is None:
            continue
        files, what = (case.file,), f"{case.atoms} atoms, {case.device}, sizes of budget {case.size}, by `{case.file}`"
        obstacles = (*(() if case.quiet else ("the machine was not quiet",)), *elsewhere(case.device))
        if part.kind == "md_step" and ours.timing is not None and ours.timing.ratio is not None:
            low, high = ours.timing.low, ours.timing.high
            span = None if low is None or high is None else (low, high)
            remark = f"{what}; interval over its {case.rounds} rounds"
            return Effect(ours.timing.ratio, span, (case.rounds,), obstacles=obstacles, remarks=(remark,), sources=files)
        if part.kind == "md_memory" and ours.memory and mlp.memory and ours.memory.peak_allocated and mlp.memory.peak_allocated:
            difference = ours.memory.peak_allocated - mlp.memory.peak_allocated
            return Effect(difference, None, obstacles=("one measurement has no interval",), remarks=(what,), sources=files)
    wanted = "on a GPU " if device else ""
    return Effect(obstacles=(f"no benchmark of molecular dynamics {wanted}at the sizes of budget {sources.budget} (kanmlip-bench md)",))


def noise(cost: StepCost) -> list[str]:
    """Why a benchmark supports no verdict: one line if other programs were running."""
    return [] if cost.quiet else [f"the machine was not quiet while `{cost.file}` was measured"]


def elsewhere(device: str) -> list[str]:
    """Why a cost says nothing about the paper's: one line if it was not measured on a GPU, where the paper's models ran."""
    return [] if device == "cuda" else ["measured on a CPU, while the paper's models ran on a GPU"]


def unmeasured(match: Match, size: str) -> str:
    """That the cost of a training step with these heads is not known, and what measures it."""
    command = f"kanmlip-bench step --models {match.model} --size {size}"
    return f"the cost of a training step of {match.model} ({match.placement} {match.basis}) is not measured ({command})"


def cited(cost: StepCost) -> str:
    """Where a cost is from."""
    return f"`{cost.file}` (sizes of budget {cost.size}, commit {cost.commit}, {cost.hardware})"
