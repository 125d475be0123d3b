"""Forks of the test's process that meet as the processes of a run do: no interpreter starts, the exchange is the real one."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kanmlip.training.ranks import Ranks, joined


def in_processes(size: int, body: Callable[[Ranks], Any]) -> list[Any]:
    """What ``body`` returns in each of so many processes; an exception as its text ``Type: message``, none of one that just ended."""
    if torch.cuda.is_available():
        pytest.skip("a process that has started CUDA cannot be forked; on GPUs see scripts/device_speed.py")
    with tempfile.TemporaryDirectory() as name:
        pids = [_fork(rank, size, Path(name), body) for rank in range(size)]
        for pid in pids:
            os.waitpid(pid, 0)
        paths = [Path(name) / f"result-{rank}" for rank in range(size)]
        return [torch.load(path, weights_only=True) if path.exists() else None for path in paths]


def _fork(rank: int, size: int, folder: Path, body: Callable[[Ranks], Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        torch.set_num_threads(1)
        try:
            with joined(rank, size, folder / "meeting") as ranks:
                result = body(ranks)
        except Exception as error:
            traceback.print_exc()
            result = f"{type(error).__name__}: {error}"
        torch.save(result, folder / f"result-{rank}")
    finally:
        os._exit(0)
