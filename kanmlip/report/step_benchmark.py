"""What ``kanmlip-bench step`` left behind: the cost of a training step with KANs over that with MLPs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kanmlip.experiment.atomic import read_json
from kanmlip.report.matching import Match


@dataclass(frozen=True)
class StepCost:
    """A ratio within rounds with its 95 % interval, the size of the model that it was measured on, and where it is from."""

    ratio: float
    low: float
    high: float
    rounds: int
    quiet: bool
    size: str
    file: str
    commit: str
    hardware: str
    device: str


def step_cost(benchmarks: Path, match: Match, size: str) -> StepCost | None:
    """The cost of a training step at equal widths, from ``step_<model>_<size>.json``, else from the size of budget gpu.

    Args:
        benchmarks: The folder ``results/benchmarks``.
        match: The row with KANs.
        size: Column of model sizes of the runs that it is for.

    Returns:
        None where no file has such a contender.
    """
    for wanted in dict.fromkeys((size, "gpu")):
        path = benchmarks / f"step_{match.model}_{wanted}.json"
        content = read_json(path)
        if not isinstance(content, dict):
            continue
        for entry in content.get("kan", {}).values():
            timing, environment = entry.get("ratios", {}).get("training"), content.get("environment", {})
            head = entry.get("placement"), entry.get("basis"), entry.get("match")
            if timing is not None and head == (match.placement, match.basis, "widths"):
                return StepCost(
                    ratio=timing["median"],
                    low=timing["low"],
                    high=timing["high"],
                    rounds=content["plan"]["rounds"],
                    quiet=bool(content["quiet"]),
                    size=wanted,
                    file=path.name,
                    commit=(environment.get("commit") or "unknown")[:10],
                    hardware=environment.get("hardware") or "unknown hardware",
                    device=content["plan"].get("device", "cpu"),
                )
    return None
