"""The benchmarks' Markdown and JSON: environment, bars, then every number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kanmlip.benchmark.bars import Bar
from kanmlip.benchmark.contenders import OTHERS
from kanmlip.benchmark.interleave import Ratio
from kanmlip.benchmark.kan_layer import Comparison, Plan, Result, least_work
from kanmlip.benchmark.machine import Quietness
from kanmlip.benchmark.passes import PASSES
from kanmlip.benchmark.roofline import Rates
from kanmlip.benchmark.step import TOY, WHAT, StepPlan, StepResult
from kanmlip.experiment.atomic import write_text

_LABELS = {"mlp": "MLP (SiLU, no bias)", **OTHERS}


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def bars_table(bars: Sequence[Bar]) -> str:
    """Bar, measured, interval and verdict of each."""
    rows = []
    for bar in bars:
        sign, value, interval = "≥" if bar.at_least else "≤", "–", "–"
        if isinstance(bar.measured, Ratio):
            value, interval = f"{bar.measured.median:.3g}", f"{bar.measured.low:.3g} to {bar.measured.high:.3g}"
        elif bar.measured is not None:
            value = f"{bar.measured:.5g}"
        lenient = f"{sign} {bar.lenient:.3g}" if bar.margin != 1 else "no margin"
        rows.append((bar.text, f"{sign} {bar.limit:.4g}", lenient, value, interval, bar.verdict))
    return table(("comparison", "bar", "bar with 15 %", "measured", "95 % interval", "verdict"), rows)


def environment_lines(environment: dict[str, Any], rounds: int, quietness: Quietness) -> str:
    """Hardware, code, rounds, and whether the machine was quiet."""
    versions = environment["versions"]
    commit = f"{environment['commit']}{' with changes' if environment['dirty'] else ''}" if environment["commit"] else "unknown commit"
    return (
        f"{environment['hardware']}, {environment['threads']} thread(s), {environment['device']}; commit {commit}, "
        f"torch {versions['torch']}, Python {versions['python']}; {rounds} rounds.\n{quietness}\n"
    )


def layer_markdown(
    plan: Plan, rates: Rates, comparisons: Sequence[Comparison], bars: Sequence[Bar], environment: dict[str, Any], quietness: Quietness
) -> str:
    """The whole report of the layer benchmark."""
    training = "parameters and input" if plan.through_input else "parameters, as in a first layer"
    parts = [
        "# KAN layers against the MLP\n",
        environment_lines(environment, plan.rounds, quietness),
        f"{plan.dtype}; contenders interleaved (A/B/B/A) in one process. Ratios are medians, over rounds, of the ratio to the MLP within a "
        f"round, with the 95 % bootstrap interval; ms are medians. The force-training step differentiates its loss by {training}. Our "
        "layers include their weights' gain and input scale. Rows marked *own reference* time the named package's algorithm in our own "
        "code, not the package. Memory is that of one force-training step beyond weights and inputs, "
        + ("resident set, a fresh process each.\n" if plan.device == "cpu" else "as the CUDA allocator counts it.\n"),
    ]
    if bars:
        parts += ["## Bars\n", bars_table(bars)]
    for comparison in comparisons:
        parts += [
            f"## {comparison.shape}\n",
            _ratio_table(plan, comparison),
            "Least time (roofline):\n",
            _roofline_table(plan, comparison, rates),
        ]
        missing: dict[str, list[str]] = {}
        for name, reason in comparison.missing.items():
            missing.setdefault(reason, []).append(name)
        parts += [f"Not measured: {', '.join(names)}: {reason}\n" for reason, names in missing.items()]
    parts += [
        "## Roofline\n",
        f"This machine, at its best before and after: matrix products {rates.flops / 1e9:.1f} GFLOP/s, triad "
        f"{rates.bandwidth / 1e9:.1f} GB/s. A matrix product of a "
        "layer with C functions of each input takes 2 N a b C FLOPs: C = K + 1 if all functions are evaluated, P + 1 if only the P that "
        "are not zero at a point are (B-splines: order + 1), 1 for the MLP. Forward is 1 product, forward + input gradient 2, the "
        "training step 7 (MLP 6), or 5 for both in a first layer whose input needs no gradient. Each product reads its operands and "
        "writes its result once; the basis is never stored and element-wise work is free. The least time is, product by product, the "
        "larger of FLOPs and bytes over their rates; *reached* is the least time over the measured one.\n",
    ]
    return "\n".join(parts)


def layer_json(
    plan: Plan, rates: Rates, comparisons: Sequence[Comparison], bars: Sequence[Bar], environment: dict[str, Any], quietness: Quietness
) -> dict[str, Any]:
    """The same as plain data, with the seconds of every round."""
    return {
        "environment": environment,
        "quiet": quietness.quiet,
        "machine": asdict(quietness),
        "rates": asdict(rates),
        "plan": asdict(plan),
        "bars": [bar.to_dict() for bar in bars],
        "shapes": {
            str(comparison.shape): {
                "results": [
                    result.to_dict() | {"least": _least(plan, comparison, result, rates)} for result in comparison.results.values()
                ],
                "seconds": {
                    name: {key: values.tolist() for key, values in timed.items()} for name, timed in comparison.seconds.items()
                },
                "missing": comparison.missing,
            }
            for comparison in comparisons
        },
    }  # fmt: skip


def step_markdown(plan: StepPlan, part: dict[str, Any], bars: Sequence[Bar], environment: dict[str, Any], quietness: Quietness) -> str:
    """The report of one model's steps; ``part`` holds ``kan`` and ``trainer`` as far as they were measured."""
    md = "; an MD step is energy and forces of one structure in evaluation mode, parameters frozen, neighbour list given"
    md = md if "md" in plan.what else ""
    structures = "71 atoms of Ag (toy set)" if plan.dataset == TOY else f"Structures of dataset={plan.dataset}"
    parts = [
        f"# Steps of {plan.model}, size {plan.size}\n",
        environment_lines(environment, plan.rounds, quietness),
        f"{structures}, float32, KAN backend {plan.backend}; contenders interleaved in one process, ratios within rounds with "
        f"95 % bootstrap intervals, ms a structure. A training step is loss, backward, clipping, optimiser and averaging on {plan.frames} "
        f"structures in the trainer's batches{md}.\n",
    ]
    if bars:
        parts += ["## Bars\n", bars_table(bars)]
    results: dict[str, StepResult] = part.get("kan", {})
    if results:
        parts += ["## KANs against the MLPs\n", _step_table(plan, results)]
    if "trainer" in part:
        rows = [(name, str(ratio), _ms(ratio.seconds)) for name, ratio in part["trainer"].items()]
        parts += ["## Our trainer against the upstream loop, same model and batches\n", table(("loop", "ratio", "ms a structure"), rows)]
    return "\n".join(parts)


