"""From stages, a budget and seeds to the runs themselves, each once, validated before any is started."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from kanmlip.errors import ConfigError, DataError
from kanmlip.experiment.composition import Composer, Sources, refuse_lists, resolve
from kanmlip.experiment.plan import plan_plain
from kanmlip.experiment.supervisor import Planned
from kanmlip.reproduction.spec import PresetRuns, Stage

# Where the files of a set are missing a smoke test does with a set that is made on first use, under the name of the missing one.
STAND_IN_BUDGET = "smoke"
STAND_INS = ("toy", "toy_bec")


@dataclass(frozen=True)
class Step:
    """One run of the reproduction.

    Attributes:
        planned: The validated run.
        stage: The first stage that wants it.
        preset: Of conf/experiment.
        places: Rows (``3.1``), or ``beside 3``, that it belongs to.
        stand_in: Name of the made data that it uses in place of a published set, none if it has that.
    """

    planned: Planned
    stage: str
    preset: str
    places: tuple[str, ...]
    stand_in: str | None = None

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.planned.run_id


class Expansion:
    """Composes runs by preset.

    Args:
        sources: Where configuration files are.
        budget: Of all runs.
        overrides: Further arguments of every run; they may not change what is computed.
    """

    def __init__(self, sources: Sources, budget: str, overrides: Sequence[str] = ()) -> None:
        self.composer = Composer(sources)
        self.budget = budget
        self.overrides = list(overrides)
        refuse_lists(self.composer.parse(self.overrides))

    def steps(self, stages: Iterable[Stage], seeds: Sequence[int]) -> list[Step]:
        """All runs in order: by stage, then by seed, then by preset. A run that several presets name comes once, with all its places.

        Raises:
            KanmlipError: For the first run that cannot be made, with its arguments.
        """
        found: dict[str, Step] = {}
        for stage in stages:
            wanted = list(dict.fromkeys([*seeds, *(seed for runs in stage.runs for seed in runs.seeds)]))
            for seed in wanted:
                for runs in stage.runs:
                    if seed not in seeds and seed not in runs.seeds:
                        continue
                    step = self.step(stage.name, runs, seed)
                    known = found.get(step.run_id)
                    found[step.run_id] = step if known is None else replace(known, places=(*known.places, *step.places))
        return list(found.values())

    def step(self, stage: str, runs: PresetRuns, seed: int) -> Step:
        """One run.

        Raises:
            KanmlipError: If it cannot be made, with its arguments.
        """
        arguments = [f"experiment={runs.preset}", f"budget={self.budget}", f"seed={seed}", *labels(stage, runs, seed, self.budget)]
        try:
            planned, stand_in = self.plan([*arguments, *self.overrides])
        except ConfigError as error:
            raise ConfigError(f"{error}\n  in: {' '.join([*arguments[:3], *self.overrides])}") from error
        if self.overrides and self.plan(arguments)[0].run_id != planned.run_id:
            raise ConfigError(
                f"{' '.join(self.overrides)} changes what {' '.join(arguments[:3])} computes, which would then be no row of a table; "
                f"leave it out, or run it with kanmlip-train"
            )
        return Step(planned, stage, runs.preset, runs.places(seed), stand_in)

    def plan(self, arguments: Sequence[str]) -> tuple[Planned, str | None]:
        """The run that arguments name, and the stand-in for its data if it needs one.

        Raises:
            KanmlipError: If it cannot be run.
        """
        self.composer.parse(arguments)
        plain = resolve(self.composer.compose(arguments))
        try:
            planned: Planned = plan_plain(plain)
            return planned, None
        except DataError as error:
            if self.budget != STAND_IN_BUDGET:
                raise DataError(f"{error}; only budget={STAND_IN_BUDGET} goes on with made data") from error
            failure = error
        name = plain["dataset"]["name"]
        for stand_in in STAND_INS:
            replaced = [*arguments, f"dataset={stand_in}", f"dataset.name={name}"]
            try:
                planned = plan_plain(resolve(self.composer.compose(replaced)))
                return planned, stand_in
            except ConfigError:  # it lacks what the model learns
                continue
        raise failure


def labels(stage: str, runs: PresetRuns, seed: int, budget: str) -> list[str]:
    """How W&B groups and tags a run: by its first table, and by every row; no part of what it computes."""
    places = [place if place.startswith("beside") else f"row {place}" for place in runs.places(seed)]
    tags = [budget, stage, *(f"table {table}" for table in runs.tables), *places]
    return [f"logger.group='table {runs.tables[0]}, {budget}'", "logger.tags=[" + ",".join(f"'{tag}'" for tag in tags) + "]"]
