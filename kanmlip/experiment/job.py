"""What Hydra calls for each job, in whichever process its launcher put it: supervise one worker, never raise."""

from __future__ import annotations

import os
import sys
import time

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# Longer than Slurm waits between the first signal and the last (GraceTime of the partition and KillWait).
SLURM_KILLS_WITHIN_S = 180.0


def run_job(config: DictConfig) -> float:
    """Run one job.

    Args:
        config: As Hydra composed it, without its own node.

    Returns:
        The monitored metric at the end, for sweepers that optimise; NaN if the run did not finish.
    """
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment.plan import plan_job
    from kanmlip.experiment.stop import GO_ON, ignore_interrupts_of_launcher, stop_requested
    from kanmlip.experiment.summary import outcome
    from kanmlip.experiment.supervisor import supervise
    from kanmlip.experiment.word import REFUSED, Word, leave

    ignore_interrupts_of_launcher()
    try:
        planned = plan_job(config)
    except KanmlipError as error:  # only where jobs are chosen as the sweep goes; others were planned before
        sys.stderr.write(f"{error}\n")
        leave(Word(REFUSED, "failed", str(error), error.exit_code))
        return float("nan")
    status = supervise(planned, interactive=HydraConfig.get().launcher._target_ == BASIC_LAUNCHER)
    if status.status == "interrupted" and stop_requested() == GO_ON and os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        # Slurm has stopped the run and is about to kill this job and to queue it again; a result now would be taken for its last.
        time.sleep(SLURM_KILLS_WITHIN_S)
    leave(Word(planned.run_id, status.status, status.reason, status.exit_code, planned.config.trainer.monitor))
    if status.status not in ("done", "running", "pending"):
        print(f"{planned.run_id}: {status.status}: {(status.reason or '').splitlines()[0] if status.reason else ''}", flush=True)
    value = outcome(planned).value
    return float("nan") if value is None else value
