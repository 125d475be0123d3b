"""Sections of the report that the paper lacks: controls, the learning curve, and the updates until a fixed error."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from kanmlip.report.claims import Part
from kanmlip.report.effect import Effect, Sources
from kanmlip.report.effects import measure
from kanmlip.report.grouping import select
from kanmlip.report.markdown import pipe_table
from kanmlip.report.matching import Match
from kanmlip.report.records import Record
from kanmlip.report.study import Control
from kanmlip.report.verdicts import Finding, decide
from kanmlip.report.wording import NOTHING, effect_text, sample_text


def control_section(sources: Sources) -> str:
    """KAN over MLP and over each control, by column; below 1 the KAN is the more accurate."""
    blocks = []
    for control in sources.study.controls:
        lines = list(_control_lines(control, sources))
        if lines:
            headings = ("KAN against", "quantity", "KAN / control [95 %]", "parameters of the heads, KAN / control", "sample", "reading")
            blocks += [f"**{sources.study.tables[control.table].title}** (Table {control.table})", pipe_table(headings, lines)]
    return "\n\n".join(blocks) if blocks else "No record of this budget."


def _control_lines(control: Control, sources: Sources) -> Iterator[tuple[str, ...]]:
    spec = sources.study.tables[control.table]
    others = [row for row in spec.rows if row.match and (row.control or row.match.placement == "none")]
    columns = {column.key: column for column in sources.study.columns(control.table)}
    kans = _runs(sources, control.table, control.of)
    if not kans:
        return
    seen: set[Match] = set()
    for row in others:
        match = _family(row.match) if row.match else control.of
        if match in seen:
            continue
        seen.add(match)
        sizes = f"{_heads(kans)} / {_heads(_runs(sources, control.table, match))}"
        for key in control.columns:
            part = Part(label=row.label, kind="error", table=control.table, column=key, of=control.of, over=match, direction="lower")
            finding = _judged(part, sources)
            reading = {"supported": "KAN lower", "refuted": "KAN higher"}.get(finding.word, finding.reason)
            effect = finding.effect
            yield row.label, columns[key].heading, effect_text(part, effect), sizes, sample_text(part, effect), reading


def learning_section(sources: Sources) -> str:
    """KAN over MLP at each size of the training set."""
    lines = []
    for table in sources.study.learning_curve:
        matches = [row.match for row in sources.study.tables[table].rows if row.match]
        mlp = next(match for match in matches if match.placement == "none")
        for match in matches:
            runs = _runs(sources, table, match)
            if match.placement == "none" or not runs:
                continue
            for column in sources.study.columns(table)[:2]:
                part = Part(label="", kind="error", table=table, column=column.key, of=match, over=mlp, direction="lower")
                effect = _judged(part, sources).effect
                frames = f"{runs[0].data.n_train or '?'}"
                lines.append((frames, column.heading, effect_text(part, effect), sample_text(part, effect), _obstacles(effect)))
    if not lines:
        return "No record of this budget (`kanmlip-train -m experiment=learning_curve_none_50,…`)."
    return pipe_table(("training frames", "quantity", "KAN / MLP [95 %]", "sample", "does not compare since"), lines)


def fixed_error_section(sources: Sources) -> str:
    """Updates, and seconds as recorded, until the worst of two rows' best validation error, of each KAN row over its MLP row."""
    lines = []
    for key, spec in sources.study.tables.items():
        if spec.source != "records":
            continue
        families = dict.fromkeys(_family(row.match) for row in spec.rows if row.match)
        mlp = next((match for match in families if match.placement == "none"), None)
        for match in families:
            if mlp is None or match.placement == "none" or not _runs(sources, key, match):
                continue
            part = Part(label="", kind="updates", table=key, of=match, over=mlp, direction="lower")
            effect = measure(part, sources)
            if effect.value is None:
                continue
            ours, theirs = (fmean(values) for values in zip(*((line.ours, line.theirs) for line in effect.lines), strict=True))
            label = next(row.label for row in spec.rows if row.match and _family(row.match) == match)
            name = f"Table {key}" if key.isdigit() else spec.title
            means = f"{ours:,.0f} / {theirs:,.0f}"
            lines.append((name, label, means, effect_text(part, effect), sample_text(part, effect), _obstacles(effect)))
    if not lines:
        return "No record of this budget keeps the course of validation."
    return pipe_table(("where", "row", "updates, row / MLP (means)", "ratio [95 %]", "sample", "does not compare since"), lines)


def _obstacles(effect: Effect) -> str:
    return "; ".join(effect.obstacles) or NOTHING


def _judged(part: Part, sources: Sources) -> Finding:
    effect = measure(part, sources)
    word, reason = decide(part, effect, None, sources.budget)
    return Finding(part, effect, None, word, reason)


def _family(match: Match) -> Match:
    return match.model_copy(update={"seed": None})


def _runs(sources: Sources, table: str, match: Match) -> list[Record]:
    spec = sources.study.tables[table]
    chosen = select(sources.evidence, match, spec.dataset, sources.budget, spec.where, spec.stand_ins).chosen
    return list(chosen.by_seed.values()) if chosen else []


def _heads(runs: list[Record]) -> str:
    counts = sorted({int(value) for run in runs if (value := run.value("params/head")) is not None})
    return " or ".join(f"{count:,}" for count in counts) or NOTHING
