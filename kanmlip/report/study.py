"""The typed form of conf/reproduction.yaml: which runs make which table, and what the paper prints there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from kanmlip.errors import ConfigError, describe_choice
from kanmlip.report.claims import Claim
from kanmlip.report.duration import parse_duration
from kanmlip.report.matching import Match
from kanmlip.schema import Schema
from kanmlip.yaml_file import read_yaml


class Column(Schema):
    """One quantity of a table.

    Attributes:
        key: Short name by which rows give the paper's value.
        metric: Metric key in the run records.
        heading: Printed heading, without the unit.
        unit: Unit after multiplying by ``scale``.
        scale: Factor from the record's unit to ``unit``.
        decimals: Decimals of our value.
        kind: ``duration`` prints seconds as "4h 51m".
        printed_unit: The unit the paper prints; null where the paper has no such column.
        compare: Whether a ratio and a difference to the MLP row mean anything.
    """

    key: str
    metric: str
    heading: str
    unit: str = ""
    scale: float = Field(1.0, gt=0)
    decimals: int = Field(3, ge=0, le=8)
    kind: Literal["number", "duration"] = "number"
    printed_unit: str | None = None
    compare: bool = True

    def parse(self, text: str) -> float:
        """The number behind a printed text, in ``unit`` (seconds for a duration)."""
        return float(parse_duration(text)) if self.kind == "duration" else float(text)


class PrintedRow(Schema):
    """One row: runs (``match``), a constant from the literature (``literature`` names its source), or what the runs of the other
    rows recorded of a prediction that needs no network (``baseline``, a name of :func:`kanmlip.evaluation.baselines.baseline_metrics`).
    ``control`` marks a row of ours that the paper lacks: a head that is no KAN.
    """

    label: str
    match: Match | None = None
    literature: str | None = None
    baseline: str | None = None
    control: bool = False
    printed: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.match, self.literature, self.baseline)) != 1:
            raise ValueError(f"row '{self.label}' needs exactly one of match, literature and baseline")
        return self


@dataclass(frozen=True)
class Family:
    """The rows of one table that share model, placement and basis.

    ``printed`` is keyed by the paper's seed, or by None where it prints none.
    """

    label: str
    match: Match
    by_seed: bool
    printed: dict[int | None, dict[str, str]]
    control: bool = False


class TableSpec(Schema):
    """One table: its dataset, its columns (the name of a set), its rows and what a reader must know.

    ``where`` are settings, by dotted key, that its runs must have besides, such as one of a dataset's splits; with
    ``stand_ins``, stand-in data that know no such setting count too (the toy set under the real one's name). ``source`` is what it is
    made of: records of training runs, or the benchmark of molecular dynamics.
    """

    title: str
    dataset: str
    where: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    stand_ins: bool = False
    columns: str
    source: Literal["records", "molecular_dynamics"] = "records"
    rows: tuple[PrintedRow, ...] = Field(min_length=1)
    notes: tuple[str, ...] = ()
    by_default: bool = True

    def sections(self) -> Iterator[Family | PrintedRow]:
        """Families of runs, literature rows and baselines, in printed order."""
        families: dict[Match, Family] = {}
        order: list[Family | PrintedRow] = []
        for row in self.rows:
            if row.match is None:
                order.append(row)
                continue
            kind = row.match.model_copy(update={"seed": None})
            if kind not in families:
                families[kind] = Family(row.label, kind, row.match.seed is not None, {}, row.control)
                order.append(families[kind])
            families[kind].printed[row.match.seed] = row.printed
        yield from order

    @model_validator(mode="after")
    def _rows_are_distinct(self) -> Self:
        matches = [row.match for row in self.rows if row.match is not None]
        if len(set(matches)) != len(matches):
            raise ValueError("two rows match the same runs")
        for family in self.sections():
            if isinstance(family, Family) and None in family.printed and len(family.printed) > 1:
                raise ValueError(f"row '{family.label}' is given both with and without a seed")
        return self


class Figure(Schema):
    """One of the paper's bar charts: errors of a table, a panel a column."""

    table: str
    columns: tuple[str, ...] = Field(min_length=1)


class Control(Schema):
    """Which KAN row of a table its control rows are held against, and by which columns."""

    table: str
    columns: tuple[str, ...] = Field(min_length=1)
    of: Match


class Study(Schema):
    """All of the reproduction: tables by the paper's number, figures, claims, controls and the tables of a learning curve, in order."""

    citation: str
    runs: object = None  # read by kanmlip.reproduction.spec
    column_sets: dict[str, tuple[Column, ...]]
    tables: dict[str, TableSpec]
    figures: dict[str, Figure] = Field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    controls: tuple[Control, ...] = ()
    learning_curve: tuple[str, ...] = ()

    @field_validator("column_sets")
    @classmethod
    def _keys_are_unique(cls, sets: dict[str, tuple[Column, ...]]) -> dict[str, tuple[Column, ...]]:
        for name, columns in sets.items():
            keys = [column.key for column in columns]
            if len(set(keys)) != len(keys):
                raise ValueError(f"column set '{name}' repeats a key: {', '.join(keys)}")
        return sets

    @model_validator(mode="after")
    def _printed_values_fit_columns(self) -> Self:
        for key, table in self.tables.items():
            if table.columns not in self.column_sets:
                raise ValueError(describe_choice(f"tables.{key}.columns", table.columns, self.column_sets))
            expected = {column.key: column for column in self.columns(key) if column.printed_unit is not None}
            for row in table.rows:
                if row.printed and set(row.printed) != set(expected):
                    raise ValueError(f"tables.{key} row '{row.label}' prints {sorted(row.printed)}, its columns are {sorted(expected)}")
                for name, text in row.printed.items():
                    expected[name].parse(text)
        return self

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        for name, table, columns in self._references():
            if table not in self.tables:
                raise ValueError(describe_choice(f"{name} table", table, self.tables))
            keys = [column.key for column in self.columns(table)]
            for column in columns:
                if column not in keys:
                    raise ValueError(describe_choice(f"{name} column", column, keys))
        return self

    def _references(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Where a table and columns of it are named: (key of the place, table, columns)."""
        for claim in self.claims:
            for part in claim.parts:
                for table in dict.fromkeys((part.table, part.against or part.table)):
                    yield f"claims.{claim.key} part '{part.label}'", table, (part.column,) if part.column else ()
        for number, figure in self.figures.items():
            yield f"figures.{number}", figure.table, figure.columns
        for control in self.controls:
            yield "controls", control.table, control.columns
        for table in self.learning_curve:
            yield "learning_curve", table, ()

    def columns(self, table: str) -> tuple[Column, ...]:
        """The columns of a table, in printed order."""
        return self.column_sets[self.tables[table].columns]


def default_study_path() -> Path:
    """Where reproduction.yaml lies: in the package (a wheel) or in the checkout's conf folder."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "conf" / "reproduction.yaml"
    return packaged if packaged.is_file() else package.parent / "conf" / "reproduction.yaml"


def load_study(path: Path | None = None) -> Study:
    """Read and validate the study.

    Args:
        path: A file of the form of conf/reproduction.yaml, which is the default.

    Raises:
        ConfigError: If the file is missing, is no YAML, or does not fit the schema; names the file and the dotted keys.
    """
    path = path or default_study_path()
    content = read_yaml(path, "correct it, or give another with --reproduction FILE")
    try:
        return Study.model_validate(content)
    except ValidationError as error:
        faults = [f"  {'.'.join(map(str, fault['loc'])) or '(top)'}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("\n".join([f"{path} does not describe tables:", *faults])) from error