def step_json(
    plan: StepPlan, part: dict[str, Any], bars: Sequence[Bar], environment: dict[str, Any], quietness: Quietness
) -> dict[str, Any]:
    """The same as plain data."""
    plain: dict[str, Any] = {
        "environment": environment,
        "quiet": quietness.quiet,
        "machine": asdict(quietness),
        "plan": asdict(plan),
        "bars": [bar.to_dict() for bar in bars],
    }
    if "kan" in part:
        plain["kan"] = {name: result.to_dict() for name, result in part["kan"].items()}
    if "trainer" in part:
        plain["trainer"] = {name: vars(ratio) for name, ratio in part["trainer"].items()}
    return plain


def write(folder: Path, name: str, markdown: str, plain: dict[str, Any]) -> list[Path]:
    """Write ``name``.md and ``name``.json into ``folder``, which is made if need be."""
    paths = [folder / f"{name}.md", folder / f"{name}.json"]
    write_text(paths[0], markdown)
    write_text(paths[1], json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    return paths


def _ratio_table(plan: Plan, comparison: Comparison) -> str:
    header = ["layer", "widths", "parameters"]
    header += [cell for name in plan.passes for cell in (f"{PASSES[name]}: ratio", "ms")]
    header += ["peak memory, MiB", "of the MLP's"] if plan.memory else []
    mlp = next(iter(comparison.results.values()))
    rows = []
    for result in comparison.results.values():
        row = [_label(result), "→".join(map(str, result.contender.widths)), f"{result.parameters:,}"]
        row += [cell for name in plan.passes for cell in (str(result.ratios[name]), _ms(result.ratios[name].seconds))]
        if plan.memory:
            known = result.peak_mib is not None and mlp.peak_mib
            row += (
                [f"{result.peak_mib:.1f}", f"{result.peak_mib / mlp.peak_mib:.2f}"]
                if known and result.peak_mib and mlp.peak_mib
                else ["–"] * 2
            )
        rows.append(row)
    return table(header, rows)


def _roofline_table(plan: Plan, comparison: Comparison, rates: Rates) -> str:
    header = ["layer", "widths", *(cell for name in plan.passes for cell in (f"{PASSES[name]}: MFLOP", "MB", "least ms", "reached"))]
    rows = []
    for result in comparison.results.values():
        row = [_label(result), "→".join(map(str, result.contender.widths))]
        for name, work in least_work(plan, comparison.shape, result.contender, rates).items():
            reached = work.seconds / result.ratios[name].seconds
            row += [f"{work.flops / 1e6:,.0f}", f"{work.bytes / 1e6:,.1f}", _ms(work.seconds), f"{100 * reached:.0f} %"]
        rows.append(row)
    return table(header, rows)


def _step_table(plan: StepPlan, results: dict[str, StepResult]) -> str:
    header = ["model", "KANs", "parameters replaced → KANs", "parameters in all"]
    header += [cell for what in plan.what for cell in (f"{WHAT[what]}: ratio", "ms")]
    rows = []
    for name, result in results.items():
        before, after = result.head_parameters
        row = [name, ", ".join("→".join(map(str, widths)) for widths in result.widths) or "–"]
        row += [f"{before:,} → {after:,}" if after else "–", f"{result.parameters:,}"]
        row += [cell for what in plan.what for cell in (str(result.ratios[what]), _ms(result.ratios[what].seconds))]
        rows.append(row)
    return table(header, rows)


def _label(result: Result) -> str:
    contender = result.contender
    return _LABELS.get(contender.kind, f"{contender.basis}, {contender.backend}")


def _least(plan: Plan, comparison: Comparison, result: Result, rates: Rates) -> dict[str, Any]:
    """Work, least seconds and the share reached, by pass."""
    works = least_work(plan, comparison.shape, result.contender, rates)
    return {name: asdict(work) | {"reached": work.seconds / result.ratios[name].seconds} for name, work in works.items()}


def _ms(seconds: float) -> str:
    """Milliseconds to three digits."""
    return f"{1e3 * seconds:.0f}" if seconds >= 0.1 else f"{1e3 * seconds:.3g}"
