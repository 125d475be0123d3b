"""The layer benchmark: every contender × shape × pass as a ratio to the MLP, with peak memory and the least time possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from kanmlip.benchmark.contenders import Contender, why_not
from kanmlip.benchmark.interleave import Ratio, interleave, ratios, repeated
from kanmlip.benchmark.memory import peak_mib
from kanmlip.benchmark.passes import PASSES, make_input, make_pass
from kanmlip.benchmark.roofline import Rates, Roofline, roofline
from kanmlip.errors import ConfigError, KanmlipError

BASELINE = "MLP"


@dataclass(frozen=True)
class Shape:
    """Rows and widths of a comparison; written ``5000:128,32,1``."""

    rows: int
    widths: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From ``rows:width,width,…``.

        Raises:
            ConfigError: If it is not of this form.
        """
        rows, colon, widths = text.partition(":")
        try:
            shape = cls(int(rows), tuple(int(width) for width in widths.split(",")))
        except ValueError:
            shape = cls(0, ())
        if not colon or shape.rows < 1 or len(shape.widths) < 2 or min(shape.widths) < 1:
            raise ConfigError(f"--shapes={text} is not understood; write rows:width,width,… such as 5000:128,32,1")
        return shape

    def __str__(self) -> str:
        return f"({self.rows}; {'→'.join(map(str, self.widths))})"


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        shapes: Comparisons.
        bases: Of our KANs; see ``contenders.parse_basis``.
        backends: Of our KANs.
        others: Keys of ``contenders.OTHERS``.
        matches: ``widths``, ``parameters``.
        passes: Keys of ``passes.PASSES``.
        dtype: ``float32`` or ``float64``.
        device: ``cpu`` or ``cuda``.
        rounds: Turns of each contender.
        turn_s: Least length of a turn.
        through_input: Whether training also differentiates the loss by the network's input.
        memory: Measure the peak memory of the step.
    """

    shapes: tuple[Shape, ...]
    bases: tuple[str, ...]
    backends: tuple[str, ...]
    others: tuple[str, ...] = ()
    matches: tuple[str, ...] = ("widths",)
    passes: tuple[str, ...] = tuple(PASSES)
    dtype: str = "float32"
    device: str = "cpu"
    rounds: int = 21
    turn_s: float = 0.03
    through_input: bool = True
    memory: bool = True

    def contenders(self, shape: Shape) -> list[Contender]:
        """The MLP, then ours by basis and backend, then the others; at equal widths, then at equal parameters."""
        mlp = Contender("mlp", shape.widths)
        wide = [Contender("kan", shape.widths, basis, backend) for basis in self.bases for backend in self.backends]
        wide += [Contender(kind, shape.widths) for kind in self.others]
        narrow = [contender.with_parameters_of(mlp) for contender in wide]
        return [mlp, *(wide if "widths" in self.matches else []), *(narrow if "parameters" in self.matches else [])]


@dataclass(frozen=True)
class Result:
    """One contender at one shape.

    Attributes:
        contender: What was measured.
        parameters: Trainable parameters.
        ratios: Time over the MLP's by pass.
        peak_mib: Of the force-training step; none if it was not measured.
    """

    contender: Contender
    parameters: int
    ratios: dict[str, Ratio]
    peak_mib: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"name": self.contender.name}


@dataclass(frozen=True)
class Comparison:
    """All contenders at one shape.

    Attributes:
        shape: Rows and widths.
        results: By name.
        seconds: Pass → name → seconds of every round.
        missing: Why contenders could not be measured, by name.
    """

    shape: Shape
    results: dict[str, Result]
    seconds: dict[str, dict[str, NDArray[np.float64]]]
    missing: dict[str, str]

    def ours(self, basis: str, backends: Sequence[str], match: str = "widths") -> Result | None:
        """Our KAN of a basis on the first of the backends that was measured."""
        for backend in backends:
            for result in self.results.values():
                contender = result.contender
                if (contender.kind, contender.basis, contender.backend, contender.match) == ("kan", basis, backend, match):
                    return result
        return None


def compare(plan: Plan, shape: Shape, say: Callable[[str], None] = lambda _: None) -> Comparison:
    """Measure every contender at a shape: each pass interleaved in this process, memory in children.

    Args:
        plan: Settings.
        shape: Which of its shapes.
        say: Told what is being done.
    """
    contenders, networks, missing = _build(plan, shape)
    x = make_input(shape.rows, shape.widths[0], getattr(torch, plan.dtype), plan.device)
    seconds = {}
    for name in plan.passes:
        say(f"{shape} {PASSES[name]}: {len(networks)} contenders, {plan.rounds} rounds")
        calls = {key: repeated(make_pass(name, network, x, plan.through_input), plan.turn_s) for key, network in networks.items()}
        seconds[name] = interleave(calls, plan.rounds, warmup=1)
    timed = {name: ratios(values, BASELINE) for name, values in seconds.items()}
    results = {}
    for key, contender in contenders.items():
        peak = None
        if plan.memory:
            say(f"{shape} memory: {key}")
            peak = _peak(contender, shape, plan, missing)
        own = {name: timed[name][key] for name in plan.passes}
        results[key] = Result(contender, contender.parameters(), own, peak)
    return Comparison(shape, results, seconds, missing)


def _build(plan: Plan, shape: Shape) -> tuple[dict[str, Contender], dict[str, nn.Module], dict[str, str]]:
    """Contenders and their networks by name, and why others cannot be built."""
    contenders, networks, missing = {}, {}, {}
    for contender in plan.contenders(shape):
        reason = why_not(contender, shape.rows)
        try:
            if reason is None:
                networks[contender.name] = contender.build(getattr(torch, plan.dtype), plan.device)
                contenders[contender.name] = contender
        except ConfigError as error:
            reason = str(error)
        if reason is not None:
            missing[contender.name] = reason
    return contenders, networks, missing


def least_work(plan: Plan, shape: Shape, contender: Contender, rates: Rates) -> dict[str, Roofline]:
    """Least work and time of a contender by pass."""
    columns = contender.columns(dense=False), contender.columns()
    size = getattr(torch, plan.dtype).itemsize
    return {name: roofline(name, shape.rows, contender.widths, *columns, size, rates, plan.through_input) for name in plan.passes}


def _peak(contender: Contender, shape: Shape, plan: Plan, missing: dict[str, str]) -> float | None:
    try:
        return peak_mib(contender, shape.rows, plan.dtype, plan.device, plan.through_input)
    except KanmlipError as error:
        missing[f"{contender.name}, memory"] = str(error)
        return None
