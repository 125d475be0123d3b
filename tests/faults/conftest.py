"""One short run, composed once, and what it leaves when nobody disturbs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from kanmlip.experiment.composition import Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.plan import make_plan
from tests.faults import forked, kills
from tests.integration.application import FAKES

timeless = kills.load().timeless
EPOCHS = 6
RUN = (
    "model=fake", "dataset=fake", "budget=smoke", "placement=output", "basis=bspline", "basis.backend=torch", "seed=1",
    f"trainer.max_epochs={EPOCHS}", "trainer.precision=float64", "trainer.device=cpu",
)  # fmt: skip


@dataclass
class Scene:
    """A results root, and the run that is made there again and again.

    Attributes:
        results: The root.
        planned: The run.
        undisturbed: Its record where nothing happened.
        said: What the last start printed.
    """

    results: Path
    planned: Any
    undisturbed: dict[str, Any]
    said: str = ""

    @property
    def run(self) -> Path:
        return self.results / "runs" / self.planned.run_id

    @property
    def last(self) -> Path:
        return self.run / "checkpoints" / "last.ckpt"

    @property
    def record(self) -> Path:
        return self.results / "records" / f"{self.planned.run_id}.json"

    @property
    def status(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.run / "status.json").read_text())
        return content

    def begin(self, before: Callable[[], None] | None = None, **extra: str) -> forked.Forked:
        return forked.start_planned([self.planned], self.results.with_suffix(".out"), before, KANMLIP_RESULTS=str(self.results), **extra)

    def start(self, before: Callable[[], None] | None = None, **extra: str) -> int:
        """Start and wait; ``before`` patches the program in that process and its worker."""
        output = self.results.with_suffix(".out")
        size = output.stat().st_size if output.exists() else 0
        code = self.begin(before, **extra).wait(timeout=240)
        self.said = output.read_bytes()[size:].decode()
        return code

    def epoch(self, name: str = "last.ckpt") -> int:
        """How far a checkpoint is."""
        state = torch.load(self.run / "checkpoints" / name, weights_only=True)
        epoch: int = state["tally"]["epoch"] if "tally" in state else state["epoch"]
        return epoch

    def assert_as_undisturbed(self) -> None:
        """The record equals the undisturbed one to the last bit, times aside, and nothing unfinished lies about."""
        assert dict(timeless(json.loads(self.record.read_text()))) == dict(timeless(self.undisturbed))
        assert [path for path in self.results.rglob(".*") if path.is_file()] == []


@pytest.fixture(scope="session")
def planned_and_record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, dict[str, Any]]:
    jobs = make_plan(RUN, False, Sources(conf_dir(), FAKES)).jobs
    assert jobs is not None
    scene = Scene(tmp_path_factory.mktemp("calm") / "results", jobs[0], {})
    assert scene.start() == 0, scene.said
    return jobs[0], json.loads(scene.record.read_text())


@pytest.fixture
def scene(planned_and_record: tuple[Any, dict[str, Any]], tmp_path: Path) -> Scene:
    return Scene(tmp_path / "results", *planned_and_record)


def in_epoch(number: int, action: Callable[[Any], None]) -> Callable[[], None]:
    """Have a run do something at the end of an epoch, before its checkpoint is written; it is given the session."""

    def patch() -> None:
        from kanmlip.training import loop

        original = loop.run_epoch

        def run_epoch(session: Any, *arguments: Any, **keywords: Any) -> Any:
            row = original(session, *arguments, **keywords)
            if session.epoch + 1 == number:
                action(session)
            return row

        loop.run_epoch = run_epoch

    return patch
