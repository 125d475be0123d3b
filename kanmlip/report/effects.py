"""How large an effect is: two rows of runs compared by seed and structure, and what benchmarks measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kanmlip.evaluation.structure_errors import unpack
from kanmlip.report.benchmark_effects import cited, dynamics_effect, noise, step_effect, unmeasured
from kanmlip.report.bootstrap import Array, draw_log_ratios, draw_means, draw_normal, interval
from kanmlip.report.claims import Part
from kanmlip.report.effect import Effect, SeedLine, Sources
from kanmlip.report.grouping import differing_keys, reason_missing, select
from kanmlip.report.notes import shared_settings
from kanmlip.report.paired import paired_ratio
from kanmlip.report.records import Record
from kanmlip.report.step_benchmark import step_cost
from kanmlip.report.structures import IncomparableError, structure_sums
from kanmlip.report.study import Study


@dataclass
class _Compared:
    """Two rows of one table over their common seeds."""

    table: str
    ours: list[Record]
    theirs: list[Record]
    metric: str
    scale: float
    obstacles: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        return [record.labels.seed for record in self.ours]

    @property
    def runs(self) -> tuple[Record, ...]:
        return (*self.ours, *self.theirs)

    def lines(self, ours: Iterable[float], theirs: Iterable[float]) -> tuple[SeedLine, ...]:
        values = zip(self.seeds, ours, theirs, strict=True)
        return tuple(SeedLine(self.table, seed, float(first), float(second)) for seed, first, second in values)


@dataclass(frozen=True)
class _LogRatio:
    """Mean over seeds of ln(ours / theirs), its bootstrap draws, and how many structures were drawn (0: seeds alone)."""

    mean: float
    draws: Array
    structures: int
    lines: tuple[SeedLine, ...]


def measure(part: Part, sources: Sources) -> Effect:
    """The effect of one part of a claim; one that cannot be had says why in its obstacles."""
    ways = {"error": _error, "gain": _gain, "step": step_effect, "updates": _until_error, "time": _until_error}
    try:
        return ways.get(part.kind, dynamics_effect)(part, sources)
    except IncomparableError as reason:
        return Effect(obstacles=(str(reason),))


def paper_effect(part: Part, study: Study) -> float | None:
    """The same effect by the paper's printed values; None where it prints none."""
    if part.kind == "updates" or not part.column or part.table not in study.tables:
        return None

    def ratio(table: str) -> float | None:
        column = next(column for column in study.columns(table) if column.key == part.column)
        values: list[dict[int | None, float]] = []
        for match in (part.of, part.over):
            rows = [row for row in study.tables[table].rows if row.match is not None]
            texts = {row.match.seed: row.printed.get(part.column) for row in rows if row.match and _same_kind(row.match, match)}
            values.append({seed: column.parse(text) for seed, text in texts.items() if text is not None})
        if part.kind == "md_memory":
            return None if not all(values) else values[0][None] - values[1][None]
        found = paired_ratio(*values)
        return found.value if found else None

    here = ratio(part.table)
    if part.against is None:
        return here
    there = ratio(part.against)
    return None if here is None or there is None else there - here


def _same_kind(first: object, second: object) -> bool:
    keys = ("model", "placement", "basis")
    return all(getattr(first, key) == getattr(second, key) for key in keys)


def _compare(part: Part, sources: Sources, table: str) -> _Compared:
    """The runs of a part's two rows in one table."""
    spec = sources.study.tables[table]
    chosen = []
    for match in (part.of, part.over):
        selection = select(sources.evidence, match, spec.dataset, sources.budget, spec.where, spec.stand_ins)
        if selection.chosen is None:
            reason = reason_missing(selection, None, sources.evidence.runs_known)
            raise IncomparableError(f"{reason} of {match.model} ({match.placement}, {match.basis or 'MLP'}) on {spec.dataset}")
        chosen.append(selection.chosen.by_seed)
    common = [seed for seed in chosen[0] if seed in chosen[1]]
    if not common:
        raise IncomparableError(f"the two rows have no seed in common on {spec.dataset}")
    column = next((column for column in sources.study.columns(table) if column.key == part.column), None)
    ours, theirs = ([rows[seed] for seed in common] for rows in chosen)
    compared = _Compared(table, ours, theirs, column.metric if column else "", column.scale if column else 1.0)
    keys = differing_keys(shared_settings(ours[0]), shared_settings(theirs[0]))
    if keys:
        compared.obstacles.append(f"the rows differ in settings besides the head ({', '.join(keys[:4])})")
    if any(record.environment.dirty for record in (*ours, *theirs)):
        compared.obstacles.append("runs were made with uncommitted changes")
    return compared


