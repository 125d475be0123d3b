"""Markdown and JSON of the MD benchmark: bars, the paper's Table 4 beside ours, then every contender of every system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kanmlip.benchmark.bars import md_bars
from kanmlip.benchmark.machine import Quietness
from kanmlip.benchmark.md_modes import MODES
from kanmlip.benchmark.md_record import SCHEMA_VERSION, MDCase, MDMemory, MDResult
from kanmlip.benchmark.report import bars_table, environment_lines, table

# Table 4 of Wang et al. 2024 (doi 10.20517/jmi.2024.46): Allegro in LAMMPS on a GPU, NVT at 300 K, 5,000 steps, 71 atoms of Ag;
# placement → ms a step, MB of GPU memory.
PAPER = {"none": (8.22, 1941), "besides_output": (9.24, 1963), "output": (8.92, 1945), "all": (9.44, 1963)}
PAPER_BASIS, PAPER_ATOMS = "gaussian", 71
_MATCHES = ("widths", "parameters")

_METHOD = (
    "Every contender runs ASE's integrator for real: in every step our neighbour list is made anew (matscipy, on the CPU) and the "
    "contender computes energy and forces in float32 (geometry in float64), parameters frozen. Models are calibrated but untrained, so "
    "the atoms move by EMT's forces, made before and not timed: all contenders pass through the same positions to the last bit, which "
    "is checked, and have the same neighbours. They take turns within one process (A/B/B/A); a turn is the next steps of the "
    "trajectory. Ratios are to the MLP of the same mode: medians, over rounds, of the ratio within a round, with the 95 % bootstrap "
    "interval; ms are medians. What model and neighbour list leave of a step is ASE and its integrator.\n"
)
_MEMORY = {
    "cpu": (
        "Memory is of a fresh process a contender, MiB. *Allocated* is the most that torch's CPU allocator had handed out during a step, "
        "weights included, and not what kernels take elsewhere for scratch; *process* is the peak resident set during a step and *less "
        "empty* what that is above the same process with its libraries loaded and nothing done.\n"
    ),
    "cuda": (
        "Memory is of a fresh process a contender, MiB: *allocated* and *reserved* are CUDA's `max_memory_allocated` and "
        "`max_memory_reserved`, *process* is the device memory in use and *less empty* what that is above an empty CUDA context, which "
        "the paper's numbers contain.\n"
    ),
}


def md_markdown(cases: Sequence[MDCase]) -> str:
    """The report of one command; ``cases`` are those that are done so far, at least one."""
    first = cases[0]
    parts = [f"# Molecular dynamics of silver, size {first.size}, {first.device}\n", _METHOD]
    if any(result.memory for case in cases for result in case.results):
        parts.append(_MEMORY[first.device])
    bars = md_bars(cases)
    if bars:
        parts += ["## Bars\n", bars_table(bars)]
    for case in cases:
        if case.model == "allegro" and case.atoms == PAPER_ATOMS:
            parts += ["## The paper's Table 4\n", *_paper_part(case)]
    for case in cases:
        parts += [f"## {case.model}, {case.atoms:,} atoms\n", _case_line(case), _case_table(case)]
        parts += [f"Not measured: {result.name}: {result.missing}\n" for result in case.results if result.missing]
    return "\n".join(parts)


def md_json(cases: Sequence[MDCase]) -> dict[str, Any]:
    """The same as plain data; :mod:`kanmlip.benchmark.md_record` reads it."""
    return {
        "schema": SCHEMA_VERSION,
        "bars": [bar.to_dict() for bar in md_bars(cases)],
        "paper": {placement: {"ms_per_step": ms, "gpu_memory_MB": memory} for placement, (ms, memory) in PAPER.items()},
        "cases": [case.model_dump(mode="json", exclude={"file"}) for case in cases],
    }


def file_name(size: str, device: str) -> str:
    """Without its ending."""
    return f"md_{size}" if device == "cpu" else f"md_{size}_{device}"


def _case_line(case: MDCase) -> str:
    cut = "" if case.steps == case.steps_asked else f" ({case.steps_asked:,} were asked for; fewer fit the time allowed)"
    hidden = "" if case.keep_hidden else " (in eager mode hidden values are worked out again in the backward pass)"
    return (
        f"{case.edges:,} edges; {case.ensemble}, {case.temperature_K:g} K, {case.timestep_fs:g} fs; {case.steps:,} steps of each{cut}; "
        f"KAN backend {case.backend}{hidden}, for AOTInductor {case.portable_backend}.\n"
        + environment_lines(case.environment, case.rounds, _quietness(case))
    )


def _quietness(case: MDCase) -> Quietness:
    return Quietness(case.machine["load_start"], case.machine["load_end"], case.machine["others"])


def _case_table(case: MDCase) -> str:
    measured = [result.memory for result in case.results if result.memory]
    memory = [("weights", "weights"), ("peak_allocated", "allocated")]
    memory += [("peak_reserved", "reserved")] if any(one.peak_reserved is not None for one in measured) else []
    memory += [("process", "process"), ("process_less_empty", "less empty")]
    header = ["model", "parameters", "ratio to the MLP", "ms a step", "µs an atom and step", "model", "neighbour list"]
    header += ["allocated: ratio", *(heading for _, heading in memory)] if measured else []
    rows = []
    for result in case.results:
        row = [result.name, f"{result.parameters:,}", *_timing_cells(case, result)]
        if measured:
            row += [_number(case.memory_ratio(result), 4), *(_memory_cell(result.memory, name) for name, _ in memory)]
        rows.append(row)
    return table(header, rows)


def _timing_cells(case: MDCase, result: MDResult) -> list[str]:
    timing = result.timing
    if timing is None:
        return ["–"] * 5
    return [
        _ratio(result),
        _digits(timing.ms_per_step),
        _digits(1e3 * timing.ms_per_step / case.atoms),
        f"{100 * timing.model_share:.0f} %",
        f"{100 * timing.neighbour_share:.0f} %",
    ]


def _memory_cell(memory: MDMemory | None, name: str) -> str:
    return _number(None if memory is None else getattr(memory, name), 2 if name == "weights" else 1)


def _paper_part(case: MDCase) -> list[str]:
    """Its rows are Gaussian KANs, and their widths are not printed."""
    ms, megabytes = PAPER["none"]
    header = ["placement", "paper: ms a step", "ratio", "paper: MB", "ratio"]
    header += [cell for match in _MATCHES for cell in (f"ours, equal {match}: ratio", "allocated: ratio")]
    parts = []
    for mode in dict.fromkeys(result.mode for result in case.results):
        rows = []
        for placement, (own_ms, own_megabytes) in PAPER.items():
            row = [placement, f"{own_ms:.2f}", f"{own_ms / ms:.3f}", f"{own_megabytes}", f"{own_megabytes / megabytes:.4f}"]
            for match in _MATCHES:
                result = case.find("none", mode=mode) if placement == "none" else case.find(placement, PAPER_BASIS, match, mode)
                row += ["–", "–"] if result is None else [_ratio(result), _number(case.memory_ratio(result), 4)]
            rows.append(row)
        parts += [f"{MODES[mode]}, on {case.environment['hardware']}:\n", table(header, rows)]
    return [
        f"The paper's: LAMMPS on a GPU, {PAPER_BASIS} KANs of unprinted widths, memory with the CUDA context. Ours: as below.\n",
        *parts,
    ]


def _ratio(result: MDResult) -> str:
    timing = result.timing
    if timing is None or timing.ratio is None:
        return "–"
    return f"{timing.ratio:.3f} [{timing.low:.3f}, {timing.high:.3f}]"


def _number(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:,.{decimals}f}"


def _digits(value: float) -> str:
    """Three of them, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
