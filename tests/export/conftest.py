"""Fixtures for exports: run folders of every case, made once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from ase import Atoms

from kanmlip.experiment.config import RunConfig
from kanmlip.models.potential import Potential
from tests.export.runs import make_run

Made = tuple[Path, Potential, RunConfig]


@pytest.fixture(scope="session")
def run_of(silver: list[Atoms], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Made]:
    """``run_of(case, basis=…, precision=…)``: a run folder, the model in memory, its settings."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[tuple[str, ...], Made] = {}

    def get(case: str, basis: str = "gaussian", precision: str = "float64") -> Made:
        model, _ = case.split("-")
        if importlib.util.find_spec(model) is None:  # not importorskip: importing mace changes torch.load for everyone
            pytest.skip(f"needs {model}")
        key = (case, basis, precision)
        if key not in made:
            made[key] = make_run(folder, silver, case, basis=basis, precision=precision)
        return made[key]

    return get
