"""How large an effect is: two rows of runs compared by seed and structure, and what benchmarks measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from kanmlip.report.benchmark_effects import cited, dynamics_effect, elsewhere, noise, step_effect, unmeasured
from kanmlip.report.bootstrap import Array, draw_log_ratios, draw_means, draw_normal, interval
from kanmlip.report.claims import Part
from kanmlip.report.courses import read_courses
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
    first, second = compared.runs[0], compared.runs[-1]
    if first.environment.dataset_sha256 != second.environment.dataset_sha256:
        compared.obstacles.append(f"the rows are of different data ({first.data.label}; {second.data.label})")
    if first.science_version != second.science_version:
        compared.obstacles.append(f"the rows are of different versions of the models ({first.science_version}, {second.science_version})")
    if any(record.out_of_time for record in (*ours, *theirs)):
        compared.obstacles.append("runs were ended by trainer.max_minutes, after as many updates as their machines made")
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


def _drawn_in_common(here: _Compared, there: _Compared) -> bool:
    """Whether the same seeds were measured on the same structures, so that one stream of random numbers draws both alike."""
    if here.seeds != there.seeds or here.runs[0].environment.dataset_sha256 != there.runs[0].environment.dataset_sha256:
        return False
    try:
        structure_sums(here.metric, [here.ours, here.theirs, there.ours, there.theirs])
    except IncomparableError:
        return False
    return True


def _gain(part: Part, sources: Sources) -> Effect:
    """(1 − ratio) here minus (1 − ratio) there; drawn in common where seeds and structures are the same, else independently."""
    here, there = (_compare(part, sources, table) for table in (part.table, part.against or part.table))
    first, second = _log_ratio(here, 0), _log_ratio(there, 0 if _drawn_in_common(here, there) else 1)
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


def _until_error(part: Part, sources: Sources) -> Effect:
    compared = _compare(part, sources, part.table)
    courses = read_courses(compared.ours, compared.theirs)
    ours, theirs = courses.updates
    mean, draws, obstacles, files = float(np.log(ours / theirs).mean()), courses.draws(), list(compared.obstacles), []
    what = f"updates until {courses.monitor} is at most {courses.target:.4g}, which every compared run reaches"
    remarks = [f"in the table by seed: {what}; over seeds alone"]
    if part.kind == "time":
        size = str(compared.ours[0].config.get("budget", {}).get("size", sources.budget))
        cost = step_cost(sources.benchmarks, part.of, size)
        if cost is None:
            obstacles.append(f"{unmeasured(part.of, size)}, so that this is updates alone")
        else:
            mean += math.log(cost.ratio)
            draws = draws + draw_normal(math.log(cost.ratio), math.log(cost.low), math.log(cost.high), 1)
            obstacles += [*noise(cost), *elsewhere(cost.device)]
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
