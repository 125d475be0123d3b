"""Whole runs of ``kanmlip-train`` as what is timed: what several processes do together cannot take turns within one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanmlip.errors import KanmlipError

_LAST = 2000  # characters of what a failed run said


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        metrics: Content of its ``metrics.json``.
        peak_mib: Resident set of the largest of its processes at its highest, libraries included.
    """

    metrics: dict[str, Any]
    peak_mib: float


def train(arguments: Sequence[str]) -> Trained:
    """One run, with one thread a process, in a results root of its own that is removed afterwards.

    Args:
        arguments: Of ``kanmlip-train``, for a single run.

    Raises:
        KanmlipError: If it fails, with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="kanmlip-run-") as folder, (Path(folder) / "said").open("w+") as said:
        environment = {**os.environ, "KANMLIP_RESULTS": folder, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kanmlip.cli.train", *arguments, "trainer.progress_bar=false", "logger=none"]
        with subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT) as process:
            _, status, used = os.wait4(process.pid, 0)  # the usage is that of its descendants too
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise KanmlipError(f"{' '.join(arguments)} failed with code {process.returncode}:\n{said.read()[-_LAST:]}")
        (path,) = Path(folder).glob("runs/*/metrics.json")
        return Trained(json.loads(path.read_text(encoding="utf-8")), used.ru_maxrss / 2**10)
