"""What a job does with its run's end: inside Slurm, a run that Slurm stopped is no result."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from kanmlip.experiment import job, plan, stop, summary, supervisor
from kanmlip.experiment.status import Status


@pytest.mark.parametrize(
    ("status", "executor", "requested", "waits"),
    [
        ("interrupted", "slurm", stop.GO_ON, True),
        ("interrupted", "slurm", stop.FINISH_STEP, False),
        ("interrupted", "local", stop.GO_ON, False),
        ("interrupted", None, stop.GO_ON, False),
        ("done", "slurm", stop.GO_ON, False),
        ("failed", "slurm", stop.GO_ON, False),
    ],
)
def test_a_job_that_slurm_takes_away_leaves_no_result(
    status: str, executor: str | None, requested: int, waits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(job, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(job.HydraConfig, "get", lambda: OmegaConf.create({"launcher": {"_target_": "x"}}))
    monkeypatch.setattr(
        plan, "plan_job", lambda config: SimpleNamespace(run_id="run", config=OmegaConf.create({"trainer": {"monitor": "m"}}))
    )
    monkeypatch.setattr(supervisor, "supervise", lambda planned, interactive: Status(status, "run"))  # type: ignore[arg-type]
    monkeypatch.setattr(summary, "outcome", lambda planned: SimpleNamespace(value=None))
    monkeypatch.setattr(stop, "_requested", requested)
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    if executor is not None:
        monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    job.run_job(OmegaConf.create({}))
    assert bool(slept) == waits
    # Slurm allows 30 seconds between TERM and KILL by default, partitions some more before that.
    assert all(seconds >= 120 for seconds in slept)
