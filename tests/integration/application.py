"""Calling ``kanmlip-train`` as a user does, with the fakes added to its configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
FAKES = REPOSITORY / "tests" / "integration" / "conf"
FAKE = ("model=fake", "dataset=fake", "budget=smoke")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kanmlip.cli.train", "--config-dir", str(FAKES), *arguments]


def environment(**extra: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **extra}


def train(*arguments: str, folder: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run to the end in a working folder."""
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(**extra), capture_output=True, text=True, timeout=180, check=False
    )


def interrupt(*arguments: str, folder: Path, when: str, **extra: str) -> tuple[int, str]:
    """Start, send Ctrl-C as a terminal does (to the whole process group) once ``when`` is printed; exit code and output."""
    process = subprocess.Popen(
        command(*arguments), cwd=folder, env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    output = ""
    assert process.stdout is not None
    for line in process.stdout:
        output += line
        if when in line:
            time.sleep(1.5)
            os.killpg(process.pid, signal.SIGINT)
            break
    output += process.stdout.read()
    return process.wait(timeout=60), output


def results() -> Path:
    return Path(os.environ["KANMLIP_RESULTS"])


def statuses() -> dict[str, dict[str, Any]]:
    """status.json of every run folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(results().glob("runs/*/status.json"))}


def records() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(results().glob("records/*.json"))}
