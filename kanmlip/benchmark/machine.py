"""Whether the machine was left alone during a measurement."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

# Load of others, in cores, from which a measurement is not to be trusted.
QUIET = 0.5
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Quietness:
    """What else ran.

    Attributes:
        load_start: The system's one-minute load average before.
        load_end: After; holds this process too.
        others: Cores that other processes used on average meanwhile; none where the system does not tell.
    """

    load_start: float
    load_end: float
    others: float | None

    @property
    def quiet(self) -> bool:
        """No more than ``QUIET`` cores went to others; by the load averages only where the system does not count CPU time."""
        # The load average at the start still holds the minute before, and at the end this process.
        others = self.others if self.others is not None else max(self.load_start, self.load_end - 1)
        return others <= QUIET

    def __str__(self) -> str:
        """A sentence for the report."""
        during = "" if self.others is None else f"; other processes took {self.others:.2f} of a core meanwhile"
        loads = f"load average {self.load_start:.2f} at the start and {self.load_end:.2f} at the end (with this process){during}"
        verdict = "The machine was quiet" if self.quiet else f"WARNING: the machine was busy (more than {QUIET}), do not use these numbers"
        return f"{verdict}: {loads}."


class Watch:
    """Watches the machine from its construction to ``stop``."""

    def __init__(self) -> None:
        self.load = os.getloadavg()[0]
        self.started = time.perf_counter()
        self.busy = _busy()
        self.own = _own()

    def stop(self) -> Quietness:
        """What else ran since."""
        elapsed = max(time.perf_counter() - self.started, 1e-9)
        busy, others = _busy(), None
        if busy is not None and self.busy is not None:
            others = max(0.0, (busy - self.busy) - (_own() - self.own)) / elapsed
        return Quietness(self.load, os.getloadavg()[0], others)


def _own() -> float:
    """CPU seconds of this process and its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _busy() -> float | None:
    """CPU seconds of everything that runs on the machine: user, nice, system, interrupts."""
    try:
        fields = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:8]]
    except (OSError, ValueError):
        return None
    user, nice, system, _, _, irq, softirq = fields
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
