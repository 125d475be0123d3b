"""Word that each job of a command leaves for its summary: a run folder does not tell of a run that could not be begun.

Jobs are made in this process or, by a launcher, in others, which leave theirs in a folder beside the sweep's summary.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.status import STATES, State
from kanmlip.experiment.stop import STOP_FILE_VARIABLE

REFUSED = "(refused)"  # in the place of a name; only where a sweeper chose settings that cannot be


@dataclass(frozen=True)
class Word:
    """How a job ended.

    Attributes:
        run_id: Name of the run, or :data:`REFUSED`.
        status: See :class:`kanmlip.experiment.status.Status`.
        reason: Why, for one that is not done.
        exit_code: Of a command that ran this alone.
        metric: Name of the main metric.
    """

    run_id: str
    status: State
    reason: str | None = None
    exit_code: int = 0
    metric: str = ""


_left: list[Word] = []


def forget() -> None:
    """Begin a command."""
    _left.clear()


def leave(word: Word) -> None:
    """Called by every job at its end."""
    _left.append(word)
    stop_file = os.environ.get(STOP_FILE_VARIABLE)
    if stop_file:
        with suppress(OSError):  # a full disk; who is in the commanding process is heard all the same
            write_json(words_folder(Path(stop_file)) / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json", asdict(word))


def take(stop_file: Path | None) -> dict[str, Word]:
    """The words of all jobs, by run, in the order of their ends; they are forgotten after that.

    Args:
        stop_file: Of the sweep, see :mod:`kanmlip.experiment.stop`; none for a single run.
    """
    words = list(_left)
    if stop_file is not None:
        folder = words_folder(stop_file)
        words = words or list(_read(sorted(folder.glob("*.json"))))
        shutil.rmtree(folder, ignore_errors=True)
    forget()
    found: dict[str, Word] = {}
    for word in words:
        # Of two jobs that are the same run one may have found the other at work.
        if word.run_id not in found or word.status != "running":
            found[word.run_id] = word
    return found


def words_folder(stop_file: Path) -> Path:
    """Where the jobs of a sweep leave word."""
    return stop_file.with_suffix(".jobs")


def _read(paths: Iterable[Path]) -> Iterable[Word]:
    for path in paths:
        content = read_json(path)
        with suppress(TypeError):
            if isinstance(content, dict) and content.get("status") in STATES:
                yield Word(**content)
