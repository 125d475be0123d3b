"""Finished runs of the fake model of tests/integration, trained in this process in a second."""

from __future__ import annotations

from pathlib import Path

import yaml

from kanmlip.experiment.atomic import write_text
from kanmlip.experiment.composition import Composer, Sources, resolve
from kanmlip.experiment.folders import conf_dir, run_folder
from kanmlip.experiment.pipeline import run
from kanmlip.experiment.plan import plan_plain
from kanmlip.experiment.status import Status, write_status

FAKES = Path(__file__).parents[1] / "integration" / "conf"


def train_fake(*arguments: str) -> Path:
    """Train under ``$KANMLIP_RESULTS`` and return the run folder."""
    composer = Composer(Sources(conf_dir(), FAKES))
    settings = ["model=fake", "dataset=fake", "budget=smoke", "trainer.progress_bar=false", *arguments]
    planned = plan_plain(resolve(composer.compose(settings)))
    folder = run_folder(planned.run_id)
    write_text(folder / "config.yaml", yaml.safe_dump(planned.config.to_plain()))
    run(folder)
    write_status(folder, Status("done", folder.name))
    return folder
