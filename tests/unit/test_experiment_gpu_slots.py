"""Runs on one device: room, waiting, and how crowded it was."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kanmlip.experiment import companions, gpu_slots, pipeline
from kanmlip.experiment.gpu_slots import Device, devices_folder, find_devices, place_on
from kanmlip.training.config import TrainerConfig

GPU = Device("gpu-a", 1, 0)
OTHER = Device("gpu-b", 1, 1)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_slots, "POLL_S", 0.01)


def test_alone_and_one_after_another_share_nothing(tmp_path: Path) -> None:
    for run in ("a", "b", "a"):
        with place_on([GPU], run, tmp_path, limit=1) as place:
            assert place.facts() == {"runs_at_once": 1, "shared": False}


def test_a_full_gpu_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entered = []

    def second() -> None:
        with place_on([GPU], "second", tmp_path, limit=1) as place:
            entered.append(place.facts())

    with place_on([GPU], "first", tmp_path, limit=1) as place:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        assert entered == []
        assert place.facts() == {"runs_at_once": 1, "shared": False}, "who waits disturbs nobody"
    thread.join(10)
    assert entered == [{"runs_at_once": 1, "shared": False}]
    assert "waiting for room on a GPU (trainer.gpu_slots=1; gpu-a: first)" in capsys.readouterr().out


def test_two_on_one_gpu_both_know(tmp_path: Path) -> None:
    with place_on([GPU], "first", tmp_path, limit=2) as first:
        with place_on([GPU], "second", tmp_path, limit=2) as second:
            assert second.facts() == {"runs_at_once": 2, "shared": True}
        assert first.facts() == {"runs_at_once": 2, "shared": True}, "also after the other has gone"
        with place_on([GPU], "third", tmp_path, limit=2) as third:
            assert third.facts()["runs_at_once"] == 2


def test_the_smaller_limit_counts(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(place_on([GPU], "alone", tmp_path, limit=1))
        assert gpu_slots._take([GPU], "sociable", tmp_path, gpu_slots.Entry(limit=4), True, 1) is None


def test_the_emptier_gpu_is_taken(tmp_path: Path) -> None:
    with place_on([GPU, OTHER], "first", tmp_path, limit=2) as first, place_on([GPU, OTHER], "second", tmp_path, limit=2) as second:
        assert (first.gpus, second.gpus) == ((0,), (1,))
        assert not second.facts()["shared"]
        with place_on([GPU, OTHER], "third", tmp_path, limit=2) as third:
            assert third.facts()["shared"]


def test_a_run_that_is_gone_on_with_remembers(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), place_on([GPU], "run", tmp_path, limit=2), place_on([GPU], "other", tmp_path, limit=2):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), place_on([GPU], "run", tmp_path, limit=2, fresh=False) as place:
        assert place.facts()["shared"]
        raise KeyboardInterrupt
    with place_on([GPU], "run", tmp_path, limit=2, fresh=True) as place:
        assert not place.facts()["shared"], "begun anew it was alone"


def test_a_run_that_goes_on_elsewhere_remembers_how_crowded_it_was(tmp_path: Path) -> None:
    wide = Device("cpu", 8)
    with pytest.raises(KeyboardInterrupt), place_on([wide], "run", tmp_path, load=4), place_on([wide], "other", tmp_path, load=4):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), place_on([GPU], "run", tmp_path, limit=2, fresh=False) as place:
        assert place.facts() == {"runs_at_once": 2, "shared": False}, "eight threads on eight cores disturb nobody"
        with place_on([GPU], "other", tmp_path, limit=2):
            raise KeyboardInterrupt
    with place_on([OTHER], "run", tmp_path, limit=2, fresh=False) as place:
        assert place.facts() == {"runs_at_once": 2, "shared": True}
    assert [path.name for path in tmp_path.rglob("run")] == []


def test_a_run_that_goes_on_on_another_machine_remembers_how_crowded_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    monkeypatch.setattr(pipeline, "find_devices", lambda device: [GPU])
    config: Any = SimpleNamespace(trainer=TrainerConfig(gpu_slots=2))

    def on(machine: str, run: str) -> Any:
        monkeypatch.setattr(gpu_slots.socket, "gethostname", lambda: machine)
        return pipeline.device_place(config, "cuda", tmp_path / "runs" / run)

    run = tmp_path / "runs" / "run"
    run.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), on("node-a", "run") as place:
        assert place.facts() == {"runs_at_once": 1, "shared": False}, "what environment.json has of it"
        (run / "environment.json").write_text("{}")
        with on("node-a", "other"):
            raise KeyboardInterrupt
    with on("node-b", "run") as place:
        assert place.facts() == {"runs_at_once": 2, "shared": True}
    assert [path.name for path in tmp_path.glob("devices/*/*/run-*")] == []


def test_a_run_on_two_gpus_has_both_or_waits(tmp_path: Path) -> None:
    gpus = [GPU, OTHER, Device("gpu-c", 1, 2)]
    entered = threading.Event()

    def pair(place_taken: threading.Event) -> None:
        with place_on(gpus, "pair", tmp_path, limit=1, count=2) as place:
            found.append(place.gpus)
            place_taken.set()

    found: list[tuple[int, ...]] = []
    with place_on(gpus, "first", tmp_path, limit=1) as first, place_on(gpus, "second", tmp_path, limit=1) as second:
        assert (first.gpus, second.gpus) == ((0,), (1,))
        thread = threading.Thread(target=pair, args=(entered,))
        thread.start()
        assert not entered.wait(0.2)
        # It holds none of the one that is free meanwhile.
        with place_on(gpus, "third", tmp_path, limit=1) as third:
            assert third.gpus == (2,)
    thread.join(10)
    assert [len(set(numbers)) for numbers in found] == [2]


def test_both_gpus_of_a_run_count_who_comes_to_either(tmp_path: Path) -> None:
    with place_on([GPU, OTHER], "pair", tmp_path, limit=2, count=2) as pair:
        assert pair.gpus == (0, 1)
        assert pair.facts() == {"runs_at_once": 1, "shared": False}
        with place_on([OTHER], "single", tmp_path, limit=2):
            pass
        assert pair.facts() == {"runs_at_once": 2, "shared": True}
    assert not list(tmp_path.glob("*/pair"))


def test_where_runs_cannot_be_counted_they_go_on_and_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with place_on([GPU, OTHER], "run", blocked / "devices", limit=1) as place:
        assert place.gpus == (0,)
        assert place.facts() == {"runs_at_once": None, "shared": None}
    assert "cannot be counted" in capsys.readouterr().out


def test_a_dead_process_gives_its_place_back(tmp_path: Path) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with place_on([GPU], "killed", tmp_path, limit=1):
            os.write(write, b"in")
            time.sleep(60)
        os._exit(0)
    assert os.read(read, 2) == b"in"
    assert [path.name for path in gpu_slots._living(tmp_path / GPU.name)] == ["killed"]
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with place_on([GPU], "next", tmp_path, limit=1) as place:
        assert place.facts() == {"runs_at_once": 1, "shared": False}


def test_a_cpu_is_crowded_by_more_threads_than_cores(tmp_path: Path) -> None:
    cpu = find_devices("cpu")[0]
    assert cpu.capacity == len(os.sched_getaffinity(0))
    with place_on([cpu], "wide", devices_folder(tmp_path), load=cpu.capacity) as wide:
        assert wide.facts() == {"runs_at_once": 1, "shared": False}
        with place_on([cpu], "narrow", devices_folder(tmp_path), load=1) as narrow:
            assert narrow.facts() == {"runs_at_once": 2, "shared": True}
        assert wide.facts()["shared"]


def test_a_run_of_several_processes_takes_as_many_gpus_or_as_much_more_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    monkeypatch.setattr(pipeline, "find_devices", lambda device: [Device("cpu", 8)] if device == "cpu" else [GPU, OTHER])
    config: Any = SimpleNamespace(trainer=TrainerConfig(devices=2, threads=3))
    with pipeline.device_place(config, "cpu", tmp_path / "run") as place:
        assert place.gpus == ()
        assert [entry.load for entry in gpu_slots._living(devices_folder(tmp_path) / "cpu").values()] == [6]
    with pipeline.device_place(config, "cuda", tmp_path / "run") as place:
        assert place.gpus == (0, 1)


def test_the_processes_of_a_run_are_told_its_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(companions.subprocess, "Popen", lambda command, **_: commands.append(command))
    for rank in (1, 2):
        companions._start(tmp_path, rank, 3, tmp_path, (4, 7, 5))
    companions._start(tmp_path, 1, 2, tmp_path, ())
    assert [command[4:6] + command[8:] for command in commands] == [["1", "3", "7"], ["2", "3", "5"], ["1", "2"]]


def test_crowding_of_an_earlier_attempt_is_kept_and_the_unknown_stays_unknown() -> None:
    def facts(runs: int | None, shared: bool | None) -> Any:
        return SimpleNamespace(facts=lambda: {"runs_at_once": runs, "shared": shared})

    assert pipeline._crowding(facts(1, False), {}) == {"runs_at_once": 1, "shared": False}
    assert pipeline._crowding(facts(1, False), {"runs_at_once": 3, "shared": True}) == {"runs_at_once": 3, "shared": True}
    assert pipeline._crowding(facts(None, None), {"runs_at_once": 3, "shared": False}) == {"runs_at_once": 3, "shared": None}
    assert pipeline._crowding(facts(None, None), {"shared": True}) == {"runs_at_once": None, "shared": True}
