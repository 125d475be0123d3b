"""A table as data: rows of cells made from records, before any formatting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from kanmlip.report.grouping import Selection, reason_missing, select
from kanmlip.report.matching import Match
from kanmlip.report.paired import Difference, Ratio, Spread, paired_difference, paired_ratio, spread
from kanmlip.report.records import Evidence, Record
from kanmlip.report.study import Column, Family, Study, TableSpec


@dataclass(frozen=True)
class Cell:
    """One quantity of one row.

    Attributes:
        column: What it is.
        values: Ours by seed, in the column's unit.
        missing: Why there is none of ours; None where there is.
        printed: The paper's text by the paper's seed (None where the paper names no seed).
    """

    column: Column
    values: Mapping[int, float]
    missing: str | None
    printed: Mapping[int | None, str]

    @property
    def ours(self) -> Spread | None:
        """Mean and standard deviation over our seeds."""
        return spread(list(self.values.values()))

    @property
    def paper(self) -> Spread | None:
        """The paper's value, or mean and standard deviation of the values it prints by seed."""
        return spread(list(self.paper_values.values()))

    @property
    def paper_values(self) -> dict[int | None, float]:
        """The paper's numbers by seed."""
        return {seed: self.column.parse(text) for seed, text in self.printed.items()}


def file_stem(key: str) -> str:
    """Of the files of a table, by the table's key in the study."""
    return f"table{key}" if key.isdigit() else key


@dataclass
class Row:
    """One line of a table; ``marks`` are the letters of the notes that concern it.

    ``kind`` is ``average`` (one row for all seeds), ``seed`` (one run), ``summary`` (mean of the ``seed`` rows above it),
    ``literature``, ``simple`` (a prediction without a network; its record is the run that measured it, ``simple`` its name), or
    ``benchmark`` (measured by kanmlip-bench; it has no records). ``baseline`` is the MLP row that a KAN's is compared with;
    ``extra`` says that the row is ours and the paper has none like it, ``control`` that it is moreover a head to hold KANs against.
    ``interleaved`` has ratios to the MLP, by column, that a benchmark measured in turns, which say more than a ratio of two medians.
    """

    number: int
    label: str
    kind: Literal["average", "seed", "summary", "literature", "simple", "benchmark"]
    match: Match | None
    selection: Selection | None
    records: tuple[Record, ...]
    cells: tuple[Cell, ...]
    baseline: Row | None = None
    marks: list[str] = field(default_factory=list)
    simple: str | None = None
    control: bool = False
    extra: bool = False
    interleaved: dict[str, float] = field(default_factory=dict)

    @property
    def averages(self) -> bool:
        """Whether the row stands for all seeds of its runs."""
        return self.kind in {"average", "summary"}

    @property
    def is_measured(self) -> bool:
        """Whether a benchmark has given it a value."""
        return self.kind == "benchmark" and any(cell.values for cell in self.cells)

    @property
    def seed(self) -> int | None:
        """The one seed of a ``seed`` row."""
        return self.match.seed if self.match is not None else None

    def cell(self, key: str) -> Cell:
        """The cell of a column, by the column's key."""
        return next(cell for cell in self.cells if cell.column.key == key)

    def ratio(self, key: str) -> Ratio | None:
        """Ours over the MLP row's: as measured in turns, else paired by seed where a seed is common."""
        if key in self.interleaved:
            return Ratio(self.interleaved[key], 1, paired=True)
        return paired_ratio(self.cell(key).values, self.baseline.cell(key).values) if self.baseline else None

    def paper_ratio(self, key: str) -> Ratio | None:
        """The paper's value over its MLP row's, paired likewise."""
        return paired_ratio(self.cell(key).paper_values, self.baseline.cell(key).paper_values) if self.baseline else None

    def difference(self, key: str) -> Difference | None:
        """Ours minus the MLP row's over common seeds."""
        return paired_difference(self.cell(key).values, self.baseline.cell(key).values) if self.baseline else None


@dataclass(frozen=True)
class Note:
    """A remark under the table: a lettered one concerns the rows that carry its letter."""

    text: str
    letter: str | None = None
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """A finished table: ``facts`` are provenance lines (name, text), ``differences`` the lines KAN − MLP."""

    key: str
    spec: TableSpec
    budget: str
    citation: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[Note, ...]
    facts: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """File stem."""
        return file_stem(self.key)

    @property
    def title(self) -> str:
        """Heading."""
        return f"Table {self.key}. {self.spec.title}" if self.key.isdigit() else self.spec.title

    @property
    def records(self) -> dict[str, Record]:
        """Every record the table rests on, by run id."""
        return {record.run_id: record for row in self.rows for record in row.records}

    @property
    def filled(self) -> tuple[int, int]:
        """How many of the rows that ask for runs have one, and how many there are (summaries not counted)."""
        wanted = [row for row in self.rows if row.kind in {"average", "seed", "benchmark"}]
        return sum(bool(row.records) or row.is_measured for row in wanted), len(wanted)


