"""The runs of a reproduction as text: what is done, what is to do, and what that will cost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kanmlip.reproduction.benchmarks import MDBenchmark
from kanmlip.reproduction.estimate import UNMEASURED, Estimate
from kanmlip.reproduction.progress import Standing


def duration(seconds: float) -> str:
    """Such as ``40 s``, ``12 min``, ``3.5 h`` or ``2.1 d``."""
    for limit, unit, size in ((100, "s", 1), (100 * 60, "min", 60), (48 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if unit != "h" else f"{seconds / size:.1f} h"
    return f"{seconds / 86400:.1f} d"


def list_runs(
    standings: Sequence[Standing], estimates: Sequence[Estimate], benchmark: MDBenchmark | None, jobs: int, renew: bool, results: Path
) -> str:
    """A table of all runs in their order, the benchmarks after them, and totals of what is left.

    Args:
        standings: All runs.
        estimates: The cost of each.
        benchmark: Of molecular dynamics, none if it is not wanted.
        jobs: Runs at a time.
        renew: Whether runs with an older record count as left.
        results: Results root, whose free space is named.
    """
    header = ("run", "preset", "rows", "state", "time", "memory", "disk", "estimated from")
    lines = [header, *(_row(standing, estimate) for standing, estimate in zip(standings, estimates, strict=True))]
    cells = sorted(benchmark.steps.items()) if benchmark else []
    missing = benchmark.missing() if benchmark else []
    for atoms, steps in cells:
        state, rows = "pending" if atoms in missing else "done", " ".join(benchmark.rows if benchmark else ())
        what = f"MD benchmark, {atoms} atoms, size {benchmark.size}, {benchmark.device}" if benchmark else ""
        lines.append((what, f"{steps:,} steps", rows, state, "", "", "", "prints its own"))
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "-" * len(text[0]))
    remarks = [benchmark.remark] if benchmark and benchmark.remark else []
    return "\n".join([*text, "", *_totals(standings, estimates, jobs, renew, results), *remarks])


def _row(standing: Standing, estimate: Estimate) -> tuple[str, ...]:
    step = standing.step
    state = standing.state + (f" ({standing.reason})" if standing.reason else "") + (f", data: {step.stand_in}" if step.stand_in else "")
    costs = (duration(estimate.seconds), f"{estimate.memory_MB:,.0f} MB", f"{estimate.disk_MB:.1f} MB", estimate.basis)
    return (step.run_id, step.preset, " ".join(step.places), state, *costs)


def _totals(standings: Sequence[Standing], estimates: Sequence[Estimate], jobs: int, renew: bool, results: Path) -> list[str]:
    left = [estimate for standing, estimate in zip(standings, estimates, strict=True) if standing.is_to_be_run(renew)]
    seconds, disk = sum(e.seconds for e in left), sum(e.disk_MB for e in left)
    memory = sum(sorted((e.memory_MB for e in left), reverse=True)[:jobs])
    lines = [
        f"{len(standings)} runs, {len(left)} to do, {jobs} at a time: about {duration(seconds / jobs)} ({duration(seconds)} on one core); "
        f"memory up to {memory:,.0f} MB; disk {disk:,.0f} MB of {free_disk_mb(results):,.0f} MB free",
    ]
    older = sum(standing.state == "older record" for standing in standings)
    if older and not renew:
        lines.append(f"{older} records lack what newer ones hold (errors by structure, histories); --renew makes them again")
    if any(estimate.basis == UNMEASURED for estimate in left):
        lines.append(f"estimates '{UNMEASURED}' are those of the dearest model that was measured, and may be far off")
    stand_ins = sorted({standing.step.stand_in for standing in standings if standing.step.stand_in})
    if stand_ins:
        lines.append(f"STAND-INS: some published sets are not under the data root; those runs use {', '.join(stand_ins)} (see data:)")
    return lines


def free_disk_mb(folder: Path) -> float:
    """Free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 1e6


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