def _log_ratio(compared: _Compared, stream: int) -> _LogRatio:
    values = []
    for records in (compared.ours, compared.theirs):
        found = [record.value(compared.metric) for record in records]
        if any(value is None or value <= 0 for value in found):
            raise IncomparableError(f"{compared.metric} is not recorded, or not positive, in every run")
        values.append(np.array([value * compared.scale for value in found if value is not None]))
    logs, lines = np.log(values[0] / values[1]), compared.lines(values[0], values[1])
    try:
        sums = structure_sums(compared.metric, [compared.ours, compared.theirs])
    except IncomparableError as reason:
        compared.remarks.append(f"interval over seeds alone: {reason}")
        return _LogRatio(float(logs.mean()), draw_means(logs, stream), 0, lines)
    return _LogRatio(float(logs.mean()), draw_log_ratios(sums[0], sums[1], stream), sums[0].numerator.shape[1], lines)


def _error(part: Part, sources: Sources) -> Effect:
    compared = _compare(part, sources, part.table)
    found = _log_ratio(compared, 0)
    return Effect(
        value=math.exp(found.mean),
        interval=_exponential(interval(found.draws, len(compared.seeds))),
        seeds=(len(compared.seeds),),
        structures=(found.structures,),
        lines=found.lines,
        runs=compared.runs,
        obstacles=tuple(compared.obstacles),
        remarks=tuple(compared.remarks),
    )


def _gain(part: Part, sources: Sources) -> Effect:
    """(1 − ratio) here minus (1 − ratio) there; different data, so that the two are drawn independently."""
    here, there = (_compare(part, sources, table) for table in (part.table, part.against or part.table))
    first, second = _log_ratio(here, 0), _log_ratio(there, 1)
    return Effect(
        value=math.exp(second.mean) - math.exp(first.mean),
        interval=interval(np.exp(second.draws) - np.exp(first.draws), min(len(here.seeds), len(there.seeds))),
        seeds=(len(here.seeds), len(there.seeds)),
        structures=(first.structures, second.structures),
        lines=(*first.lines, *second.lines),
        runs=(*here.runs, *there.runs),
        obstacles=tuple(dict.fromkeys((*here.obstacles, *there.obstacles))),
        remarks=tuple(dict.fromkeys((*here.remarks, *there.remarks))),
    )


def updates_to_error(rows: Sequence[Sequence[Record]]) -> tuple[float, list[list[float]]]:
    """The monitored validation error that every run reaches, and the updates each run needed.

    Raises:
        IncomparableError: If the runs monitored different errors, or do not keep their course.
    """
    monitors = {record.config.get("trainer", {}).get("monitor") for records in rows for record in records}
    if len(monitors) != 1 or (monitor := monitors.pop()) is None:
        raise IncomparableError("the runs did not monitor the same error")
    courses = []
    for records in rows:
        for record in records:
            history = record.history or {}
            if monitor not in history or "updates" not in history:
                raise IncomparableError("older records do not keep the course of validation")
            courses.append((unpack(history["updates"]), unpack(history[monitor])))
    target = max(float(np.nanmin(error)) for _, error in courses)
    needed = iter([float(updates[np.flatnonzero(error <= target)[0]]) for updates, error in courses])
    return target, [[next(needed) for _ in records] for records in rows]


def _until_error(part: Part, sources: Sources) -> Effect:
    compared = _compare(part, sources, part.table)
    target, (ours, theirs) = updates_to_error([compared.ours, compared.theirs])
    logs = np.log(np.array(ours) / np.array(theirs))
    mean, draws, obstacles, files = float(logs.mean()), draw_means(logs, 0), list(compared.obstacles), []
    monitor = compared.ours[0].config["trainer"]["monitor"]
    remarks = [f"in the table by seed: updates until {monitor} is at most {target:.4g}, which every compared run reaches; over seeds alone"]
    if part.kind == "time":
        size = str(compared.ours[0].config.get("budget", {}).get("size", sources.budget))
        cost = step_cost(sources.benchmarks, part.of, size)
        if cost is None:
            obstacles.append(f"{unmeasured(part.of, size)}, so that this is updates alone")
        else:
            mean += math.log(cost.ratio)
            draws = draws + draw_normal(math.log(cost.ratio), math.log(cost.low), math.log(cost.high), 1)
            obstacles += noise(cost)
            remarks.append(f"a training step costs {cost.ratio:.3f} [{cost.low:.3f}, {cost.high:.3f}] times the MLP's by {cited(cost)}")
            files.append(cost.file)
    return Effect(
        value=math.exp(mean),
        interval=_exponential(interval(draws, len(compared.seeds))),
        seeds=(len(compared.seeds),),
        structures=(0,),
        lines=compared.lines(ours, theirs),
        runs=compared.runs,
        obstacles=tuple(obstacles),
        remarks=tuple(remarks),
        sources=tuple(files),
    )


def _exponential(bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (math.exp(bounds[0]), math.exp(bounds[1]))
