"""Fixtures for exports: run folders of every case, made once."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from ase import Atoms

from kanmlip.experiment.config import RunConfig
from kanmlip.export.loading import LoadedRun, load_potential
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


@pytest.fixture(scope="session")
def loaded_of(run_of: Callable[..., Made]) -> Callable[[str, str], LoadedRun]:
    """``loaded_of(case, precision)``: a run as it is loaded from its folder; for those who do not change it."""
    loaded: dict[tuple[str, str], LoadedRun] = {}

    def get(case: str, precision: str) -> LoadedRun:
        key = (case, precision)
        if key not in loaded:
            loaded[key] = load_potential(run_of(case, precision=precision)[0])
        return loaded[key]

    return get
