"""Calling ``kanmlip-train`` as a user does, with the fakes added to its configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
FAKES = REPOSITORY / "tests" / "integration" / "conf"
FAKE = ("model=fake", "dataset=fake", "budget=smoke")


# The same command, but its workers are forks of it: of a sweep all runs but the first save the seconds that imports take.
FORKING = "tests.faults.forked"


def command(*arguments: str, module: str = "kanmlip.cli.train") -> list[str]:
    return [sys.executable, "-m", module, "--config-dir", str(FAKES), *arguments]


def environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **extra}


def train(*arguments: str, folder: Path, module: str = "kanmlip.cli.train", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run to the end in a working folder."""
    return subprocess.run(
        command(*arguments, module=module), cwd=folder, env=environment(**extra), capture_output=True, text=True, timeout=180, check=False
    )


def interrupt(*arguments: str, folder: Path, when: Callable[[], bool], **extra: str) -> tuple[int, str]:
    """Start, send Ctrl-C as a terminal does (to the whole process group) once ``when`` holds; exit code and output."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command(*arguments), cwd=folder, env=environment(**extra), stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and not when():
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(timeout=60)
        output.seek(0)
        return code, output.read()


def epochs_done() -> list[int]:
    """Rows of every run's history."""
    return [len(path.read_text().splitlines()) - 1 for path in results().glob("runs/*/history.csv")]


def results() -> Path:
    return Path(os.environ["KANMLIP_RESULTS"])


def statuses() -> dict[str, dict[str, Any]]:
    """status.json of every run folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(results().glob("runs/*/status.json"))}


def records() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(results().glob("records/*.json"))}


def train_preset(presets: tuple[str, ...], seeds: str, folder: Path, dataset: str = "toy") -> list[dict[str, Any]]:
    """Run presets on a set that is made on first use, at the smoke budget, in one sweep; the records it made."""
    arguments = ("-m", f"experiment={','.join(presets)}", f"seed={seeds}", "budget=smoke", f"dataset={dataset}")
    call = [sys.executable, "-m", FORKING, *arguments]
    done = subprocess.run(call, cwd=folder, env=environment(), capture_output=True, text=True, timeout=500, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return list(records().values())


def assert_trained(record: dict[str, Any]) -> None:
    """A row's run has what its table wants: errors that are finite, the KANs that it names, and the data that it was trained on."""
    assert record["status"] == "done"
    assert 0 < record["metrics"]["val/force_mae_eV_per_A"] < 1, record["run_id"]
    assert record["labels"]["basis"] is None or record["placement"]["replaced"]
    assert record["environment"]["dataset_sha256"]
    assert record["data"]["stand_in"]
