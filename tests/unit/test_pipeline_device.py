"""Where a run computes: what cannot be is refused with what can."""

from __future__ import annotations

import pytest
import torch

from kanmlip.errors import ConfigError
from kanmlip.experiment.gpu_slots import find_devices
from kanmlip.experiment.pipeline import PROCESSES_A_CORE, resolve_device


def test_more_processes_than_cores_can_bear_are_refused() -> None:
    most = PROCESSES_A_CORE * find_devices("cpu")[0].capacity
    assert resolve_device("cpu", most) == "cpu"
    with pytest.raises(ConfigError, match=rf"trainer.devices={most + 1}, but this process may use \d+ core\(s\); choose at most {most}"):
        resolve_device("cpu", most + 1)


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
