"""Which records make a row: never an average over different settings, never a silent choice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kanmlip.report.matching import Match
from kanmlip.report.records import Evidence, Labels, Record, Unfinished


@dataclass(frozen=True)
class Group:
    """Runs of the same science config and data that differ in their seed alone."""

    key: str
    by_seed: dict[int, Record]
    repeats: tuple[Record, ...]

    @property
    def latest(self) -> str:
        """When the last of the runs finished, ISO 8601; empty where unknown."""
        return max((record.environment.finished or "" for record in self.by_seed.values()), default="")

    @property
    def run_ids(self) -> list[str]:
        """Ids of the runs that count, by seed."""
        return [self.by_seed[seed].run_id for seed in sorted(self.by_seed)]


@dataclass(frozen=True)
class Selection:
    """What a row is made of: the chosen group, those set aside, and the runs that did not finish.

    ``elsewhere`` names other budgets that have finished runs of the row, which this budget's table does not take.
    """

    chosen: Group | None
    others: tuple[Group, ...]
    unfinished: tuple[Unfinished, ...]
    elsewhere: tuple[str, ...] = ()


def select(
    evidence: Evidence, match: Match, dataset: str, budget: str, where: Mapping[str, Any] | None = None, stand_ins: bool = False
) -> Selection:
    """Find the runs of a row; of several groups take the one with most seeds, and of equals the one finished last.

    Args:
        evidence: All records.
        match: Model, placement and basis; the seed is not looked at.
        dataset: The table's dataset.
        budget: The table's budget.
        where: Dotted key → value that the settings of finished and unfinished runs must have.
        stand_ins: Take finished runs on stand-in data too where they lack such a setting altogether.
    """

    def fits(run: Record | Unfinished) -> bool:
        lenient = stand_ins and isinstance(run, Record) and run.data.stand_in
        return _fits(run.labels, match, dataset) and _has(run.config, where or {}, lenient)

    everywhere = [record for record in evidence.records if fits(record)]
    fitting = [record for record in everywhere if record.labels.budget == budget]
    groups = sorted(group_by_settings(fitting), key=lambda group: (len(group.by_seed), group.latest, group.key), reverse=True)
    unfinished = tuple(run for run in evidence.unfinished if fits(run) and run.labels.budget == budget)
    elsewhere = tuple(sorted({record.labels.budget for record in everywhere} - {budget}))
    return Selection(groups[0] if groups else None, tuple(groups[1:]), unfinished, elsewhere)


def group_by_settings(records: Iterable[Record]) -> list[Group]:
    """Group records by everything but the seed; of two runs with one seed the last finished counts, the other is a repeat."""
    buckets: dict[str, list[Record]] = {}
    for record in records:
        buckets.setdefault(settings_key(record), []).append(record)
    groups = []
    for key, members in buckets.items():
        by_seed: dict[int, Record] = {}
        repeats = []
        for record in sorted(members, key=lambda member: (member.environment.finished or "", member.run_id)):
            if record.labels.seed in by_seed:
                repeats.append(by_seed[record.labels.seed])
            by_seed[record.labels.seed] = record
        groups.append(Group(key, dict(sorted(by_seed.items())), tuple(repeats)))
    return groups


def settings_key(record: Record) -> str:
    """Ten hexadecimal digits that two records share exactly if they differ in nothing but their seed and the form of the file."""
    science = {name: value for name, value in record.config.items() if name != "seed"}
    content = json.dumps([science, record.environment.dataset_sha256, record.science_version], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; lists count as values."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name in sorted(value):
        flat.update(flatten(value[name], f"{prefix}.{name}" if prefix else str(name)))
    return flat


def differing_keys(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Dotted keys whose values differ between two nested configs, or that only one of them has."""
    left, right = flatten(first), flatten(second)
    return [key for key in sorted({*left, *right}) if (key in left, left.get(key)) != (key in right, right.get(key))]


def reason_missing(selection: Selection, seed: int | None, runs_known: bool) -> str:
    """Why a row, or its one seed, has no value: how its runs ended, else that there is none."""
    runs: Sequence[Unfinished] = [run for run in selection.unfinished if seed is None or run.labels.seed == seed]
    if runs:
        return ", ".join(sorted({describe_status(run.status) for run in runs}))
    reason = "no run" if runs_known else "no record"
    return f"{reason} (budget {', '.join(selection.elsewhere)} has)" if selection.elsewhere else reason


def describe_status(status: str) -> str:
    """A status as a table says it; only the bare ``oom`` and ``timeout`` need the word failed before them."""
    return f"failed: {status}" if status in {"oom", "timeout"} else status


def _fits(labels: Labels, match: Match, dataset: str) -> bool:
    if (labels.model, labels.placement, labels.dataset) != (match.model, match.placement, dataset):
        return False
    return match.placement == "none" or labels.basis == match.basis


def _has(config: dict[str, Any], where: Mapping[str, Any], lenient: bool) -> bool:
    flat = flatten(config) if where else {}
    return all(flat.get(key) == value or (lenient and key not in flat) for key, value in where.items())
