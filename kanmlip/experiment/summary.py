"""The end of a sweep: what became of each run, as a table and as a file."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kanmlip.errors import KanmlipError
from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.folders import results_root, run_folder
from kanmlip.experiment.lock import is_locked
from kanmlip.experiment.status import Status, read_status, true_status
from kanmlip.experiment.supervisor import Planned
from kanmlip.experiment.validation import load_run_config
from kanmlip.experiment.word import Word

DAY_S = 86400.0


@dataclass(frozen=True)
class Outcome:
    """One row.

    Attributes:
        run_id: Name of the run.
        status: See :class:`kanmlip.experiment.status.Status`.
        metric: Name of the main metric, the one that training monitored.
        value: Its value at the end, none where the run did not finish.
        seconds: Of training.
        reason: One line for a run that did not finish.
    """

    run_id: str
    status: str
    metric: str
    value: float | None
    seconds: float | None
    reason: str | None


def final_status(run_id: str, word: Word | None = None) -> Status:
    """What the run folder says, the same wherever the job was executed; or its word, where that could not be written there.

    Args:
        run_id: Name of the run.
        word: That its job left, if one did.
    """
    run_dir = run_folder(run_id)
    status = true_status(run_dir)
    if word is None:
        return status or Status("pending", run_id, reason="not started")
    if status is None:
        return Status(word.status, run_id, reason=word.reason, exit_code=word.exit_code)
    # The folder may speak of an earlier attempt: it cannot be written now, or who holds it has only just begun.
    if status.status != "done" and (word.status == "failed" or (word.status == "running" and is_locked(run_dir))):
        return replace(status, status=word.status, reason=word.reason, exit_code=word.exit_code)
    return status


def outcome(planned: Planned, word: Word | None = None) -> Outcome:
    """The row of a run.

    Args:
        planned: The run.
        word: That its job left, if one did.
    """
    return row_of(planned.run_id, planned.config.trainer.monitor, final_status(planned.run_id, word))


def row_of(run_id: str, metric: str, status: Status) -> Outcome:
    """The row of a run with that status, whose main metric has that name."""
    metrics = read_json(run_folder(run_id) / "metrics.json") if status.status == "done" else None
    metrics = metrics if isinstance(metrics, dict) else {}
    reason = (status.reason or "").splitlines()[0] if status.reason else None
    if status.status == "running" and status.pid is not None:
        reason = f"process {status.pid} was still working on it"
    return Outcome(run_id, status.status, metric, metrics.get(metric), metrics.get("time/train_s"), reason)


def outcomes(planned: Sequence[Planned], words: Mapping[str, Word] | None = None) -> list[Outcome]:
    """One row a run, in the order of the jobs; jobs that name the same run share a row.

    Args:
        planned: The jobs.
        words: Run → word that its job left.
    """
    return [outcome(run, (words or {}).get(run.run_id)) for run in {run.run_id: run for run in planned}.values()]


def outcomes_chosen(words: Mapping[str, Word], sweep: str) -> list[Outcome]:
    """The same of a sweep whose jobs were not known before, because its sweeper chose them one after another.

    Args:
        words: Run → word that its job left.
        sweep: Its name, which the run folders of jobs that left no word hold.
    """
    rows = [row_of(run_id, word.metric, final_status(run_id, word)) for run_id, word in words.items()]
    for run_dir in sorted(path for path in (results_root() / "runs").glob("*") if path.name not in words):
        status = read_status(run_dir)
        if status is not None and status.sweep == sweep:
            metric = ""
            with suppress(KanmlipError):
                metric = load_run_config(run_dir).trainer.monitor
            rows.append(row_of(run_dir.name, metric, final_status(run_dir.name)))
    return rows


def format_summary(rows: Sequence[Outcome]) -> str:
    """A table for the terminal, and under it what did not finish, by name."""
    header = ("run", "status", rows[0].metric if len({row.metric for row in rows}) == 1 else "main metric", "train s", "reason")
    cells = [
        (
            row.run_id,
            row.status,
            "" if row.value is None else f"{row.value:.5g}",
            "" if row.seconds is None else f"{row.seconds:.1f}",
            _clip(row.reason or ""),
        )
        for row in rows
    ]
    widths = [*(max(len(line[i]) for line in (header, *cells)) for i in range(4)), 0]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in (header, *cells)]
    lines.insert(1, "-" * len(lines[0]))
    undone = [row.run_id for row in rows if row.status != "done"]
    lines.append(f"{len(rows) - len(undone)} of {len(rows)} runs done" + (f"; not done: {', '.join(undone)}" if undone else ""))
    return "\n".join(lines)


def write_summary(path: Path, rows: Sequence[Outcome], arguments: Sequence[str]) -> None:
    """Write the same as JSON, with the command's arguments."""
    write_json(path, {"arguments": list(arguments), "runs": [vars(row) for row in rows]})


def clear_old(folder: Path) -> None:
    """Remove what sweeps left behind whose command was killed, once it is so old that none can be at it any more.

    Args:
        folder: Of summaries.
    """
    # A request to stop is obeyed, and a file written, in minutes; between two words of jobs may lie the time of a long run.
    for pattern, age in (("*.stop", DAY_S), (".*.json.*", DAY_S), ("*.jobs", 30 * DAY_S)):
        for path in folder.glob(pattern):
            with suppress(OSError):  # another sweep has just removed it, or it is another user's
                if time.time() - path.lstat().st_mtime < age:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def exit_code(rows: Sequence[Outcome], stopped: bool) -> int:
    """0 all done, 130 stopped on request, 1 otherwise."""
    if stopped and any(row.status != "done" for row in rows):
        return 130
    return 0 if all(row.status == "done" for row in rows) else 1


def _clip(text: str, width: int = 100) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
