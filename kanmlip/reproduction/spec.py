"""The typed form of the key ``runs`` of conf/reproduction.yaml: what has to be run for which rows, and in which order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from kanmlip.errors import ConfigError, describe_choice
from kanmlip.schema import Schema
from kanmlip.yaml_file import read_yaml

Budget = Literal["smoke", "small", "gpu", "paper"]


class PresetRuns(Schema):
    """One preset, a run a seed.

    Attributes:
        preset: File of conf/experiment.
        rows: Printed rows it stands for, as ``table.row``, both as in the paper.
        beside: Table that a run of ours, without a printed row, stands beside; its data are the table's, since W&B groups by table.
        seeds: Seeds that the paper prints, trained besides those asked for; the rows of each table are then theirs, one a seed.
    """

    preset: str
    rows: tuple[str, ...] = ()
    beside: str | None = None
    seeds: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if bool(self.rows) == (self.beside is not None):
            raise ValueError(f"preset {self.preset} needs either rows or beside")
        return self

    @model_validator(mode="after")
    def _each_seed_has_its_row(self) -> Self:
        if self.seeds and any(sum(row.startswith(f"{table}.") for row in self.rows) != len(self.seeds) for table in self.tables):
            raise ValueError(f"preset {self.preset} names {len(self.seeds)} seeds and needs as many rows of each table")
        return self

    def places(self, seed: int) -> tuple[str, ...]:
        """Printed rows of the run of a seed, or the table that it stands beside."""
        if not self.rows:
            return (f"beside {self.beside}",)
        if not self.seeds:
            return self.rows
        if seed not in self.seeds:
            return tuple(f"beside {table}" for table in self.tables)
        of_table = ([row for row in self.rows if row.startswith(f"{table}.")] for table in self.tables)
        return tuple(rows[self.seeds.index(seed)] for rows in of_table)

    @property
    def tables(self) -> tuple[str, ...]:
        """Tables it belongs to, in the order of its rows."""
        return (self.beside,) if self.beside is not None else tuple(dict.fromkeys(row.partition(".")[0] for row in self.rows))


class Stage(Schema):
    """Runs that are made before those of the next stage."""

    name: str
    runs: tuple[PresetRuns, ...] = Field(min_length=1)


class Benchmarks(Schema):
    """The MD benchmarks of Table 4.

    Attributes:
        rows: The printed rows they stand for.
        steps: Budget → atoms → MD steps.
        minutes: Budget → minutes to which the steps of a cell are cut on a CPU; 0, or not named, for no bound.
    """

    rows: tuple[str, ...]
    steps: dict[Budget, dict[int, Annotated[int, Field(ge=1)]]]
    minutes: dict[Budget, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)

    @field_validator("rows")
    @classmethod
    def _of_one_table(cls, rows: tuple[str, ...]) -> tuple[str, ...]:
        if len({row.partition(".")[0] for row in rows}) != 1:
            raise ValueError(f"benchmarks.rows={list(rows)} must be rows of one table")
        return rows


class Cost(Schema):
    """What a run of one model and size takes on one core of a CPU.

    Attributes:
        frame_s: Seconds for a structure in training, MLPs everywhere.
        memory_MB: Peak resident memory of the worker.
        disk_MB: Of the run folder.
    """

    frame_s: float = Field(gt=0)
    memory_MB: float = Field(gt=0)  # noqa: N815 - the unit's own case
    disk_MB: float = Field(gt=0)  # noqa: N815


class Costs(Schema):
    """The calibrated cost model, for runs of which there is no record of the same kind.

    Attributes:
        start_s: Of the process, the data and the model.
        evaluation: Seconds for a structure in validation, over those in training.
        heads: Placement → time of training over that with MLPs everywhere.
        data: Dataset → time of a structure over that of the data that ``models`` were measured on, where it differs.
        models: Model → size → cost.
        all_frames: Dataset → structures in training and in validation where none are left out.
    """

    start_s: float = Field(ge=0)
    evaluation: float = Field(gt=0)
    heads: dict[str, float]
    data: dict[str, float] = Field(default_factory=dict)
    models: dict[str, dict[str, Cost]]
    all_frames: dict[str, tuple[int, int]]


class Runs(Schema):
    """Everything that ``kanmlip-reproduce`` may run.

    Attributes:
        stages: In order.
        benchmarks: Of molecular dynamics; they come after all training.
        literature: Rows that are constants.
        costs: The cost model.
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    benchmarks: Benchmarks
    literature: tuple[str, ...] = ()
    costs: Costs

    @model_validator(mode="after")
    def _each_preset_and_row_once(self) -> Self:
        presets = [runs.preset for stage in self.stages for runs in stage.runs]
        rows = [row for stage in self.stages for runs in stage.runs for row in runs.rows]
        for kind, names in (("preset", presets), ("row", [*rows, *self.benchmarks.rows, *self.literature]), ("stage", self.stage_names)):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise ValueError(f"{kind} given twice: {', '.join(twice)}")
        return self

    @property
    def stage_names(self) -> list[str]:
        """In order."""
        return [stage.name for stage in self.stages]

    def chosen(self, stages: Iterable[str], tables: Iterable[str]) -> tuple[tuple[Stage, ...], bool]:
        """What is left of the stages when only some stages and tables are wanted, and whether the benchmarks are.

        Args:
            stages: Names; none for all. ``benchmarks`` is one, too.
            tables: Numbers; none for all.

        Raises:
            ConfigError: For a name that there is not.
        """
        stages, tables = list(stages), list(tables)
        benchmark_table = self.benchmarks.rows[0].partition(".")[0]
        known_tables = {table for stage in self.stages for runs in stage.runs for table in runs.tables} | {benchmark_table}
        for key, asked, known in (("--stages", stages, [*self.stage_names, "benchmarks"]), ("--tables", tables, sorted(known_tables))):
            for name in asked:
                if name not in known:
                    raise ConfigError(describe_choice(key, name, known))
        kept = []
        for stage in self.stages:
            runs = tuple(runs for runs in stage.runs if not tables or set(runs.tables) & set(tables))
            if runs and (not stages or stage.name in stages):
                kept.append(stage.model_copy(update={"runs": runs}))
        return tuple(kept), (not stages or "benchmarks" in stages) and (not tables or benchmark_table in tables)


def load_runs(path: Path) -> Runs:
    """Read and validate the key ``runs``.

    Args:
        path: A file of the form of conf/reproduction.yaml.

    Raises:
        ConfigError: If the file is missing, is no YAML, or its ``runs`` do not fit; names the file and the dotted keys.
    """
    content = read_yaml(path, "correct it, or give another with --reproduction FILE")
    if not isinstance(content, dict) or "runs" not in content:
        raise ConfigError(f"{path} has no key 'runs' that says what to run; see conf/reproduction.yaml")
    try:
        return Runs.model_validate(content["runs"])
    except ValidationError as error:
        faults = [f"  runs.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("\n".join([f"{path} does not describe runs:", *faults])) from error
