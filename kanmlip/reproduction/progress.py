"""What of the reproduction is there already: by record, else by run folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kanmlip.experiment.folders import run_folder
from kanmlip.experiment.record import is_complete
from kanmlip.experiment.status import true_status
from kanmlip.report.records import READABLE_SCHEMA_VERSIONS, Evidence
from kanmlip.reproduction.expansion import Step

State = Literal["done", "older record", "pending", "interrupted", "failed", "running"]


@dataclass(frozen=True)
class Standing:
    """A step and how far it is.

    Attributes:
        step: The run.
        state: ``done`` with a record of the present form; ``older record`` with one that lacks what newer ones hold.
        reason: Of a run that failed.
    """

    step: Step
    state: State
    reason: str = ""

    def is_to_be_run(self, renew: bool) -> bool:
        """Whether it is started.

        Args:
            renew: Runs with an older record are made again.
        """
        return self.state != "done" and (renew or self.state != "older record")


def standing(step: Step, evidence: Evidence) -> Standing:
    """How far a run is. A record counts even where the run folder is not: folders are not committed.

    Args:
        step: The run.
        evidence: All records.
    """
    record = next((record for record in evidence.records if record.run_id == step.run_id), None)
    if record is not None:
        return Standing(step, "done" if record.schema_version == max(READABLE_SCHEMA_VERSIONS) else "older record")
    folder = run_folder(step.run_id)
    status = true_status(folder)
    if status is None:
        return Standing(step, "pending")
    if status.status == "done" and is_complete(folder):
        return Standing(step, "pending", "its record is missing and will be written from its folder")
    if status.status in ("running", "pending"):
        return Standing(step, "running", f"process {status.pid} is at it" if status.pid else "")
    if status.status == "interrupted":
        return Standing(step, "interrupted", "will be resumed")
    return Standing(step, "failed", (status.reason or status.status).splitlines()[0])
