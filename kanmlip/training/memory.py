"""How much memory a device has left, and how much a computation took."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from kanmlip.malloc import trim

_STATUS, _CLEAR, _MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")
_OWN_GROUP, _GROUP = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class _Files(NamedTuple):
    """Names of a control group's files, and of the line about caches in its ``memory.stat``."""

    limit: str
    used: str
    cached: str


_UNIFIED = _Files("memory.max", "memory.current", "inactive_file")  # cgroup v2
_BY_CONTROLLER = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")  # cgroup v1


class Memory:
    """Of a GPU, or of this machine.

    Args:
        device: Which.
        sharers: Processes that will do the same on this machine at the same time; each GPU belongs to one of them.
    """

    def __init__(self, device: torch.device, sharers: int = 1) -> None:
        self.device = device
        self.sharers = sharers if device.type == "cpu" else 1

    @property
    def refuses_alone(self) -> bool:
        """Whether asking for too much is an exception; on a CPU it may be the end of the process."""
        return self.device.type != "cpu"

    def available(self) -> float | None:
        """Bytes that a computation could take; none where nobody tells."""
        if self.device.type != "cpu":
            free, _ = torch.cuda.mem_get_info(self.device)
            kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return float(free + kept)
        left = [room for room in (_machine(), _group()) if room is not None]
        return min(left) / self.sharers if left else None

    def peak(self, call: Callable[[], object]) -> float | None:
        """Bytes at the highest point of a call above those before it; none where the system does not tell."""
        if self.device.type != "cpu":
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
            call()
            return float(torch.cuda.max_memory_allocated(self.device) - before)
        start = None
        trim()  # what training keeps would be counted as there already
        try:
            _CLEAR.write_text("5")  # sets the high-water mark to what is resident now
            start = _resident("VmRSS")
        except (OSError, AttributeError):
            pass
        call()
        return None if start is None else max(0.0, _resident("VmHWM") - start)

    def release(self) -> None:
        """Give up what is no longer used."""
        gc.collect()
        if self.device.type != "cpu":
            torch.cuda.empty_cache()


def _resident(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise OSError(f"{_STATUS} does not tell {name}")
    return 1024.0 * int(match.group(1))


def _machine() -> float | None:
    """What the kernel says could be had without swapping."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE)
    except OSError:
        return None
    return 1024.0 * int(match.group(1)) if match else None


def _group() -> float | None:
    """What the limits of this process's control group, and of those around it, leave; none where nothing is limited.

    Slurm, for one, limits a job and not the group of its processes. Caches, which the kernel drops, count as left.
    """
    try:
        lines = [line.split(":", 2) for line in _OWN_GROUP.read_text().splitlines()]
    except OSError:
        lines = []
    left = []
    for own, files in [place for line in lines if (place := _place(line))] or [(_GROUP, _UNIFIED)]:
        for folder in (own, *own.parents):
            try:
                limit = (folder / files.limit).read_text().strip()
                used = int((folder / files.used).read_text())
                cached = re.search(rf"^{files.cached} (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
                if limit != "max":
                    left.append(float(int(limit) - used + (int(cached.group(1)) if cached else 0)))
            except (OSError, ValueError):  # the outermost group has no limits, and a container may not show its own path
                continue
    return min(left, default=None)


def _place(line: list[str]) -> tuple[Path, _Files] | None:
    """The folder that a line ``number:controllers:path`` of /proc/self/cgroup stands for, if it is about memory."""
    if len(line) < 3:
        return None
    number, controllers, path = line
    if number == "0" and not controllers:
        return _GROUP / path.lstrip("/"), _UNIFIED
    if "memory" in controllers.split(","):
        return _GROUP / "memory" / path.lstrip("/"), _BY_CONTROLLER
    return None
