"""What a disk that becomes full leaves behind: what was there before, and no unfinished file beside it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ase.build import bulk

from kanmlip.benchmark.report import write
from kanmlip.data.checksum import remember_verified, verified_before
from kanmlip.data.made import write_frames
from kanmlip.data.neighbours import build_graphs
from kanmlip.errors import DataError
from kanmlip.experiment.atomic import write_text


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes; the system then refuses to write, as it does where a disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_neighbour_lists_are_computed_without_a_cache(tmp_path: Path) -> None:
    frames = [bulk("Ag", cubic=True)] * 3
    with room_for(100):
        graphs = build_graphs(frames, 4.5, tmp_path)
    assert [int(graph.num_edges) for graph in graphs] == [4 * 18] * 3
    assert files(tmp_path) == []
    build_graphs(frames, 4.5, tmp_path)
    assert len(files(tmp_path)) == 1  # with room there is one


def test_what_was_verified_is_verified_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    with room_for(0):
        remember_verified("verified", "a file")
    assert files(tmp_path) == []
    assert not verified_before("verified", "a file")
    remember_verified("verified", "a file")
    assert verified_before("verified", "a file")


def test_frames_are_there_as_a_whole_or_not(tmp_path: Path) -> None:
    path = tmp_path / "made" / "frames.extxyz"
    with room_for(100), pytest.raises(DataError, match=r"frames\.extxyz cannot be written: .*let KANMLIP_CACHE name a folder"):
        write_frames(path, [bulk("Ag", cubic=True)] * 3)
    assert files(tmp_path) == []


def test_tables_and_benchmarks_stay_what_they_were(tmp_path: Path) -> None:
    write(tmp_path, "step", "before", {"a": 1})
    old = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with room_for(100), pytest.raises(OSError, match="File too large"):
        write(tmp_path, "step", "after " * 100, {"a": 2})
    with room_for(100), pytest.raises(OSError, match="File too large"):
        write_text(tmp_path / "step.md", "after " * 100)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == old
    assert old == {"step.md": b"before", "step.json": b'{\n "a": 1\n}\n'}
