"""Runs that are timed as a whole: their metrics and memory come back, their failure says why, and nothing stays."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from kanmlip.benchmark.whole_runs import train
from kanmlip.errors import KanmlipError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_run_gives_its_metrics_and_memory(folder: Path) -> None:
    found = train(["model=nequip", "dataset=toy", "budget=smoke", "trainer.device=cpu", "trainer.max_epochs=1"])
    assert found.metrics["time/per_epoch_s"] > 0
    assert 100 < found.peak_mib < 20_000
    assert list(folder.iterdir()) == []


def test_a_run_that_fails_says_why(folder: Path) -> None:
    with pytest.raises(KanmlipError, match=r"(?s)model=nequip trainer.batch_size=none_at_all failed with code 2.*trainer.batch_size"):
        train(["model=nequip", "trainer.batch_size=none_at_all"])
    assert list(folder.iterdir()) == []
