"""A real Slurm: jobs that are warned, preempted and cancelled are queued again and go on from their checkpoints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kanmlip.experiment.composition import Composer, Sources
from kanmlip.experiment.folders import conf_dir
from tests.integration.application import FAKES, REPOSITORY, environment, results, statuses
from tests.launchers import one_node_slurm
from tests.launchers.one_node_slurm import Slurm, until
from tests.launchers.sweep_of_four import FOUR, SURROUNDINGS, assert_same, epochs, started, taken, under_way, worker

ABSENT = one_node_slurm.missing()
pytestmark = pytest.mark.skipif(ABSENT is not None, reason=ABSENT or "")
RESUMED = re.compile(r"^resuming after epoch (\d+)$", re.MULTILINE)
LAUNCHER = ("hydra/launcher=slurm_gpu", "hydra.launcher.partition=debug", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with one_node_slurm.running() as found:
        yield found


def job_of(run_folder: Path) -> str:
    """The Slurm job that a run is made in, as ARRAY_TASK where it is one of an array."""
    variables = dict(
        entry.partition("=")[::2] for entry in Path(f"/proc/{worker(run_folder)}/environ").read_text(errors="replace").split("\0")
    )
    if "SLURM_ARRAY_JOB_ID" in variables:
        return f"{variables['SLURM_ARRAY_JOB_ID']}_{variables['SLURM_ARRAY_TASK_ID']}"
    return variables["SLURM_JOB_ID"]


def test_preempted_jobs_of_an_array_go_on(slurm: Slurm, undisturbed: dict[str, dict[str, Any]]) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with started(*LAUNCHER, **slurm.environment) as sweep:
        until(lambda: len(under_way()) == 2 or sweep.process.poll() is not None, "two runs")
        assert sweep.process.poll() is None, sweep.said + slurm.logs()
        reached = {folder: epochs(folder) for folder in under_way()}
        jobs = {folder: job_of(folder) for folder in reached}
        assert {slurm.job(number)["TresPerNode"] for number in jobs.values()} == {"gres:gpu:1"}, "one GPU a job"

        # One core is needed and none is free: the partition of higher priority takes it from one of the two.
        slurm.submit("--partition=urgent", "--output=/dev/null", "--wrap=sleep 1")
        until(lambda: any(map(taken, reached)), "a preemption")
        (warned,) = (folder for folder in reached if not taken(folder))
        with slurm.begun("scancel", "--signal=USR2", jobs[warned]):
            until(lambda: taken(warned), "the run that was warned")
        sweep.release()
        assert sweep.wait() == 0, sweep.said + slurm.logs()
        assert "4 of 4 runs done" in sweep.said
    assert_same(undisturbed)

    # scancel warns srun as well, whose death has the batch script ask for the queue once more than submitit did.
    assert all(int(slurm.job(number)["Restarts"]) >= 1 for number in jobs.values())
    attempts = {name: status["attempts"] for name, status in statuses().items()}
    assert attempts == {name: 2 if name in {folder.name for folder in reached} else 1 for name in attempts}
    for folder, epoch in reached.items():
        log = next(text for path in results().rglob("*_log.out") if f"{folder.name}: resumed" in (text := path.read_text()))
        assert int(RESUMED.findall(log)[-1]) >= epoch, "nothing that was on disk is computed again"


def test_a_job_that_is_preempted_before_it_can_listen_is_queued_again(slurm: Slurm, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = Composer(Sources(conf_dir())).compose(["hydra/launcher=slurm_gpu"]).hydra.launcher
    batch, log = tmp_path / "batch.sh", tmp_path / "log"
    # It would not end by itself before it is preempted.
    lines = ["#!/bin/bash", *launcher.setup, "srun --unbuffered sleep $((SLURM_RESTART_COUNT ? 0 : 3600))", ""]
    batch.write_text("\n".join(lines))
    number = slurm.submit("--requeue", "--signal=USR2@120", f"--cpus-per-task={one_node_slurm.CORES}", f"--output={log}", str(batch))
    until(lambda: f"{number}.0" in slurm.call("squeue", "--steps", "--noheader", "--format=%i").split(), "its step")
    slurm.submit("--partition=urgent", "--output=/dev/null", "--wrap=true")
    until(lambda: slurm.job(number)["JobState"] in ("COMPLETED", "FAILED"), "its end")
    assert slurm.job(number)["JobState"] == "COMPLETED", log.read_text()
    assert int(slurm.job(number)["Restarts"]) >= 1


def test_a_sweep_inside_one_job_is_queued_again(slurm: Slurm, undisturbed: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    """scripts/slurm.sh, warned as at the end of its time and then taken by force."""
    script = tmp_path / "bin" / "kanmlip-train"
    script.parent.mkdir()
    call = environment()
    script.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m kanmlip.cli.train --config-dir "{FAKES}" "$@"\n')
    script.chmod(0o755)
    path = os.pathsep.join((str(script.parent), slurm.environment["PATH"]))
    hold = tmp_path / "hold"
    hold.touch()
    call |= {**slurm.environment, "PATH": path, **SURROUNDINGS, "KANMLIP_TEST_HOLD": str(hold)}
    arguments = [*FOUR]
    arguments[arguments.index("placement=none,output")] = "placement=output"
    arguments[arguments.index("seed=1,2")] = "seed=1"
    log = tmp_path / "job.log"
    batch = ("--parsable", "--gpus-per-node=1", "--cpus-per-task=1", f"--output={log}", str(REPOSITORY / "scripts" / "slurm.sh"))
    submitted = subprocess.run(
        ["sbatch", *batch, *arguments],
        env=call, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    number = submitted.stdout.strip()
    until(lambda: bool(under_way()), "the run")
    (folder,) = under_way()
    reached = epochs(folder)
    slurm.call("scancel", "--batch", "--signal=USR1", number)
    until(lambda: taken(folder), "the run to be stopped")
    hold.unlink()
    until(lambda: slurm.job(number)["JobState"] in ("COMPLETED", "FAILED"), "the job")
    assert slurm.job(number)["JobState"] == "COMPLETED", log.read_text()
    assert slurm.job(number)["Restarts"] == "1"
    run, status = next(iter(statuses().items()))
    assert (status["status"], status["attempts"]) == ("done", 2), log.read_text()
    assert int(RESUMED.findall(log.read_text())[-1]) >= reached
    record = json.loads((results() / "records" / f"{run}.json").read_text())
    assert record["metrics"]["val/force_mae_eV_per_A"] == undisturbed[run]["metrics"]["val/force_mae_eV_per_A"]
