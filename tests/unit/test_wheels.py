"""What is carried to a machine without a network agrees with what kanmlip needs and was tested with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def test_every_dependency_is_carried_or_said_to_be_there_or_left_out(repository: Path) -> None:
    script = (repository / "scripts" / "gather_wheels.sh").read_text()
    said = set(re.findall(r"[a-z0-9-]+", script.lower()))
    dependencies = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=!~\[; ]", dependency)[0].lower() for dependency in dependencies}
    assert len(names) > 10
    assert names - said == set()
    # A comment alone brings no wheel: what a run refuses to start without is in the list.
    carried = script.partition("wheels=(")[2].partition(")")[0]
    assert {"scikit-learn", "joblib", "threadpoolctl", "narwhals"} <= set(re.findall(r"[a-z-]+", carried))


def test_carried_versions_are_the_tested_ones(repository: Path) -> None:
    pinned = dict(line.split("==") for line in (repository / "scripts" / "constraints.txt").read_text().splitlines() if "==" in line)
    carried = dict(re.findall(r"([A-Za-z0-9-]+)==([0-9.]+)", (repository / "scripts" / "gather_wheels.sh").read_text()))
    common = pinned.keys() & carried.keys()
    assert "scikit-learn" in common
    assert {name: carried[name] for name in common} == {name: pinned[name] for name in common}
