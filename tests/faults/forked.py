"""``kanmlip-train`` in forks of a process that has imported everything, worker included: a start takes no seconds, and all else is real.

Processes, sessions, signals, locks and files are those of a command that a user starts; only the start of the interpreter is missing.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.integration.application import FAKES

PRELOADED = (
    "torch", "lightning.fabric", "torchmetrics", "hydra.main", "hydra._internal.core_plugins.basic_launcher", "matscipy.neighbours",
    "kanmlip.cli.train", "kanmlip.evaluation.assessment", "kanmlip.experiment.plan", "kanmlip.experiment.pipeline",
    "kanmlip.experiment.supervisor", "kanmlip.experiment.summary",
    "kanmlip.training.loop", "tests.integration.fakes",
)  # fmt: skip


# Not MACE, whose import changes how torch.load reads: kanmlip sees to that where it builds one.
UPSTREAM = ("nequip.model", "allegro.model")
HELD = (signal.SIGINT, signal.SIGTERM)


class Forked:
    """A forked process with as much of ``subprocess.Popen`` as the supervisor uses.

    Args:
        body: Runs in the child; its result is the exit code.
        output: Descriptor of the child's stdout and stderr.
        keep: Further descriptors that the child keeps open.
        before: Called in the child before anything else.
    """

    def __init__(self, body: Callable[[], int], output: int, keep: Sequence[int] = (), before: Callable[[], None] | None = None) -> None:
        self.returncode: int | None = None
        # No signal may reach the child while it still has its parent's handlers and stack.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(body, output, keep, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def poll(self) -> int | None:
        """The exit code, minus the signal's number, or none."""
        return self._ask(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end."""
        if timeout is None:
            code = self._ask(0)
            if code is None:
                raise ChildProcessError(self.pid)
            return code
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("forked process", timeout)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ask(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def worker(
    arguments: Sequence[str],
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    pass_fds: Sequence[int],
    start_new_session: bool,
    env: Mapping[str, str],
) -> Forked:
    """In the place of ``subprocess.Popen`` in the supervisor."""
    from kanmlip.experiment.worker import main

    def before() -> None:
        os.environ.clear()
        os.environ.update(env)

    return Forked(lambda: main(list(arguments[3:])), stdout, pass_fds, before)


def preload() -> None:
    """Import everything that a command or a worker needs."""
    for name in PRELOADED:
        importlib.import_module(name)


def start_planned(planned: Sequence[Any], output: Path, before: Callable[[], None] | None = None, **extra: str) -> Forked:
    """Begin runs that were composed and validated before, one after another, as ``kanmlip-train -m`` would."""
    preload()

    def body() -> int:
        from kanmlip.experiment import supervisor
        from kanmlip.experiment.folders import sweep_path
        from kanmlip.experiment.stop import GO_ON, stop_requested, stoppable
        from kanmlip.experiment.summary import exit_code, outcomes

        os.environ.update(extra)
        supervisor.subprocess = _Launches()  # type: ignore[assignment]
        with stoppable(sweep_path(f"{time.time_ns()}").with_suffix(".stop")):
            for run in planned:
                supervisor.supervise(run)
            stopped = stop_requested() != GO_ON
        return exit_code(outcomes(planned), stopped)

    with output.open("ab") as file:
        return Forked(body, file.fileno(), before=before)


def start(*arguments: str, output: Path, before: Callable[[], None] | None = None, **extra: str) -> Forked:
    """Begin ``kanmlip-train`` with the fakes at hand; what it prints goes to a file.

    Args:
        arguments: Of the command line.
        output: The file, appended to.
        before: Called in the child first, to set its limits.
        extra: Environment.
    """
    preload()

    def body() -> int:
        from kanmlip.cli.train import main
        from kanmlip.experiment import supervisor

        os.environ.update(extra)
        supervisor.subprocess = _Launches()  # type: ignore[assignment]
        sys.argv = ["kanmlip-train", "--config-dir", str(FAKES), *arguments]
        main()
        return 0

    with output.open("ab") as file:
        return Forked(body, file.fileno(), before=before)


def train(*arguments: str, output: Path, before: Callable[[], None] | None = None, **extra: str) -> tuple[int, str]:
    """Run to the end; exit code and what this call printed."""
    size = output.stat().st_size if output.exists() else 0
    code = start(*arguments, output=output, before=before, **extra).wait(timeout=300)
    return code, output.read_bytes()[size:].decode()


def main() -> None:
    """``python -m tests.faults.forked``: ``kanmlip-train`` with forked workers."""
    preload()
    for name in UPSTREAM:
        with suppress(ImportError):
            importlib.import_module(name)
    from kanmlip.cli.train import main as train_main
    from kanmlip.experiment import supervisor

    supervisor.subprocess = _Launches()  # type: ignore[assignment]
    train_main()


class _Launches:
    """The module ``subprocess`` with our way of starting a worker."""

    def __init__(self) -> None:
        self.Popen = worker

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def _be_child(body: Callable[[], int], output: int, keep: Sequence[int], before: Callable[[], None] | None) -> None:
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        bounds = [2, *sorted(set(keep)), 65536]
        for low, high in pairwise(bounds):
            os.closerange(low + 1, high)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        if before is not None:
            before()
        code = body()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