def build_rows(study: Study, key: str, evidence: Evidence, budget: str) -> tuple[Row, ...]:
    """Make a table's rows from the records of one budget, each with its MLP row where the table has one.

    Args:
        study: All tables.
        key: The table's key.
        evidence: All records.
        budget: The one budget whose records count.
    """
    spec, columns = study.tables[key], study.columns(key)
    families = {
        section.match: _family_rows(
            section, select(evidence, section.match, spec.dataset, budget, spec.where, spec.stand_ins), columns, evidence.runs_known
        )
        for section in spec.sections()
        if isinstance(section, Family)
    }
    used = {record.run_id: record for members in families.values() for row in members for record in row.records}
    rows: list[Row] = []
    for section in spec.sections():
        if isinstance(section, Family):
            rows.extend(families[section.match])
        elif section.baseline is not None:
            rows.append(_simple_row(section.label, section.baseline, columns, list(used.values())))
        else:
            cells = tuple(Cell(column, {}, None, _printed(column, {None: section.printed})) for column in columns)
            rows.append(Row(0, section.label, "literature", None, None, (), cells))
    for number, row in enumerate(rows, start=1):
        row.number = number
        row.baseline = _find_baseline(row, rows)
    return tuple(rows)


def simple_metric(name: str, metric: str) -> str:
    """Where a record keeps what a prediction without a network scores on a metric of models."""
    return f"baseline/{name}/{metric}"


def _simple_row(label: str, name: str, columns: Sequence[Column], used: Sequence[Record]) -> Row:
    """The first run that recorded this prediction stands for all: on the same data they must agree (notes say where they do not)."""
    source = next((record for record in used if any(key.startswith(simple_metric(name, "")) for key in record.metrics)), None)
    cells = []
    for column in columns:
        value = source.value(simple_metric(name, column.metric)) if source else None
        values = {source.labels.seed: value * column.scale} if source and value is not None else {}
        cells.append(Cell(column, values, None if source else "not recorded", {}))
    return Row(0, label, "simple", None, None, (source,) if source else (), tuple(cells), simple=name)


def _family_rows(family: Family, selection: Selection, columns: Sequence[Column], runs_known: bool) -> list[Row]:
    found = selection.chosen.by_seed if selection.chosen else {}

    def make(kind: Literal["average", "seed", "summary"], seed: int | None) -> Row:
        records = tuple(found.values()) if kind != "seed" else tuple(record for name, record in found.items() if name == seed)
        printed = {seed: family.printed[seed]} if kind == "seed" and seed in family.printed else {}
        reason = reason_missing(selection, seed, runs_known)
        cells = tuple(_cell(column, records, family.printed if kind != "seed" else printed, reason) for column in columns)
        match = family.match.model_copy(update={"seed": seed})
        return Row(0, family.label, kind, match, selection, records, cells, control=family.control)

    if not family.by_seed:
        return [make("average", None)]
    seeds = sorted({*(seed for seed in family.printed if seed is not None), *found})
    return [*(make("seed", seed) for seed in seeds), make("summary", None)]


def _cell(column: Column, records: tuple[Record, ...], printed: Mapping[int | None, Mapping[str, str]], reason: str) -> Cell:
    values = {}
    for record in records:
        value = record.value(column.metric)
        if value is not None:
            values[record.labels.seed] = value * column.scale
    missing = None if values else _why_metric_is_missing(column.metric, records) if records else reason
    return Cell(column, values, missing, _printed(column, printed))


def _printed(column: Column, printed: Mapping[int | None, Mapping[str, str]]) -> dict[int | None, str]:
    return {seed: values[column.key] for seed, values in printed.items() if column.key in values}


def _why_metric_is_missing(metric: str, records: tuple[Record, ...]) -> str:
    spoilt = [reason for record in records if (reason := record.spoilt_by(metric)) is not None]
    if spoilt:
        return "; ".join(sorted(set(spoilt)))
    if any(metric in record.metrics for record in records):
        return "not finite"
    split = metric.partition("/")[0]
    if split in {"train", "val", "test"} and not any(name.startswith(f"{split}/") for record in records for name in record.metrics):
        sizes = [getattr(record.data, f"n_{split}") for record in records]
        return f"no {split} split" if not any(sizes) else f"{split} split not evaluated"
    return "not recorded"


def _find_baseline(row: Row, rows: list[Row]) -> Row | None:
    """The MLP row of the same model: for one seed the same seed's, else the one that averages."""
    if row.match is None or row.match.placement == "none":
        return None
    for other in rows:
        if other.match is not None and other.match.placement == "none" and other.match.model == row.match.model:
            if row.kind == "seed" and (other.kind, other.seed) == ("seed", row.seed):
                return other
            if row.averages and other.averages:
                return other
    return None
