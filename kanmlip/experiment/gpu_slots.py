"""Who computes on a device at a time: runs wait for room on GPUs, and every run learns how crowded its device has been.

Each device has a folder in the cache, with a file for each run on it. A run holds an advisory lock on its files as long as it lives;
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
        shared: Whether they took time from each other: their loads came to more than the capacity.
    """

    load: int = 1
    limit: int | None = None
    runs: int = 1
    shared: bool = False

    def beside(self, runs: int, load: int, capacity: int) -> Entry:
        """With that many runs of that load, on a device of that capacity, at this moment."""
        return replace(self, runs=max(self.runs, runs), shared=self.shared or load > capacity)

    def after(self, earlier: Sequence[Entry]) -> Entry:
        """Knowing how crowded earlier attempts at the same run were, on whatever devices."""
        return replace(self, runs=max(self.runs, *(e.runs for e in earlier), 1), shared=self.shared or any(e.shared for e in earlier))


class Place:
    """A run's place on a device, or on several at once; given back when its files are closed, also by the death of the process.

    Attributes:
        devices: Which.
    """

    def __init__(self, devices: Sequence[Device], held: Sequence[tuple[IO[str], Path]]) -> None:
        self.devices, self._held = tuple(devices), tuple(held)

    @property
    def gpus(self) -> tuple[int, ...]:
        """Numbers of the GPUs, one for each process of the run; none on a CPU."""
        return tuple(device.index for device in self.devices if device.index is not None)

    def facts(self) -> dict[str, Any]:
        """For ``environment.json``: the most runs on a device at a time so far, and whether they took time from each other.

        Both are null where runs cannot be counted.
        """
        entries = [_read(path) or Entry() for _, path in self._held]
        if not entries:
            return {"runs_at_once": None, "shared": None}
        return {"runs_at_once": max(entry.runs for entry in entries), "shared": any(entry.shared for entry in entries)}

    def leave(self, finished: bool) -> None:
        """Give it back; a run that will be gone on with leaves word of how crowded it was."""
        for file, path in self._held:
            if finished:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            file.close()


@contextmanager
def place_on(
    devices: Sequence[Device],
    run: str,
    folder: Path,
    load: int = 1,
    limit: int | None = None,
    fresh: bool = True,
    count: int = 1,
    elsewhere: Path | None = None,
) -> Iterator[Place]:
    """Hold a place on the emptiest of some devices; waits while there are too few with room.

    Args:
        devices: To choose from, ``count`` or more.
        run: Name of the files, which no other process may use; see :func:`name_of`.
        folder: Of all devices; see :func:`devices_folder`. Where it cannot be written, runs go on without being counted.
        load: What the run takes of a device's capacity.
        limit: How many runs it accepts on a device, itself among them; that of a run that came before counts as well.
        fresh: Whether it starts from the beginning, so that it does not matter how crowded an earlier attempt was.
        count: Devices that it needs; it takes all at once, or waits and holds none.
        elsewhere: Folder of such folders of other machines too, where earlier attempts at the run may have left word; none if there are
            no others.

    Yields:
        The place.
    """
    entry, waiting = Entry(load, limit), False
    try:
        while (place := _take(devices, run, folder, entry, fresh, count, elsewhere)) is None:
            if not waiting:
                wanted = "a GPU" if count == 1 else f"{count} GPUs"
                print(f"waiting for room on {wanted} (trainer.gpu_slots={limit}; {_crowd(devices, folder)})", flush=True)
            waiting = True
            time.sleep(POLL_S)
    except OSError as error:
        print(f"runs on this device cannot be counted ({error}): whether it is shared stays unknown", flush=True)
        place = Place(devices[:count], ())
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

    The cores that a process may use are its CPU: jobs to which a cluster gives different cores do not share.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
        return [Device(f"cpu-{hashlib.sha256(str(cores).encode()).hexdigest()[:8]}", len(cores))]
    import torch

    names = [str(getattr(torch.cuda.get_device_properties(i), "uuid", i)) for i in range(torch.cuda.device_count())]
    return [Device(f"gpu-{name}", 1, index) for index, name in enumerate(names)]


def _take(
    devices: Sequence[Device], run: str, folder: Path, entry: Entry, fresh: bool, count: int, elsewhere: Path | None = None
) -> Place | None:
    """A place on as many devices, the emptiest that have room for us and for who is there; none if they are too few."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / GUARD).open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # one at a time; ends with the file
        others = {device: _living(folder / device.name) for device in devices}
        free = [device for device in devices if _has_room(others[device], entry)]
        chosen = sorted(free, key=lambda device: len(others[device]))[:count]
        if len(chosen) < count:
            return None
        earlier = _earlier(run, folder)
        for other in (path for path in (elsewhere.iterdir() if elsewhere is not None else ()) if path.is_dir() and path != folder):
            with suppress(OSError):  # another user's, or it has just been removed
                earlier += _earlier(run, other)
        mine = entry if fresh else entry.after(earlier)
        return Place(chosen, [_enter(device, run, folder / device.name, mine, others[device]) for device in chosen])


def _has_room(others: dict[Path, Entry], entry: Entry) -> bool:
    limits = [found.limit for found in (*others.values(), entry) if found.limit is not None]
    return not limits or len(others) + 1 <= min(limits)


def _enter(device: Device, run: str, folder: Path, entry: Entry, others: dict[Path, Entry]) -> tuple[IO[str], Path]:
    folder.mkdir(exist_ok=True)
    path = folder / run
    file = path.open("a+")
    fcntl.flock(file, fcntl.LOCK_EX)  # at once: the run folder's lock keeps others from this name, and who looks in lets go of it
    runs, load = len(others) + 1, entry.load + sum(found.load for found in others.values())
    for other, found in {**others, path: entry}.items():
        with suppress(FileNotFoundError):  # who leaves at this moment asks nobody
            _write(other, found.beside(runs, load, device.capacity))
    return file, path


def _earlier(run: str, folder: Path) -> list[Entry]:
    """What earlier attempts at a run left on any device of a machine; their files are removed."""
    found = []
    for device in (path for path in folder.iterdir() if path.is_dir()):
        entry = _read(device / run)
        if entry is not None:
            found.append(entry)
        (device / run).unlink(missing_ok=True)
    return found


def _living(folder: Path) -> dict[Path, Entry]:
    """The runs on a device whose process is alive."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path: _read(path) or Entry() for path in paths if _is_held(path)}


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
