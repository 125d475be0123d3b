"""A run's configuration from Python, by the same arguments as on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from kanmlip.experiment.composition import Composer, Sources, resolve
from kanmlip.experiment.config import RunConfig, RunOptions
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.validation import validate_run


def compose_run(arguments: Sequence[str]) -> RunConfig:
    """Compose and validate one run; starts nothing.

    Args:
        arguments: Such as ``["model=mace", "dataset=toy", "budget=smoke"]``.

    Raises:
        ConfigError: As ``kanmlip-train`` would print it.
    """
    composer = Composer(Sources(main=conf_dir()))
    composer.parse(arguments)
    plain = resolve(composer.compose(arguments))
    return validate_run({key: value for key, value in plain.items() if key not in RunOptions.model_fields})
