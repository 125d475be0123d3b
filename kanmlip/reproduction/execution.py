"""Running what is left of the reproduction, several runs at a time; one that fails leaves the others alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from kanmlip.experiment.folders import run_folder
from kanmlip.experiment.lock import is_locked
from kanmlip.experiment.status import Status
from kanmlip.experiment.stop import GO_ON, stop_requested
from kanmlip.experiment.summary import outcome
from kanmlip.experiment.supervisor import GRACE_S, supervise
from kanmlip.reproduction.expansion import Step
from kanmlip.reproduction.listing import duration
from kanmlip.reproduction.progress import Standing

POLL_S = 0.5


def execute(standings: Sequence[Standing], seconds: Sequence[float], jobs: int) -> list[Status]:
    """Run every step in a worker process of its own, in order, ``jobs`` at a time.

    Args:
        standings: What to run. Those with an older record begin again, the others go on where they stopped.
        seconds: Estimated time of each, for the remaining time.
        jobs: How many at a time.

    Returns:
        The final status of each that was begun, in the order of their ends.
    """
    left = sum(seconds)
    ended: list[Status] = []
    with ThreadPoolExecutor(jobs) as pool:
        under_way: dict[Future[Status], tuple[Step, float]] = {}
        queue = list(zip(standings, seconds, strict=True))
        while queue or under_way:
            while queue and len(under_way) < jobs and stop_requested() == GO_ON:
                standing, estimate = queue.pop(0)
                under_way[pool.submit(attempt, standing)] = (standing.step, estimate)
            if not under_way:
                break
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                step, estimate = under_way.pop(future)
                left -= estimate
                ended.append(future.result())
                report(step, ended[-1], f"{len(ended)} of {len(standings)}", left / jobs)
    return ended


def attempt(standing: Standing) -> Status:
    """Supervise one run. One that another process holds is waited for as long as a worker whose parent was killed takes to end.

    Only an older record makes it begin again. The supervisor removes that record before training: such a run, once begun, is resumed.
    """
    step, planned = standing.step, standing.step.planned
    if standing.state == "older record":
        planned = replace(planned, options=planned.options.model_copy(update={"force": True}))
    status = supervise(planned, quiet=True)
    deadline = time.monotonic() + GRACE_S
    while status.status == "running" and time.monotonic() < deadline and stop_requested() == GO_ON:
        time.sleep(POLL_S)
        if not is_locked(run_folder(step.run_id)):
            status = supervise(planned, quiet=True)
    return status


def report(step: Step, status: Status, count: str, left_s: float) -> None:
    """One line for a run that ended."""
    if status.status == "done":
        end = outcome(step.planned)
        value = "" if end.value is None else f", {end.metric} {end.value:.4g}"
        result = f"done{value}"
    else:
        result = f"{status.status}: {(status.reason or '').splitlines()[0] if status.reason else ''}"
    print(f"[{count}; {duration(max(left_s, 0))} left] {step.run_id}: {result}", flush=True)
