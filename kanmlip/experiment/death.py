"""Why a worker ended: exceptions and signals mapped to a status, out-of-memory kills told from other kills."""

from __future__ import annotations

import errno
import signal
import traceback
from dataclasses import dataclass
from pathlib import Path

from kanmlip.errors import DivergenceError, KanmlipError, LostProcessError, OutOfMemoryError
from kanmlip.experiment.status import State, last_lines

# What the machine does to a run, not what the run does: full or lost disks, rights, limits. Going on later is right.
ENVIRONMENT_ERRORS = frozenset(
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE", "ENOMEM", "ENODEV", "ENXIO", "ESTALE",
        "ETIMEDOUT", "ENOLCK", "EAGAIN", "EPIPE", "ENOTCONN", "ECONNRESET", "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH",
    )
    if hasattr(errno, name)
)  # fmt: skip

# How torch's CPU allocator and CUDA libraries word it where they raise no class of their own.
OUT_OF_MEMORY_WORDS = ("can't allocate memory", "out of memory", "cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


@dataclass(frozen=True)
class Death:
    """How a run ended without finishing; fields as in :class:`kanmlip.experiment.status.Status`."""

    status: State
    reason: str
    error: tuple[str, ...]
    resumable: bool
    exit_code: int = 1


def of_exception(error: BaseException) -> Death:
    """Classify what ended a worker in Python."""
    if isinstance(error, KeyboardInterrupt):
        return Death("interrupted", "stopped; the same command resumes it", (), resumable=True, exit_code=130)
    text = str(error).strip()
    lines = last_lines("".join(traceback.format_exception(error)))
    first = text.splitlines()[0] if text else ""
    reason = f"{type(error).__name__}: {first}" if first else type(error).__name__
    if isinstance(error, DivergenceError):
        return Death("diverged", text or "the loss diverged", last_lines(text), resumable=False)
    if isinstance(error, KanmlipError):
        state: State = "oom" if isinstance(error, OutOfMemoryError) else "failed"
        resumable = isinstance(error, (OutOfMemoryError, LostProcessError))
        return Death(state, text, last_lines(text), resumable, exit_code=error.exit_code)
    if is_out_of_memory(error):
        return Death("oom", reason, lines, resumable=True)
    if (system := fault_of_system(error)) is not None:
        where = f": {system.filename}" if system.filename else ""
        fault = f"{system.strerror or system}{where}; a fault of the machine, not of the run: the same command resumes it"
        return Death("failed", fault, lines, resumable=True)
    return Death("failed", reason, lines, resumable=False)


def fault_of_system(error: BaseException) -> OSError | None:
    """The error of the operating system that an exception is, or was raised while handling; none where it is not the machine's fault.

    torch.save says "unexpected pos" where a disk is full; what the system said stands behind it.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in ENVIRONMENT_ERRORS:
            return seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def of_exit(code: int, output: str, oom_kills: int) -> Death:
    """Classify a worker that died without saying why.

    Args:
        code: ``Popen.returncode``; minus the number of the signal that killed it.
        output: The end of what it printed.
        oom_kills: How many processes the kernel killed for memory meanwhile, as :func:`count_oom_kills` counts.
    """
    lines = last_lines(output)
    if code == -signal.SIGKILL and oom_kills > 0:
        return Death("oom", "killed by the kernel: out of memory", lines, resumable=True)
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return Death("failed", f"killed by {name}", lines, resumable=True)
    return Death("failed", f"its process ended with exit code {code} and no word", lines, resumable=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or on a GPU."""
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"}:
        return True
    return isinstance(error, RuntimeError) and any(words.lower() in str(error).lower() for words in OUT_OF_MEMORY_WORDS)


def count_oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processes were killed for memory so far in this cgroup, else on this machine; 0 where nobody counts.

    Args:
        proc: The proc filesystem.
        cgroups: Mount point of the cgroup filesystem.
    """
    try:
        groups = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        groups = []
    # Version 2 has one line "0::/path"; in a container the path may not exist under the mount, whose root then is ours.
    paths = [line.split("::", 1)[1].lstrip("/") for line in groups if "::" in line]
    for file in (*(cgroups / path / "memory.events" for path in paths), cgroups / "memory.events", proc / "vmstat"):
        try:
            for line in file.read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
        except (OSError, ValueError):
            continue
    return 0
