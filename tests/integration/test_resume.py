"""A run that is killed outright and started again ends bit for bit like one that was left alone (float64, CPU)."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

RUN = [
    "model=allegro",
    "placement=output",
    "basis=bspline",
    "dataset=toy",
    "budget=smoke",
    "trainer.precision=float64",
    "trainer.max_epochs=6",
]


def start(results: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "KANMLIP_RESULTS": str(results)}
    command = [sys.executable, "-c", "from kanmlip.cli.train import main; main()", *RUN]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def only_run(results: Path) -> Path:
    (folder,) = (results / "runs").iterdir()
    return folder


@pytest.mark.slow
def test_killed_and_resumed_equals_undisturbed_to_the_last_bit(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "a")
    assert undisturbed.wait(timeout=240) == 0, undisturbed.stderr.read().decode()
    process = start(tmp_path / "b")
    deadline = time.monotonic() + 240
    # Kill the whole session, worker and all, at some moment after the second epoch.
    while time.monotonic() < deadline and process.poll() is None:
        history = next(iter((tmp_path / "b").glob("runs/*/history.csv")), None)
        if history is not None and len(history.read_text().splitlines()) > 2:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for worker in workers_of(tmp_path / "b"):
        os.kill(worker, signal.SIGKILL)
    resumed = start(tmp_path / "b")
    assert resumed.wait(timeout=240) == 0, resumed.stderr.read().decode()
    a, b = only_run(tmp_path / "a"), only_run(tmp_path / "b")
    assert a.name == b.name
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (torch.load(folder / "checkpoints" / name, weights_only=True)["model"] for folder in (a, b))
        assert all(torch.equal(one[key], other[key]) for key in one)
    rows = [
        [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader((f / "history.csv").open())] for f in (a, b)
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 6


def workers_of(results: Path) -> list[int]:
    """Workers still alive on a run folder below ``results``; they have sessions of their own."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode()
            except OSError:
                continue
            if "kanmlip.experiment.worker" in command and str(results) in command:
                found.append(int(entry.name))
    return found
