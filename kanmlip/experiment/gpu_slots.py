"""Who computes on a device at a time: runs wait for room on a GPU, and every run learns how crowded its device has been.

Each device has a folder in the cache, with a file for each run on it. A run holds an advisory lock on its file as long as it lives;
who comes writes into the files of all how many they are now, so that nobody needs to watch. Other users, other machines and programs
that are not runs of ours are not seen.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

POLL_S = 0.5
GUARD = ".lock"


@dataclass(frozen=True)
class Device:
    """Something to compute on.

    Attributes:
        name: Of its folder, the same for every process on this machine.
        capacity: The load beyond which runs take time from each other: threads on a CPU, runs on a GPU.
        index: Of a GPU among those that this process sees; none for the CPU.
    """

    name: str
    capacity: int
    index: int | None = None


@dataclass(frozen=True)
class Entry:
    """What the file of a run on a device says.

    Attributes:
        load: What it takes of the capacity.
        limit: How many runs it accepts on the device, itself among them; none for any number.
        runs: The most there were at a time so far.
        peak: The largest sum of loads so far.
    """

    load: int = 1
    limit: int | None = None
    runs: int = 1
    peak: int = 1

    def beside(self, runs: int, load: int) -> Entry:
        """With that many runs of that load at this moment."""
        return replace(self, runs=max(self.runs, runs), peak=max(self.peak, load))


class Place:
    """A run's place on a device, given back when its file is closed, also by the death of the process."""

    def __init__(self, device: Device, file: IO[str], path: Path) -> None:
        self.device, self._file, self._path = device, file, path

    def facts(self) -> dict[str, Any]:
        """For ``environment.json``: the most runs on the device at a time so far, and whether they took time from each other."""
        entry = _read(self._path) or Entry()
        return {"runs_at_once": entry.runs, "shared": entry.peak > self.device.capacity}

    def leave(self, finished: bool) -> None:
        """Give it back; a run that will be gone on with leaves word of how crowded it was."""
        if finished:
            self._path.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def place_on(
    devices: Sequence[Device], run: str, folder: Path, load: int = 1, limit: int | None = None, fresh: bool = True
) -> Iterator[Place]:
    """Hold a place on the emptiest of some devices; waits while all are full.

    Args:
        devices: To choose from.
        run: Name of the file, which no other process may use; see :func:`name_of`.
        folder: Of all devices; see :func:`devices_folder`.
        load: What the run takes of a device's capacity.
        limit: How many runs it accepts there, itself among them; that of a run that came before counts as well.
        fresh: Whether it starts from the beginning, so that it does not matter how crowded an earlier attempt was.

    Yields:
        The place.
    """
    place = _first(devices, run, folder, Entry(load, limit, 1, load), fresh)
    if place is None:
        print(f"waiting for room on a GPU (trainer.gpu_slots={limit}; {_crowd(devices, folder)})", flush=True)
    while place is None:
        time.sleep(POLL_S)
        place = _first(devices, run, folder, Entry(load, limit, 1, load), fresh)
    finished = False
    try:
        yield place
        finished = True
    finally:
        place.leave(finished)


def devices_folder(cache: Path) -> Path:
    """Where the devices of this machine have their folders, in a cache that machines may share."""
    return cache / "devices" / socket.gethostname()


def name_of(run_dir: Path) -> str:
    """Of a run among all on a machine: the same settings may be run into two results roots at a time."""
    return f"{run_dir.name}-{hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()[:6]}"


def find_devices(device: str) -> list[Device]:
    """The CPU, or every GPU that this process sees.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [Device("cpu", cores)]
    import torch

    names = [str(getattr(torch.cuda.get_device_properties(i), "uuid", i)) for i in range(torch.cuda.device_count())]
    return [Device(f"gpu-{name}", 1, index) for index, name in enumerate(names)]


def _first(devices: Sequence[Device], run: str, folder: Path, entry: Entry, fresh: bool) -> Place | None:
    """A place on the first device with room, the emptiest first."""
    for device in sorted(devices, key=lambda device: len(_living(folder / device.name))):
        place = _enter(device, run, folder / device.name, entry, fresh)
        if place is not None:
            return place
    return None


def _enter(device: Device, run: str, folder: Path, entry: Entry, fresh: bool) -> Place | None:
    """A place on a device; none where it is full for us or for who is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / run
    with (folder / GUARD).open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # one at a time; ends with the file
        others = {other: found for other, found in _living(folder).items() if other != path}
        limits = [found.limit for found in (*others.values(), entry) if found.limit is not None]
        runs, load = len(others) + 1, entry.load + sum(found.load for found in others.values())
        if limits and runs > min(limits):
            return None
        earlier = None if fresh else _read(path)
        file = path.open("a+")
        fcntl.flock(file, fcntl.LOCK_EX)  # at once: the run folder's lock keeps others from this name, and who looks in lets go of it
        if earlier is not None:
            entry = entry.beside(earlier.runs, earlier.peak)
        for other, found in {**others, path: entry}.items():
            with suppress(FileNotFoundError):  # who leaves at this moment asks nobody
                _write(other, found.beside(runs, load))
    return Place(device, file, path)


def _living(folder: Path) -> dict[Path, Entry]:
    """The runs on a device whose process is alive."""
    found = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        if path.name != GUARD and _is_held(path):
            found[path] = _read(path) or Entry()
    return found


def _is_held(path: Path) -> bool:
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who looks in at the same time is no holder
    except BlockingIOError:
        return True
    except FileNotFoundError:  # it has just ended
        return False
    return False


def _read(path: Path) -> Entry | None:
    """What a run's file says; none where it says nothing, as one of a run that was killed while it wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Entry(**{name: content[name] for name in Entry.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, entry: Entry) -> None:
    """In place, because the lock belongs to the file; short enough for one call of the system."""
    with path.open("r+", encoding="utf-8") as file:
        file.write(f"{json.dumps(asdict(entry)):<200}")


def _crowd(devices: Sequence[Device], folder: Path) -> str:
    """Who is where, for a message."""
    return "; ".join(f"{device.name}: {', '.join(path.name for path in _living(folder / device.name))}" for device in devices)
