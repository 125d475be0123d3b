"""The process of one run: ``python -m kanmlip.experiment.worker RUN_DIR`` executes the pipeline and leaves its status."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from types import FrameType

from kanmlip.experiment.status import Status, now, read_status, write_status
from kanmlip.experiment.stop import WORKER_SIGNALS, listen

PARENT_POLL_S = 0.5
ORPHAN_S = 60.0  # for a worker without a supervisor to write its checkpoint; then it ends, for others to go on from that

_interrupted = False


def main(arguments: list[str]) -> int:
    """Run one folder's ``config.yaml``.

    Args:
        arguments: The run folder, and the process that waits for us if it is not our parent that does.

    Returns:
        The exit code: 0 done, 1 failed, 2 wrong input, 130 interrupted.
    """
    began = time.perf_counter()
    run_dir = Path(arguments[0])
    status = replace(read_status(run_dir) or Status("running", run_dir.name), status="running", pid=os.getpid(), started=now())
    for number in WORKER_SIGNALS:
        signal.signal(number, _interrupt)
    faulthandler.enable()
    _volunteer_for_oom_killer()
    write_status(run_dir, status)
    # The supervisor may have died before we could ask who our parent is.
    parent = int(arguments[1]) if len(arguments) > 1 else os.getppid()
    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    try:
        listen()
        from kanmlip.experiment.pipeline import run

        run(run_dir, began)
    except BaseException as error:
        final = _failed(status, error, orphaned=os.getppid() != parent)
    else:
        final = replace(status, status="done", reason=None, error=(), exit_code=0, forced=False)
    _ignore_interrupts()
    write_status(run_dir, replace(final, pid=None, finished=now()))
    return final.exit_code


def _failed(status: Status, error: BaseException, orphaned: bool) -> Status:
    from kanmlip.errors import KanmlipError, LostProcessError
    from kanmlip.experiment.death import of_exception

    # Output that nobody reads any more fails too; what ended the run then is the parent's death.
    if orphaned and isinstance(error, OSError):
        error = KeyboardInterrupt()
    # An interrupt that arrives inside of a library may come out as another exception of its; one that all processes of a run get, as the
    # death of another.
    if _interrupted and (not isinstance(error, KanmlipError) or isinstance(error, LostProcessError)):
        error = KeyboardInterrupt()
    death = of_exception(error)
    if not orphaned and isinstance(error, KanmlipError):
        sys.stderr.write(f"{error}\n")
    elif not orphaned and not isinstance(error, KeyboardInterrupt):
        traceback.print_exception(error)
    return replace(
        status, status=death.status, reason=death.reason, error=death.error, resumable=death.resumable, exit_code=death.exit_code
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted  # noqa: PLW0603 - a signal handler has nowhere else to write
    _interrupted = True
    # One is enough: a second one must not tear the writing of a checkpoint or of the status.
    _ignore_interrupts()
    raise KeyboardInterrupt


def _ignore_interrupts() -> None:
    for number in WORKER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _watch_parent(parent: int) -> None:
    """Stop, resumably, when the process that waits for us is gone: nobody would start the next run or read the result."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(ORPHAN_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _volunteer_for_oom_killer() -> None:
    """Where memory runs out, the kernel shall take this run and not the sweep that waits for it."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
