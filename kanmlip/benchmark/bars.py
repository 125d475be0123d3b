"""The bars that the layers have to clear, and whether a measurement does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kanmlip.benchmark.interleave import Ratio, paired
from kanmlip.benchmark.kan_layer import BASELINE, Comparison, Plan, Shape
from kanmlip.benchmark.md_record import MDCase

# Bars of speed carry this margin for the machine that measures them; bars of memory do not.
MARGIN = 1.15
Verdict = Literal["met", "met with margin", "missed", "not measured"]

_SHAPES = (Shape(5000, (128, 32, 1)), Shape(5000, (256, 128, 128)), Shape(500, (64, 16, 1)))
# Force-training step, float32, one thread; by shape in turn.
_SPLINE, _GAUSSIAN, _PLAIN, _FASTER = (6.5, 7.0, 3.6), (8.6, 8.6, 4.6), (15.0, 15.0, 8.0), (11.0, 7.0, 8.0)
_FINE, _FINE_GRID = 1.15, "bspline:grid=20"
_MEMORY, _MEMORY_ROWS = 1.1, 5000
_CUDA, _CUDA_ROWS = 1.5, 100_000
# Whole Allegro steps: (what, match) → placement → bar.
_STEPS = {
    ("training", "parameters"): {"output": 1.10, "all": 1.3},
    ("training", "widths"): {"output": 1.2, "all": 1.7},
    ("md", "parameters"): {"output": 1.05, "all": 1.15},
}
_CUDA_STEPS = {("training", match): {"output": 1.02, "all": 1.10} for match in ("widths", "parameters")}
# Molecular dynamics of the paper's 71 atoms, on any device.
_MD, _MD_ATOMS, _MD_MEMORY = _STEPS["md", "parameters"], 71, 1.005
_STEP_BASES = ("gaussian", "bspline")


@dataclass(frozen=True)
class Bar:
    """One bar and what was measured.

    Attributes:
        text: What is compared.
        limit: The measured number's bound: an upper one, unless ``at_least``.
        measured: Ratio with interval, or a plain number; none if it was not measured.
        at_least: The bound is a lower one.
        margin: Factor by which a measurement may miss ``limit``; 1 for none.
    """

    text: str
    limit: float
    measured: Ratio | float | None
    at_least: bool = False
    margin: float = MARGIN

    @property
    def lenient(self) -> float:
        """The bound with its margin."""
        return self.limit / self.margin if self.at_least else self.limit * self.margin

    @property
    def verdict(self) -> Verdict:
        """By the median: within the bound, within its margin, or neither."""
        if self.measured is None:
            return "not measured"
        value = self.measured.median if isinstance(self.measured, Ratio) else self.measured
        sign = -1 if self.at_least else 1
        if sign * value <= sign * self.limit:
            return "met"
        return "met with margin" if sign * value <= sign * self.lenient else "missed"

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        measured = vars(self.measured) if isinstance(self.measured, Ratio) else self.measured
        return {
            "text": self.text, "limit": self.limit, "with_margin": self.lenient, "at_least": self.at_least,
            "measured": measured, "verdict": self.verdict,
        }  # fmt: skip


def layer_bars(plan: Plan, comparison: Comparison) -> list[Bar]:
    """The bars of one shape: those of the issue's three shapes on a CPU, or the one of many rows on CUDA."""
    if plan.device != "cpu":
        return _cuda_bars(plan, comparison)
    if comparison.shape not in _SHAPES or plan.dtype != "float32":
        return []
    at, turn = f"{comparison.shape}", _SHAPES.index(comparison.shape)
    fast, plain = ("cpu", "auto"), ("torch",)
    bars = []
    for name, backends, basis, limits in (
        ("B-spline", fast, "bspline", _SPLINE),
        ("Gaussian", fast, "gaussian", _GAUSSIAN),
        ("B-spline, plain PyTorch", plain, "bspline", _PLAIN),
        ("Gaussian, plain PyTorch", plain, "gaussian", _PLAIN),
    ):
        bars.append(
            Bar(f"{at} training step: {name} / MLP", limits[turn], _ratio(comparison, _name(comparison, basis, backends), BASELINE))
        )
    spline, fine = (_name(comparison, basis, fast) for basis in ("bspline", _FINE_GRID))
    faster = _ratio(comparison, "efficient-kan", spline)
    bars.append(Bar(f"{at} training step: efficient-kan's algorithm / B-spline", _FASTER[turn], faster, at_least=True))
    bars.append(Bar(f"{at} training step: B-spline G = 20 / G = 5", _FINE, _ratio(comparison, fine, spline)))
    if comparison.shape.rows >= _MEMORY_ROWS:
        for basis in dict.fromkeys(("bspline", _FINE_GRID, "gaussian", *plan.bases)):
            bars.append(_memory_bar(comparison, basis, fast))
    return bars


