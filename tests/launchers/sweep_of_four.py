"""Four short runs: what they leave where nobody disturbs them, and whether what a disturbed sweep left is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kanmlip.experiment.lock import is_locked
from tests.faults import forked, kills
from tests.integration.application import command, environment, records, results, statuses
from tests.launchers.one_node_slurm import PATIENCE_S

timeless = kills.load().timeless
EPOCHS = 20
FOUR = (
    "-m", "model=fake", "dataset=fake", "budget=smoke", "placement=none,output", "basis=bspline", "basis.backend=torch", "seed=1,2",
    f"trainer.max_epochs={EPOCHS}", "trainer.precision=float64", "trainer.device=cpu",
)  # fmt: skip
# Without a compiler, as in the forks that make the undisturbed records: compiled kernels round differently, and building them takes a
# minute.
SURROUNDINGS = {"CXX": "no-compiler"}


class Sweep:
    """``kanmlip-train`` under way; each of its runs stops after some epochs and waits to be released, however slow the machine is.

    Attributes:
        process: The command.
        output: What it prints.
        hold: The file that runs wait for to be removed.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: Path, hold: Path) -> None:
        self.process, self.output, self.hold = process, output, hold

    @property
    def said(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")

    def release(self) -> None:
        """Let the runs go on."""
        self.hold.unlink(missing_ok=True)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(timeout=PATIENCE_S)


@contextmanager
def started(*arguments: str, **extra: str) -> Iterator[Sweep]:
    """Begin the four runs in the background; what is left of the command and its group is killed in the end."""
    with tempfile.TemporaryDirectory() as folder:
        output, hold = Path(folder) / "output.log", Path(folder) / "hold"
        hold.touch()
        with output.open("wb") as file:
            process = subprocess.Popen(
                command(*FOUR, *arguments),
                cwd=folder,
                env=environment(**SURROUNDINGS, KANMLIP_TEST_HOLD=str(hold), **extra),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        try:
            yield Sweep(process, output, hold)
        finally:
            with suppress(ProcessLookupError):  # what a launcher has started may be left, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def undisturbed(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of the four runs, made one after another in this process's forks: run id → record."""
    roots = {"KANMLIP_RESULTS": str(folder / "undisturbed"), "KANMLIP_CACHE": str(folder / "cache")}
    code, said = forked.train(*FOUR, output=folder / "undisturbed.log", **roots)
    if code != 0:
        raise RuntimeError(said)
    return {path.stem: json.loads(path.read_text()) for path in (folder / "undisturbed" / "records").glob("*.json")}


def assert_same(expected: dict[str, dict[str, Any]]) -> None:
    """Every record is there and equal to the last bit, times aside, and every run says that it is done."""
    found = records()
    assert set(found) == set(expected)
    assert len(found) == 4
    for run, record in expected.items():
        assert dict(timeless(found[run])) == dict(timeless(record)), run
    assert {status["status"] for status in statuses().values()} == {"done"}


def epochs(run_folder: Path) -> int:
    """How many epochs of a run are done and on disk."""
    try:
        return len((run_folder / "history.csv").read_text().splitlines()) - 1
    except OSError:
        return 0


def under_way(at_least: int = 2) -> list[Path]:
    """Folders of the runs that are being made and have some epochs behind them and some before them."""
    found = []
    for path in sorted(results().glob("runs/*/status.json")):
        status = json.loads(path.read_text())
        if status["status"] == "running" and at_least <= epochs(path.parent) < EPOCHS - 6:
            found.append(path.parent)
    return found


def taken(run_folder: Path) -> bool:
    """Whether a run that was under way has been stopped; it may have been started again since."""
    status = json.loads((run_folder / "status.json").read_text())
    return status["status"] == "interrupted" or status["attempts"] > 1 or not is_locked(run_folder)


def parent(pid: int) -> int:
    """Of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def worker(run_folder: Path) -> int:
    """The process that makes a run."""
    pid: int = json.loads((run_folder / "status.json").read_text())["pid"]
    os.kill(pid, 0)
    return pid
