"""Where a run computes: what cannot be is refused with what can."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from kanmlip.errors import ConfigError
from kanmlip.experiment import devices, job
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.devices import PROCESSES_A_CORE, THREADS_A_CORE, check_here, check_threads, resolve_device
from kanmlip.experiment.folders import conf_dir, run_folder
from kanmlip.experiment.gpu_slots import find_devices
from kanmlip.experiment.plan import make_plan
from kanmlip.experiment.status import Status, write_status


def test_more_processes_than_cores_can_bear_are_refused() -> None:
    most = PROCESSES_A_CORE * find_devices("cpu")[0].capacity
    assert resolve_device("cpu", most) == "cpu"
    with pytest.raises(ConfigError, match=rf"trainer.devices={most + 1}, but this process may use \d+ core\(s\); choose at most {most}"):
        resolve_device("cpu", most + 1)


def test_more_threads_than_cores_can_bear_are_refused() -> None:
    most = THREADS_A_CORE * find_devices("cpu")[0].capacity
    check_threads(None)
    check_threads(most)
    check_threads(most // 2, 2)
    with pytest.raises(ConfigError, match=rf"trainer.threads={most + 1}, but this process may use \d+ core\(s\); choose at most {most}$"):
        check_threads(most + 1)
    with pytest.raises(ConfigError, match=rf"trainer.threads={most} with trainer.devices=2, .* choose at most {most // 2}$"):
        check_threads(most, 2)


def test_threads_are_counted_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path))
    monkeypatch.setattr(devices, "THREADS_A_CORE", 0)
    for threads in (1, 2):
        arguments = ["model=nequip", "dataset=toy", "budget=smoke", f"trainer.threads={threads}", "trainer.device=cpu"]
        jobs = make_plan(arguments, False, Sources(conf_dir())).jobs or []
        with nullcontext() if threads == 1 else pytest.raises(ConfigError, match=r"trainer\.threads=2"):
            check_here(jobs)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(ConfigError, match=r"trainer.device=cuda, but torch finds no CUDA device; use trainer.device=auto"):
        resolve_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_more_processes_than_gpus_are_refused() -> None:
    count = torch.cuda.device_count()
    assert resolve_device("cuda", count) == "cuda"
    with pytest.raises(ConfigError, match=rf"torch finds {count} GPU"):
        resolve_device("cuda", count + 1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
@pytest.mark.parametrize(
    ("launcher", "refused"), [("", True), (job.BASIC_LAUNCHER, True), ("submitit.SlurmLauncher", False), ("ray.RayLauncher", False)]
)
def test_only_runs_that_will_be_made_here_need_their_device_here(
    launcher: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path))
    arguments = ["model=nequip", "dataset=toy", "budget=smoke", "seed=1", "trainer.device=cuda"]
    jobs = make_plan(arguments, False, Sources(conf_dir())).jobs or []
    assert len(jobs) == 1
    with pytest.raises(ConfigError, match=r"trainer\.device=cuda") if refused else nullcontext():
        check_here(jobs, launcher)
    folder = run_folder(jobs[0].run_id)
    folder.mkdir(parents=True)
    write_status(folder, Status("done", jobs[0].run_id))
    check_here(jobs, launcher)
