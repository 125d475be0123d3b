"""The largest batches come first, and where memory does not suffice the message says which setting to lower, and to what."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kanmlip.data.batching import Sizes
from kanmlip.data.graph import Graph
from kanmlip.data.neighbours import build_graphs
from kanmlip.errors import ConfigError, OutOfMemoryError
from kanmlip.experiment.death import of_exception
from kanmlip.training import fit
from kanmlip.training import loop as training_loop
from kanmlip.training import memory as training_memory
from kanmlip.training.config import TrainerConfig
from kanmlip.training.memory import Memory
from kanmlip.training.preflight import preflight
from kanmlip.training.ranks import ALONE, Ranks
from tests.fakes import PairPotential, pair_frames

CPU = torch.device("cpu")
BYTES_PER_EDGE = 1e6


@pytest.fixture(scope="module")
def train() -> list[Graph]:
    return build_graphs(pair_frames(12, sizes=(1, 2, 3)), 3.5)


@pytest.fixture(scope="module")
def val() -> list[Graph]:
    return build_graphs(pair_frames(5, seed=1, sizes=(1, 2)), 3.5)


def settings(**changes: Any) -> TrainerConfig:
    base = {"max_epochs": 2, "precision": "float64", "progress_bar": False, "device": "cpu", "batch_size": 4, "eval_batch_size": 2}
    return TrainerConfig(**{**base, **changes})


class Small(PairPotential):
    """A potential on a device that holds so many edges, a megabyte each, in training mode or in any."""

    def __init__(self, training: float = float("inf"), any_mode: float = float("inf")) -> None:
        super().__init__()
        self.most = {True: min(training, any_mode), False: any_mode}
        self.seen: list[tuple[bool, int]] = []

    def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, torch.Tensor]:
        edges = graph.edge_index.shape[1]
        self.seen.append((self.training, edges))
        if edges > self.most[self.training]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return super().forward(graph, compute_stress)


class Told(Memory):
    """Memory that is what the test says: room in edges of a megabyte; a GPU unless the kernel is to kill."""

    def __init__(self, room: float, potential: Small, kills: bool = False) -> None:
        super().__init__(CPU)
        self.room, self.potential, self.kills = room, potential, kills

    @property
    def refuses_alone(self) -> bool:
        return not self.kills

    def available(self) -> float | None:
        return self.room * BYTES_PER_EDGE

    def peak(self, call: Callable[[], object]) -> float | None:
        call()
        return self.potential.seen[-1][1] * BYTES_PER_EDGE


def fly(potential: Small, config: TrainerConfig, train: list[Graph], val: list[Graph], memory: Memory, ranks: Ranks = ALONE) -> None:
    def gradients(part: Any) -> None:
        output = potential(part.graph, compute_stress=False)
        output["energy"].sum().backward()

    preflight(potential, gradients, config, {"training": train, "validation": val}, CPU, ranks, memory)


def edges(graphs: list[Graph]) -> list[int]:
    return sorted((int(count) for count in Sizes.of(graphs).edges), reverse=True)


def test_the_largest_batches_are_computed_before_the_first_epoch_and_change_nothing(
    train: list[Graph], val: list[Graph], tmp_path: Path
) -> None:
    results = {}
    for name, preflight_too in (("with", True), ("without", False)):
        potential = Small()
        fit(potential, train, val, settings(preflight=preflight_too), tmp_path / name, [], 1, {})
        results[name] = (potential.seen, dict(potential.state_dict()))
    extra = len(results["with"][0]) - len(results["without"][0])
    assert extra > 0
    before = results["with"][0][:extra]
    assert results["with"][0][extra:] == results["without"][0]
    assert (True, sum(edges(train)[:4])) in before
    # The training set is evaluated at the end of a run, in its own order.
    in_order = [sum(edges(train[i : i + 2])) for i in range(0, 12, 2)]
    assert (False, max(in_order)) in before
    assert all(torch.equal(value, results["without"][1][key]) for key, value in results["with"][1].items())


def test_the_first_process_tries_what_it_evaluates_alone_at_the_end(train: list[Graph], val: list[Graph]) -> None:
    potential = Small()
    fly(potential, settings(), train, val, Told(1e9, potential), Ranks(0, 6))
    assert (False, max(sum(edges(train[i : i + 2])) for i in range(0, 12, 2))) in potential.seen
    assert max(count for training, count in potential.seen if training) < sum(edges(train)[:4]), "of a training batch, its own part"


def test_training_batches_that_do_not_fit_name_the_batch_size_that_does(train: list[Graph], val: list[Graph]) -> None:
    largest = edges(train)
    room = sum(largest[:3]) + 1
    potential = Small(training=room)
    with pytest.raises(OutOfMemoryError) as caught:
        fly(potential, settings(), train, val, Told(room, potential))
    text = str(caught.value)
    assert "largest training batch (4 structures, 48 atoms," in text
    assert f"needs about {sum(largest[:4]) * BYTES_PER_EDGE / 1e9:.2g} GB" in text
    assert "set trainer.batch_size=2 (now 4)" in text  # 0.9 of the room: 2, not 3
    suggested = int(re.search(r"trainer\.batch_edges=(\d+)", text).group(1))  # type: ignore[union-attr]
    fly(potential, settings(batch_size=2), train, val, Told(room, potential))
    fly(potential, settings(batch_edges=suggested), train, val, Told(room, potential))
    death = of_exception(caught.value)
    assert (death.status, death.resumable, death.exit_code) == ("oom", True, 1)
    assert death.reason == text


def test_validation_batches_that_do_not_fit_name_their_own_setting(train: list[Graph], val: list[Graph]) -> None:
    room = max(edges(train)[0], edges(val)[0]) * 1.2
    potential = Small(any_mode=room)
    with pytest.raises(OutOfMemoryError, match=r"largest evaluation batch.*trainer.eval_batch_size=1 \(now 2\), which changes no result"):
        fly(potential, settings(batch_size=1), train, val, Told(room, potential))


def test_a_limit_that_is_too_high_is_lowered(train: list[Graph], val: list[Graph]) -> None:
    room = 2.5 * edges(train)[0]
    potential = Small(training=room)
    config = settings(batch_edges=5 * edges(train)[0])
    with pytest.raises(OutOfMemoryError, match=r"set trainer.batch_edges=(\d+) \(now \d+\)") as caught:
        fly(potential, config, train, val, Told(room, potential))
    suggested = int(re.search(r"batch_edges=(\d+)", str(caught.value)).group(1))  # type: ignore[union-attr]
    assert suggested >= edges(train)[0]
    fly(potential, settings(batch_edges=suggested), train, val, Told(room, potential))


def test_a_structure_that_does_not_fit_alone_is_named(train: list[Graph], val: list[Graph]) -> None:
    potential = Small(training=edges(train)[0] - 1)
    with pytest.raises(OutOfMemoryError, match=r"not even its largest structure \(12 atoms, \d+ edges\) fits alone.*float32"):
        fly(potential, settings(batch_size=1), train, val, Told(10, potential))


def test_where_the_kernel_would_kill_the_whole_batch_is_not_tried(train: list[Graph], val: list[Graph]) -> None:
    room = sum(edges(train)[:3])
    potential = Small()
    with pytest.raises(OutOfMemoryError, match=r"set trainer.batch_size=2 \(now 4\)"):
        fly(potential, settings(), train, val, Told(room, potential, kills=True))
    assert max(count for _, count in potential.seen) <= room


def test_other_faults_are_not_taken_for_memory(train: list[Graph], val: list[Graph]) -> None:
    class Broken(Small):
        def forward(self, graph: Graph, compute_stress: bool = False) -> dict[str, torch.Tensor]:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    potential = Broken()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fly(potential, settings(), train, val, Told(1e9, potential))


def test_memory_that_runs_out_later_is_advised_too(
    train: list[Graph], val: list[Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(training_loop, "training_step", exhausted)
    with pytest.raises(OutOfMemoryError, match=r"ran out in training.*less than trainer.batch_size=4.*Tried to allocate 2.00 GiB"):
        fit(PairPotential(), train, val, settings(), tmp_path, [], 1, {})


def test_a_structure_larger_than_a_batch_is_refused_before_training(train: list[Graph], val: list[Graph], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer.batch_atoms=10, but frame 2 of the training set alone has 12 atoms; set .*=12 or more"):
        fit(PairPotential(), train, val, settings(batch_atoms=10), tmp_path, [], 1, {})
    assert not (tmp_path / "checkpoints").exists()


def test_this_machine_tells_its_memory() -> None:
    memory = Memory(CPU)
    room = memory.available()
    if room is None:
        pytest.skip("this system does not tell how much memory is left")
    assert 1e7 < room < 1e14
    assert Memory(CPU, sharers=4).available() == pytest.approx(room / 4, rel=0.2)
    peak = memory.peak(lambda: torch.ones(2**25, dtype=torch.float64).sum())  # 268 MB
    if peak is None:
        pytest.skip("this system does not let a process reset its high-water mark")
    assert 2.4e8 < peak < 4e8


def test_a_limit_of_the_job_around_this_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Slurm: the group of the processes is free to take what the job may, which other processes of the job have taken a part of."""
    for path, limit, used in (("job", "1000000000", 400_000_000), ("job/step", "max", 300_000_000), ("job/step/task", "max", 100_000_000)):
        (tmp_path / path).mkdir()
        (tmp_path / path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / path / "memory.current").write_text(f"{used}\n")
        (tmp_path / path / "memory.stat").write_text("anon 5\ninactive_file 50000000\n")
    (tmp_path / "own").write_text("1:name=systemd:/\n0::/job/step/task\n")
    monkeypatch.setattr(training_memory, "_GROUP", tmp_path)
    monkeypatch.setattr(training_memory, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(training_memory, "_machine", lambda: 5e9)
    assert Memory(CPU).available() == 650_000_000
    (tmp_path / "job" / "memory.max").write_text("max\n")
    assert Memory(CPU).available() == 5e9


def test_limits_of_the_older_kind_of_group_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cgroup v1, where each controller has a tree of its own and no limit is a very large number."""
    for path, limit in (("memory", 2**63 - 4096), ("memory/job", 1_000_000_000), ("memory/job/task", 2**63 - 4096)):
        (tmp_path / path).mkdir()
        (tmp_path / path / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (tmp_path / path / "memory.usage_in_bytes").write_text("400000000\n")
        (tmp_path / path / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 50000000\n")
    (tmp_path / "own").write_text("8:cpu,cpuacct:/other\n5:memory:/job/task\n0::/user.slice\n")
    monkeypatch.setattr(training_memory, "_GROUP", tmp_path)
    monkeypatch.setattr(training_memory, "_OWN_GROUP", tmp_path / "own")
    monkeypatch.setattr(training_memory, "_machine", lambda: 5e9)
    assert Memory(CPU).available() == 650_000_000
