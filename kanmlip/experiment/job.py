"""What Hydra calls for each job, in whichever process its launcher put it: supervise one worker, never raise."""

from __future__ import annotations

import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def run_job(config: DictConfig) -> float:
    """Run one job.

    Args:
        config: As Hydra composed it, without its own node.

    Returns:
        The monitored metric at the end, for sweepers that optimise; NaN if the run did not finish.
    """
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment.plan import plan_job
    from kanmlip.experiment.stop import ignore_interrupts_of_launcher
    from kanmlip.experiment.summary import outcome
    from kanmlip.experiment.supervisor import supervise

    ignore_interrupts_of_launcher()
    try:
        planned = plan_job(config)
    except KanmlipError as error:  # only where jobs are chosen as the sweep goes; others were planned before
        sys.stderr.write(f"{error}\n")
        return float("nan")
    status = supervise(planned, interactive=HydraConfig.get().launcher._target_ == BASIC_LAUNCHER)
    if status.status not in ("done", "running", "pending"):
        print(f"{planned.run_id}: {status.status}: {(status.reason or '').splitlines()[0] if status.reason else ''}", flush=True)
    value = outcome(planned).value
    return float("nan") if value is None else value
