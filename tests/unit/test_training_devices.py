"""Where the state of a resumed training is: as in one that was never interrupted, seen on a device that every machine has."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kanmlip.data.graph import Graph
from kanmlip.data.neighbours import build_graphs
from kanmlip.training import fit, follow, loop
from kanmlip.training.config import TrainerConfig
from kanmlip.training.session import Session
from tests.fakes import PairPotential, pair_frames

META = torch.device("meta")
pytestmark = pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
CONFIG = TrainerConfig(max_epochs=2, precision="float64", progress_bar=False, device="cpu", preflight=False)


class TakenOffError(Exception):
    """Training would begin."""


@pytest.fixture
def graphs() -> list[Graph]:
    return build_graphs(pair_frames(4), 3.5)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """What training would begin with on another device; it is not begun."""
    seen: list[Session] = []

    def take_off(session: Session, *arguments: Any) -> None:
        seen.append(session)
        raise TakenOffError

    monkeypatch.setattr(loop, "take_off", take_off)
    monkeypatch.setattr(loop, "open_fabric", lambda *arguments: SimpleNamespace(device=META))
    return seen


def trained(graphs: list[Graph], folder: Path) -> None:
    fit(PairPotential(), graphs, graphs, CONFIG, folder, [], seed=3, metadata={"run_id": "test"})


def assert_in_place(session: Session) -> None:
    states = session.optimizer.state_dict()["state"]
    assert states
    for state in states.values():
        assert {name: value.device.type for name, value in state.items()} == {"step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta"}
    assert {value.device for value in (*session.potential.state_dict().values(), *session.average.average)} == {META}


def test_a_resumed_optimiser_counts_its_steps_on_the_cpu(graphs: list[Graph], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    trained(graphs, tmp_path)
    sessions = request.getfixturevalue("sessions")
    config = CONFIG.model_copy(update={"max_epochs": 4})
    with pytest.raises(TakenOffError):
        fit(PairPotential(), graphs, graphs, config, tmp_path, [], seed=3, metadata={"run_id": "test"})
    assert_in_place(sessions[0])


def test_so_does_that_of_each_process_of_a_run(graphs: list[Graph], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    trained(graphs, tmp_path)
    sessions = request.getfixturevalue("sessions")

    def share(data: Any, device: torch.device | str = "cpu") -> Any:
        return torch.load(tmp_path / "checkpoints" / "last.ckpt", map_location=device, weights_only=True)

    ranks: Any = SimpleNamespace(share=share, check_equal=lambda *arguments: None, size=2, rank=1)
    with pytest.raises(TakenOffError):
        follow(PairPotential(), graphs, graphs, CONFIG, 3, ranks)
    assert_in_place(sessions[0])
