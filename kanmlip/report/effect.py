"""An effect as data: what a comparison came to, and what comparisons are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kanmlip.benchmark.md_record import MDCase
from kanmlip.report.records import Evidence, Record
from kanmlip.report.study import Study


@dataclass(frozen=True)
class SeedLine:
    """The two values of a seed, in the unit of the column; ``table`` is which table's runs they are."""

    table: str
    seed: int
    ours: float
    theirs: float


@dataclass(frozen=True)
class Effect:
    """What a comparison came to.

    Attributes:
        value: Ratio or difference; None where nothing could be compared.
        interval: Of 95 %.
        seeds: How many seeds (rounds of a benchmark) it rests on, by table.
        structures: How many structures were resampled, by table; 0 where seeds alone were.
        lines: The values by seed.
        runs: Records used.
        obstacles: Why it cannot support or refute anything, whatever its size.
        remarks: What a reader must know.
        sources: Benchmark files.
    """

    value: float | None = None
    interval: tuple[float, float] | None = None
    seeds: tuple[int, ...] = ()
    structures: tuple[int, ...] = ()
    lines: tuple[SeedLine, ...] = ()
    runs: tuple[Record, ...] = ()
    obstacles: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """Everything effects are computed from: the study, the records of one budget, and the benchmarks."""

    study: Study
    evidence: Evidence
    budget: str
    benchmarks: Path
    md: Sequence[MDCase] = ()
