"""Where runs compute: what cannot be is refused with what can, before anything starts where that is known, else in the run's process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from kanmlip.errors import ConfigError
from kanmlip.experiment.folders import run_folder
from kanmlip.experiment.gpu_slots import find_devices
from kanmlip.experiment.job import BASIC_LAUNCHER
from kanmlip.experiment.status import read_status
from kanmlip.kan.backends import kernels_for

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig
    from kanmlip.experiment.supervisor import Planned

PROCESSES_A_CORE = 4  # of one run; more are a slip of the pen
THREADS_A_CORE = 16  # of all processes of one run
# Backends that no device refuses; asking for their kernels may compile these for a minute, which is the run's to do.
MAY_COMPILE = frozenset({"auto", "cpu"})
# Launchers whose jobs run on the machine of the command; those of a cluster may find other devices there.
LOCAL_LAUNCHERS = frozenset(
    {
        "",
        BASIC_LAUNCHER,
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    }
)


def check_here(jobs: Iterable[Planned], launcher: str = "") -> None:
    """Check that this machine has the devices and kernels which runs ask for, as far as they will be made here and are not done.

    Args:
        jobs: The runs.
        launcher: Dotted name of Hydra's launcher; empty for a single run.

    Raises:
        ConfigError: For the first run that could not be made, with the way out.
    """
    if launcher not in LOCAL_LAUNCHERS:
        return
    checked = set()
    for job in jobs:
        trainer = job.config.trainer
        question = (trainer.device, trainer.devices, trainer.threads, job.config.basis.backend, job.config.has_kan)
        status = read_status(run_folder(job.run_id))
        if question in checked or (status is not None and status.status == "done" and not job.options.force):
            continue
        device = resolve_device(trainer.device, trainer.devices)
        check_threads(trainer.threads, trainer.devices)
        if job.config.basis.backend not in MAY_COMPILE:
            check_backend(job.config, device)
        checked.add(question)


def resolve_device(device: str, count: int = 1) -> str:
    """``cpu`` or ``cuda``; ``auto`` is CUDA where there is one.

    Args:
        device: As ``trainer.device`` has it.
        count: Processes of the run.

    Raises:
        ConfigError: If CUDA is asked for and there is none, or there are fewer GPUs than processes, or so few cores that the machine would
            do nothing but change between processes.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device=cuda, but torch finds no CUDA device; use trainer.device=auto or trainer.device=cpu")
    chosen = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if chosen == "cuda" and count > torch.cuda.device_count():
        raise ConfigError(
            f"trainer.devices={count}, but torch finds {torch.cuda.device_count()} GPU(s); set trainer.devices={torch.cuda.device_count()}"
        )
    most = PROCESSES_A_CORE * find_devices("cpu")[0].capacity
    if chosen == "cpu" and count > most:
        raise ConfigError(f"trainer.devices={count}, but this process may use {most // PROCESSES_A_CORE} core(s); choose at most {most}")
    return chosen


def check_threads(threads: int | None, count: int = 1) -> None:
    """Check that the machine bears the threads of a run; torch would end the process where the system refuses one.

    Args:
        threads: Of each process, as ``trainer.threads`` has it; none for what torch takes by itself.
        count: Processes of the run.

    Raises:
        ConfigError: With how many there may be.
    """
    cores = find_devices("cpu")[0].capacity
    most = max(1, THREADS_A_CORE * cores // count)
    if threads is not None and threads > most:
        each = f" with trainer.devices={count}" if count > 1 else ""
        raise ConfigError(f"trainer.threads={threads}{each}, but this process may use {cores} core(s); choose at most {most}")


def check_backend(config: RunConfig, device: str) -> None:
    """Check that the kernels asked for run on the device; jobs may be submitted where there is no such device, and are checked there.

    Raises:
        ConfigError: With the way out.
    """
    if config.has_kan:
        try:
            kernels_for(config.basis.backend, torch.device(device))
        except ValueError as error:
            raise ConfigError(f"basis.backend={config.basis.backend} trainer.device={device}: {error}") from error
