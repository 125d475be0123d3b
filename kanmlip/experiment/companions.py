"""The processes of one run besides its worker: started by it, watched by it, ended with it.

``python -m kanmlip.experiment.companions RUN_DIR RANK SIZE FOLDER PARENT [GPU]`` is such a process. It writes nothing into the run folder;
what ends it, it leaves in FOLDER, from which the worker makes the one message of the run.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.errors import ConfigError, DivergenceError, LostProcessError, OutOfMemoryError
from kanmlip.experiment.atomic import read_json, write_json
from kanmlip.experiment.death import Death, count_oom_kills, of_exception, of_exit
from kanmlip.experiment.status import Status, now, read_status, write_status

if TYPE_CHECKING:
    from kanmlip.training.ranks import Ranks

POLL_S = 0.2
END_S = 30.0  # for the others to end once training is over
# For an exchange with a process that died to fail; with NCCL it may not, and then this process has to end itself.
HANG_S = 20.0


@dataclass(frozen=True)
class Companion:
    """Another process of this run.

    Attributes:
        rank: Its number, 1 or more.
        process: The process.
        folder: Where it leaves word.
    """

    rank: int
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def ready(self) -> bool:
        """Whether it has its data and its model."""
        return (self.folder / f"ready-{self.rank}").exists()

    def death(self, oom_kills: int) -> Death | None:
        """How it ended, if it did and was not meant to.

        Args:
            oom_kills: How many processes the kernel had killed for memory before.
        """
        code = self.process.poll()
        if code is None or code == 0:
            return None
        content = read_json(self.folder / f"death-{self.rank}.json")
        if isinstance(content, dict):
            return Death(**{**content, "error": tuple(content["error"])})
        with suppress(OSError):
            return of_exit(code, (self.folder / f"output-{self.rank}").read_text(errors="replace"), count_oom_kills() - oom_kills)
        return of_exit(code, "", count_oom_kills() - oom_kills)


@contextmanager
def companions(run_dir: Path, size: int, gpus: Sequence[int] = ()) -> Iterator[Ranks]:
    """The processes of a run, from the start of training to its end.

    Args:
        run_dir: The run folder; the others read its ``config.yaml``.
        size: Processes in all, this one included; with one there is nothing to start.
        gpus: Numbers of the GPUs, one for each process, this one's first; none on the CPU.

    Yields:
        This process's place among them, the first.

    Raises:
        kanmlip.errors.KanmlipError: What ended one of the others; all are gone then.
    """
    from kanmlip.training.ranks import ALONE, joined

    if size == 1:
        yield ALONE
        return
    oom_kills, over = count_oom_kills(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="kanmlip-") as name:
        others: list[Companion] = []
        try:
            for rank in range(1, size):
                others.append(_start(run_dir, rank, size, Path(name), gpus))
            _await_ready(others, oom_kills)
            threading.Thread(target=_watch, args=(run_dir, others, oom_kills, over), daemon=True).start()
            with joined(0, size, Path(name) / "meeting", gpus[0] if gpus else None) as ranks:
                yield ranks
            _end(others)
        except LostProcessError as error:
            raise _fault(others, oom_kills) or error from None
        finally:
            over.set()
            for other in others:
                other.process.kill()
                other.process.wait()


def _start(run_dir: Path, rank: int, size: int, folder: Path, gpus: Sequence[int]) -> Companion:
    arguments = (run_dir, rank, size, folder, os.getpid(), *([gpus[rank]] if gpus else []))
    command = [sys.executable, "-m", "kanmlip.experiment.companions", *map(str, arguments)]
    with (folder / f"output-{rank}").open("wb") as output:
        # What it prints is what the worker prints; only if it dies without a word is its output looked at.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    return Companion(rank, process, folder)


def _await_ready(others: Sequence[Companion], oom_kills: int) -> None:
    while not all(other.ready for other in others):
        for other in others:
            if (death := other.death(oom_kills)) is not None:
                raise exception_of(death, other.rank)
        time.sleep(POLL_S)


def _fault(others: Sequence[Companion], oom_kills: int) -> Exception | None:
    """What ended the process that an exchange failed with."""
    deadline = time.monotonic() + HANG_S / 2
    while time.monotonic() < deadline:
        for other in others:
            death = other.death(oom_kills)
            # One that only lost its connection was ended by another's death.
            if death is not None and not death.reason.startswith("another process"):
                return exception_of(death, other.rank)
        time.sleep(POLL_S)
    return None


def _watch(run_dir: Path, others: Sequence[Companion], oom_kills: int, over: threading.Event) -> None:
    """End this process, with the run's status, if one of the others has died and the exchange with it does not fail by itself."""
    while not over.wait(POLL_S):
        for other in others:
            death = other.death(oom_kills)
            if death is not None and not over.wait(HANG_S):
                error = _fault(others, oom_kills) or exception_of(death, other.rank)
                with suppress(OSError):
                    sys.stderr.write(f"{error}\n")
                    sys.stderr.flush()
                for each in others:
                    each.process.kill()
                shutil.rmtree(other.folder, ignore_errors=True)
                with suppress(OSError):
                    _leave_word(run_dir, error)
                os._exit(1)


