"""Locks, atomic files, and how the end of a worker is read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from kanmlip.errors import ConfigError, DivergenceError
from kanmlip.experiment.atomic import read_json, write_bytes, write_json
from kanmlip.experiment.death import count_oom_kills, of_exception, of_exit
from kanmlip.experiment.lock import AlreadyRunningError, is_locked, locked
from kanmlip.experiment.status import Status, last_lines, read_status, true_status, write_status


def test_running_without_a_lock_is_interrupted(tmp_path: Path) -> None:
    write_status(tmp_path, Status("running", tmp_path.name, pid=os.getpid(), attempts=2))
    with locked(tmp_path):
        held = true_status(tmp_path)
    free = true_status(tmp_path)
    assert held is not None
    assert free is not None
    assert (held.status, held.pid) == ("running", os.getpid())
    assert (free.status, free.pid, free.attempts, free.resumable) == ("interrupted", None, 2, True)


def test_a_broken_status_is_none(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text('{"status": "runn')
    assert read_status(tmp_path) is None
    (tmp_path / "status.json").write_text('{"status": "sleeping"}')
    assert read_status(tmp_path) is None


def test_lock_is_held_until_its_last_holder_dies(tmp_path: Path) -> None:
    with locked(tmp_path) as descriptor:
        with pytest.raises(AlreadyRunningError), locked(tmp_path):
            pass
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=(descriptor,))
    try:
        assert is_locked(tmp_path), "the worker outlives its parent and still holds the folder"
    finally:
        child.kill()
        child.wait()
    assert not is_locked(tmp_path)


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    def torn(file: BinaryIO) -> None:
        file.write(b'{"a": 2')
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, torn)
    assert read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


def test_json_is_strict_about_numbers(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -1e-300}})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5], "c": {"d": -1e-300}}


@pytest.mark.parametrize(
    ("error", "status", "resumable", "exit_code"),
    [
        (KeyboardInterrupt(), "interrupted", True, 130),
        (DivergenceError("the loss became NaN"), "diverged", False, 1),
        (MemoryError(), "oom", True, 1),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", True, 1),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"), "oom", True, 1),
        (ConfigError("trainer.device=cuda, but there is none"), "failed", False, 2),
        (RuntimeError("shapes differ"), "failed", False, 1),
    ],
)
def test_exceptions(error: BaseException, status: str, resumable: bool, exit_code: int) -> None:
    death = of_exception(error)
    assert (death.status, death.resumable, death.exit_code) == (status, resumable, exit_code)
    assert death.reason


def test_signals() -> None:
    assert of_exit(-signal.SIGKILL, "", oom_kills=0).reason == "killed by SIGKILL"
    assert of_exit(-signal.SIGKILL, "", oom_kills=0).status == "failed"
    assert of_exit(-signal.SIGKILL, "", oom_kills=1).status == "oom"
    assert of_exit(-signal.SIGSEGV, "a\nb\n", oom_kills=1).status == "failed", "only SIGKILL can be the kernel's"
    assert of_exit(-signal.SIGSEGV, "a\nb\n", oom_kills=0).error == ("a", "b")
    assert "exit code 3" in of_exit(3, "", oom_kills=0).reason


def test_kernel_counters(tmp_path: Path) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (groups / "job" / "one").mkdir(parents=True)
    assert count_oom_kills(proc, groups) == 0
    (proc / "vmstat").write_text("nr_free_pages 12\noom_kill 7\n")
    assert count_oom_kills(proc, groups) == 7
    (groups / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert count_oom_kills(proc, groups) == 3
    (proc / "self" / "cgroup").write_text("0::/job/one\n")
    (groups / "job" / "one" / "memory.events").write_text("oom_kill 2\n")
    assert count_oom_kills(proc, groups) == 2


def test_last_lines() -> None:
    text = "\n".join(f"line {i}" for i in range(50)) + "\n\nepoch 1\repoch 2\n"
    lines = last_lines(text)
    assert len(lines) == 20
    assert lines[-2:] == ("line 49", "epoch 2")


def test_a_worker_whose_parent_dies_stops_resumably(tmp_path: Path) -> None:
    """The supervisor is killed while its worker, here one that cannot even start its pipeline soon, goes on."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    write_status(run_dir, Status("pending", "run", attempts=1))
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    # A pipeline that only waits, in the place of the real one.
    code = (
        "import sys, time, types\n"
        "module = types.ModuleType('kanmlip.experiment.pipeline')\n"
        "module.run = lambda *given: time.sleep(60)\n"
        "sys.modules['kanmlip.experiment.pipeline'] = module\n"
        "from kanmlip.experiment.worker import main\n"
        f"sys.exit(main([{str(run_dir)!r}]))\n"
    )
    parent_code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True).wait()"
    parent = subprocess.Popen([sys.executable, "-c", parent_code], env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 30
    while (status := read_status(run_dir)) is None or status.status != "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while (status := read_status(run_dir)) is None or status.status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status.status == "interrupted"
    assert status.resumable
