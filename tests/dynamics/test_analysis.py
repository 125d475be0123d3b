"""Drift with an honest error, radial distributions that count neighbours, and what analysis leaves in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from kanmlip.dynamics import MDSettings, fit_drift, simulate
from kanmlip.dynamics.analysis import analyse
from kanmlip.dynamics.rdf import radial_distribution
from kanmlip.errors import ConfigError
from tests.dynamics.springs import bound_silver


def test_a_drift_is_found_in_its_units() -> None:
    time = np.linspace(0, 20, 2001)
    energy = -100 + 71 * (0.05e-3 * time) + 71 * 0.01e-3 * np.sin(300 * time)
    drift = fit_drift(time, energy, 71)
    assert drift is not None
    assert drift.slope_meV_per_atom_ps == pytest.approx(0.05, rel=1e-3)
    assert drift.fluctuation_meV_per_atom == pytest.approx(0.01 / np.sqrt(2), rel=0.01)
    assert drift.error_meV_per_atom_ps < 1e-3
    assert (drift.duration_ps, drift.points) == (20, 2001)


def test_the_error_knows_that_neighbouring_values_are_alike() -> None:
    """Of energies with a correlation time of ten steps and no drift, the slope is within two errors of zero as often as it should."""
    random = np.random.default_rng(0)
    time = np.linspace(0, 5, 1000)
    inside = []
    for _ in range(300):
        noise, values = random.normal(size=1000), np.zeros(1000)
        for k in range(1, 1000):
            values[k] = 0.9 * values[k - 1] + noise[k]
        drift = fit_drift(time, values, 1)
        assert drift is not None
        inside.append(abs(drift.slope_meV_per_atom_ps) < 2 * drift.error_meV_per_atom_ps)
    # The textbook error, which takes the values for independent, gives 0.35.
    assert np.mean(inside) > 0.85


def test_no_drift_is_claimed_where_there_is_none_to_see() -> None:
    assert fit_drift(np.arange(5.0), np.arange(5.0), 1) is None
    assert fit_drift(np.arange(10.0), np.full(10, np.nan), 1) is None


def test_g_counts_neighbours_in_cells_smaller_than_its_range() -> None:
    crystal = bulk("Ag", a=4.09, cubic=True)  # 4.09 Å, and the range is 8
    rdf = radial_distribution([crystal])
    shell = 4 / 3 * np.pi * (np.append(rdf.distance, 8.02)[1:] - 0.02) ** 3
    counts = rdf.g["Ag-Ag"] * np.diff(np.append(0, shell)) * len(crystal) / crystal.get_volume()
    distances = 4.09 * np.sqrt(np.arange(1, 8) / 2)
    found = [counts[np.abs(rdf.distance - d) < 0.05].sum() for d in distances]
    np.testing.assert_allclose(found, [12, 6, 24, 12, 24, 8, 48], rtol=1e-6)
    np.testing.assert_allclose(rdf.g["Ag-Ag"], radial_distribution([crystal.repeat(2)]).g["Ag-Ag"], atol=1e-9)


def test_g_of_an_ideal_gas_is_one_for_every_pair() -> None:
    random = np.random.default_rng(1)
    frames = [Atoms("Hf20O40", positions=random.uniform(0, 15, (60, 3)), cell=[15] * 3, pbc=True) for _ in range(60)]
    rdf = radial_distribution(frames, bins=16)
    assert list(rdf.g) == ["O-O", "O-Hf", "Hf-Hf"]
    for values in rdf.g.values():
        assert np.abs(values[6:] - 1).max() < 0.15
    with pytest.raises(ConfigError, match="periodic in all three directions"):
        radial_distribution([Atoms("Ag2", positions=np.eye(3)[:2])])


def test_analysis_leaves_a_summary_data_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    simulate(bound_silver(), MDSettings(steps=60, interval=3), tmp_path, cutoff=4.0)
    summary = analyse(tmp_path)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["drift"]["points"] == summary["rdf_frames"] == 21
    for name in ("rdf", "energy"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    header, *rows = (tmp_path / "rdf.csv").read_text().splitlines()
    assert header == "r_A,g_Ag-Ag"
    assert len(rows) == 200


def test_analysis_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no simulation"):
        analyse(tmp_path)
