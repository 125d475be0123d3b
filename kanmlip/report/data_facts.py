"""What the published data sets say by themselves, kept in results/facts.json so that a report needs no data to be made again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kanmlip.data.checksum import file_sha256
from kanmlip.data.xyz_file import iterate_frames
from kanmlip.experiment.atomic import read_json, write_json

FACTS = "facts.json"
# Data set → the file whose errors the paper prints.
FILES = {"ag": "ag/val.extxyz.xz", "hfo2": "hfo2/val.extxyz.xz", "carbon": "carbon/test_450.extxyz.xz"}
_ENERGY = re.compile(r"\benergy=(\S+)")
_STRESS = re.compile(r'\bstress="([^"]+)"')


def measure_data(root: Path) -> dict[str, dict[str, Any]]:
    """Facts of every data set that is there.

    Args:
        root: The data root.

    Returns:
        Data set → ``file``, ``sha256``, ``frames``, ``atoms`` (fewest and most of a frame), ``energy_std_meV_per_atom``,
        ``energy_mean_mae_meV_per_atom`` (what predicting the set's own mean scores) and ``stress_rms_meV_per_A3`` over all nine
        components (what predicting zero scores), to five digits.

    Raises:
        DataError: If a file is not extended XYZ.
    """
    return {name: _facts(root / path, path) for name, path in FILES.items() if (root / path).is_file()}


def refresh_facts(results: Path, root: Path) -> Path:
    """Write ``facts.json`` from the data that are there; facts of data that are not stay as they were."""
    path = results / FACTS
    write_json(path, {**read_facts(results), **measure_data(root)})
    return path


def read_facts(results: Path) -> Mapping[str, Mapping[str, Any]]:
    """The stored facts; empty where there are none."""
    content = read_json(results / FACTS)
    return content if isinstance(content, dict) else {}


def _facts(path: Path, name: str) -> dict[str, Any]:
    atoms, energies, stresses = [], [], []
    for frame in iterate_frames(path):
        count, comment = frame.split("\n", 2)[:2]
        energy, stress = _ENERGY.search(comment), _STRESS.search(comment)
        atoms.append(int(count))
        if energy:
            energies.append(float(energy.group(1)) / atoms[-1])
        if stress:
            stresses.append([float(word) for word in stress.group(1).split()])
    found: dict[str, Any] = {"file": name, "sha256": file_sha256(path), "frames": len(atoms), "atoms": [min(atoms), max(atoms)]}
    if energies:
        values = 1e3 * np.array(energies)
        found["energy_std_meV_per_atom"] = _rounded(values.std())
        found["energy_mean_mae_meV_per_atom"] = _rounded(np.abs(values - values.mean()).mean())
    if stresses:
        found["stress_rms_meV_per_A3"] = _rounded(1e3 * np.sqrt((np.array(stresses) ** 2).mean()))
    return found


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
