"""From the command line to validated runs, all of them, before the first one starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kanmlip.errors import KanmlipError
from kanmlip.experiment.composition import Composer, Sources, refuse_lists, resolve


@dataclass(frozen=True)
class Plan:
    """What a command will do.

    Attributes:
        jobs: One validated run a job, in Hydra's order; none where the sweeper chooses its jobs as it goes.
        multirun: Whether it is a sweep.
        launcher: Dotted name of Hydra's launcher.
    """

    jobs: list[Any] | None
    multirun: bool
    launcher: str


def make_plan(arguments: Sequence[str], multirun: bool, sources: Sources) -> Plan:
    """Compose and validate every job.

    Args:
        arguments: ``key=value`` arguments of the command line.
        multirun: Whether ``-m`` was given.
        sources: Where configuration files are.

    Raises:
        KanmlipError: For the first job that cannot be run, its arguments named in a sweep.
    """
    composer = Composer(sources)
    overrides = composer.parse(arguments)
    if not multirun:
        multirun = any(o.key_or_group == "hydra.mode" and str(o.value()).upper() == "MULTIRUN" for o in overrides)
    if not multirun:
        refuse_lists(overrides)
        config = composer.compose(arguments)
        return Plan([plan_job(config)], OmegaConf.select(config, "hydra.mode") == RunMode.MULTIRUN, "")
    for_hydra = [o.input_line or "" for o in overrides if o.is_hydra_override()]
    hydra = composer.compose(arguments, RunMode.MULTIRUN).hydra
    jobs = composer.expand(overrides, hydra)
    launcher = str(OmegaConf.select(hydra, "launcher._target_"))
    if jobs is None:
        return Plan(None, True, launcher)
    planned = []
    for job in jobs:
        try:
            planned.append(plan_job(composer.compose([*for_hydra, *job])))
        except KanmlipError as error:
            # The keys that vary tell jobs apart; with a single job the message says enough.
            raise (type(error)(f"{error}\n  in job {len(planned)}: {' '.join(job)}") if len(jobs) > 1 else error) from error
    return Plan(planned, True, launcher)


def plan_job(config: DictConfig) -> Any:
    """Validate one composed configuration, check that its data and packages are there, and name the run.

    Raises:
        KanmlipError: In one line a fault.
    """
    return plan_plain(resolve(config))


def plan_plain(plain: Mapping[str, Any]) -> Any:
    """Like :func:`plan_job`, for plain data."""
    # Imported late: validating imports torch for the bases, and --help must not.
    from kanmlip.data.root import data_root
    from kanmlip.experiment.batch_check import check_batches
    from kanmlip.experiment.config import RunOptions
    from kanmlip.experiment.identity import run_id
    from kanmlip.experiment.supervisor import Planned
    from kanmlip.experiment.validation import validate_options, validate_run

    options = validate_options({key: plain[key] for key in RunOptions.model_fields if key in plain})
    config = validate_run({key: value for key, value in plain.items() if key not in RunOptions.model_fields})
    config.model.require_upstream()
    config.dataset.check(data_root())
    check_batches(config, data_root())
    return Planned(run_id(config, config.dataset.fingerprint(data_root())), config, options)