def _leave_word(run_dir: Path, error: Exception) -> None:
    """Write what the worker would, whose main thread may wait for ever."""
    death = of_exception(error)
    status = read_status(run_dir) or Status("running", run_dir.name)
    changes = {name: getattr(death, name) for name in ("status", "reason", "error", "resumable", "exit_code")}
    write_status(run_dir, replace(status, **changes, pid=None, finished=now()))


def _end(others: Sequence[Companion]) -> None:
    """Wait for processes that have nothing left to do."""
    deadline = time.monotonic() + END_S
    for other in others:
        with suppress(subprocess.TimeoutExpired):
            other.process.wait(max(0.0, deadline - time.monotonic()))


def exception_of(death: Death, rank: int) -> Exception:
    """What the worker raises when another process of its run ended so, for the run to end as if it had happened here."""
    if death.status == "oom":
        return OutOfMemoryError(f"{death.reason} (in process {rank} of the run)")
    if death.status == "diverged":
        return DivergenceError(death.reason)
    if death.exit_code == ConfigError.exit_code:
        return ConfigError(death.reason)
    if death.resumable:
        return LostProcessError(f"process {rank} of the run ended: {death.reason}; the same command resumes it")
    return RuntimeError(f"process {rank} of the run failed: {death.reason}\n" + "\n".join(death.error))


def main(arguments: Sequence[str]) -> int:
    """Be a process of a run besides its worker.

    Args:
        arguments: Run folder, number of this process, number of processes, folder for word, process id of the worker, and the GPU if
            it is to compute on one.
    """
    run_dir, folder = Path(arguments[0]), Path(arguments[3])
    rank, size, parent = int(arguments[1]), int(arguments[2]), int(arguments[4])
    gpu = int(arguments[5]) if len(arguments) > 5 else None
    # Requests to stop are the worker's, which ends us: else it would wait for us in the middle of a step.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.enable()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # as the worker
    end = threading.Thread(target=_end_with, args=(parent, folder), daemon=True)
    end.start()
    try:
        from kanmlip.experiment.pipeline import prepare_to_follow
        from kanmlip.training.ranks import joined

        follow = prepare_to_follow(run_dir)
        (folder / f"ready-{rank}").touch()
        with joined(rank, size, folder / "meeting", gpu) as ranks:
            follow(ranks)
    except BaseException as error:
        with suppress(OSError):  # the worker has removed the folder
            write_json(folder / f"death-{rank}.json", asdict(of_exception(error)))
        if isinstance(error, LostProcessError):
            end.join(HANG_S / 4)  # it may be the worker that is gone, and with it who removes the folder
        return 1
    return 0


def _end_with(parent: int, folder: Path) -> None:
    """End when the worker has ended: there is nothing to save here that it has not."""
    while os.getppid() == parent:
        time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)  # which it would have done, had it not been killed
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