def _cuda_bars(plan: Plan, comparison: Comparison) -> list[Bar]:
    if comparison.shape.rows < _CUDA_ROWS:
        return []
    name = f"{comparison.shape} training step: "
    fast = ("triton", "auto")
    return [Bar(f"{name}{basis} / MLP", _CUDA, _ratio(comparison, _name(comparison, basis, fast), BASELINE)) for basis in plan.bases]


def _memory_bar(comparison: Comparison, basis: str, backends: Sequence[str]) -> Bar:
    ours, mlp = comparison.ours(basis, backends), comparison.results[BASELINE]
    known = ours is not None and ours.peak_mib is not None and mlp.peak_mib is not None
    measured = ours.peak_mib / mlp.peak_mib if known and ours and ours.peak_mib and mlp.peak_mib else None
    return Bar(f"{comparison.shape} peak memory of the training step: {basis} / MLP", _MEMORY, measured, margin=1.0)


def _name(comparison: Comparison, basis: str, backends: Sequence[str]) -> str | None:
    result = comparison.ours(basis, backends)
    return None if result is None else result.contender.name


def _ratio(comparison: Comparison, contender: str | None, baseline: str | None) -> Ratio | None:
    """Paired ratio of two contenders' training steps."""
    seconds = comparison.seconds.get("training", {})
    if contender is None or baseline is None or contender not in seconds or baseline not in seconds:
        return None
    return paired(seconds[contender], seconds[baseline])


def step_bars(model: str, device: str, what: str, match: str, measured: dict[tuple[str, str], Ratio]) -> list[Bar]:
    """The bars of whole Allegro steps; of another model, none.

    Args:
        model: Name.
        device: ``cpu`` or ``cuda``.
        what: ``training`` or ``md``.
        match: ``widths`` or ``parameters``.
        measured: (placement, basis) → ratio to the MLP.
    """
    limits = (_STEPS if device == "cpu" else _CUDA_STEPS).get((what, match), {}) if model == "allegro" else {}
    step = {"training": "training step", "md": "MD step"}[what]
    return [
        Bar(f"{step} at equal {match}: {placement} {basis} / MLP", limit, measured.get((placement, basis)))
        for placement, limit in limits.items()
        for basis in _STEP_BASES
    ]


def md_bars(cases: Sequence[MDCase]) -> list[Bar]:
    """The bars of molecular dynamics, in each mode that was measured: Allegro at equal parameters, step time and peak allocated memory."""
    bars = []
    for case in (case for case in cases if case.model == "allegro" and case.atoms == _MD_ATOMS):
        for mode in dict.fromkeys(result.mode for result in case.results):
            for placement, limit in _MD.items():
                for basis in _STEP_BASES:
                    result = case.find(placement, basis, "parameters", mode)
                    timing = result.timing if result else None
                    measured = None
                    if timing and timing.ratio is not None and timing.low is not None and timing.high is not None:
                        measured = Ratio(timing.ratio, timing.low, timing.high, 1e-3 * timing.ms_per_step)
                    what = f"at equal parameters, {mode}: {placement} {basis} / MLP"
                    memory = case.memory_ratio(result) if result else None
                    bars.append(Bar(f"MD step {what}", limit, measured))
                    bars.append(Bar(f"peak allocated memory {what}", _MD_MEMORY, memory, margin=1.0))
    return sorted(bars, key=lambda bar: bar.margin == 1.0)
