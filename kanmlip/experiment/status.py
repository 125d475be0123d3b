"""What became of a run: ``status.json``, written by one process at a time, and how to read it when its writer is dead."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.lock import is_locked

State = Literal["pending", "running", "done", "failed", "oom", "diverged", "timeout", "interrupted"]
STATES = frozenset(get_args(State))
LAST_LINES = 20


@dataclass(frozen=True)
class Status:
    """The state of one run.

    Attributes:
        status: ``pending`` until its worker has started.
        run_id: Name of the run folder.
        attempts: How many times a worker was started.
        pid: Of the worker, while it runs.
        started: Of this attempt, ISO 8601 in UTC.
        finished: Of this attempt.
        reason: One line, none for a run without fault.
        error: Last lines of the traceback or of what the worker printed.
        resumable: Whether the checkpoints may be gone on with; not after an exception, whose cause may be in them.
        exit_code: What a command that ran this alone should exit with.
        sweep: The sweep that this attempt was part of, see :mod:`kanmlip.experiment.stop`; none for a single run.
        forced: Begun by ``force=true`` and not done since, so that another start with it goes on; not in older files.
    """

    status: State
    run_id: str
    attempts: int = 0
    pid: int | None = None
    started: str | None = None
    finished: str | None = None
    reason: str | None = None
    error: tuple[str, ...] = ()
    resumable: bool = True
    exit_code: int = 0
    sweep: str | None = None
    forced: bool = False


KINDS = {
    "attempts": int, "exit_code": int, "resumable": bool, "forced": bool, "pid": int | None, "finished": str | None, "reason": str | None,
}  # fmt: skip


def now() -> str:
    """The current time, ISO 8601 in UTC to the millisecond; such texts sort like the times they name."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def write_status(run_dir: Path, status: Status) -> None:
    """Replace ``status.json``."""
    write_json(run_dir / "status.json", asdict(status))


def read_status(run_dir: Path) -> Status | None:
    """``status.json`` as it stands; none where there is none or it is broken."""
    content: Any = read_json(run_dir / "status.json")
    if not isinstance(content, dict) or content.get("status") not in STATES:
        return None
    known = {key: value for key, value in content.items() if key in Status.__dataclass_fields__}
    lines = content.get("error")
    error = tuple(map(str, lines)) if isinstance(lines, list) else ()
    status = Status(**{**known, "run_id": run_dir.name, "error": error})
    return status if all(isinstance(getattr(status, name), kind) for name, kind in KINDS.items()) else None


def true_status(run_dir: Path) -> Status | None:
    """Like :func:`read_status`, but a run whose worker no longer holds its lock counts as interrupted."""
    status = read_status(run_dir)
    if status is not None and status.status in ("running", "pending") and not is_locked(run_dir):
        return replace(status, status="interrupted", pid=None, reason="its process is gone", resumable=True)
    return status


def last_lines(text: str) -> tuple[str, ...]:
    """The end of a traceback or log, without empty lines; a line that redraws itself counts as its last drawing."""
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.replace("\r\n", "\n").split("\n")]
    # faulthandler ends a crash report with a list of every compiled module.
    return tuple(line for line in lines if line and not line.startswith("Extension modules:"))[-LAST_LINES:]
