"""What environment.json and a sweep's summary say."""

from __future__ import annotations

import getpass
import json
import platform
import re
import subprocess
from pathlib import Path

import pytest

from kanmlip.experiment import environment
from kanmlip.experiment.summary import Outcome, exit_code, format_summary


def test_environment_names_code_and_hardware_but_no_host() -> None:
    described = environment.describe("cpu", 1, "c" * 64)
    assert described["versions"]["torch"]
    assert described["versions"]["e3nn"]
    assert re.fullmatch(r"\d+-core [\w-]+ CPU \(.+\)", described["hardware"])
    assert (described["device"], described["threads"], described["driver"], described["gpu"]) == ("cpu", 1, None, None)
    text = json.dumps(described)
    assert platform.node() not in text or len(platform.node()) < 4
    assert str(Path.home()) not in text
    assert getpass.getuser() == "root" or getpass.getuser() not in text


def test_commit_is_that_of_the_checkout(repository: Path) -> None:
    head = subprocess.run(["git", "-C", str(repository), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if head.returncode != 0:
        pytest.skip("not a git checkout")
    commit, dirty = environment.git_state()
    assert commit == head.stdout.strip()
    assert dirty in (True, False)


def test_no_commit_inside_somebody_elses_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "kanmlip" / "experiment"
    package.mkdir(parents=True)
    subprocess.run(["git", "-C", str(tmp_path), "init", "-q"], check=True)
    monkeypatch.setattr(environment, "__file__", str(package / "environment.py"))
    assert environment.git_state() == (None, None)


OUT_OF_MEMORY = "killed by the kernel: out of memory"
ROWS = [
    Outcome("allegro-none-mlp-toy-s1-0123456789", "done", "val/force_mae_eV_per_A", 0.0123456, 61.25, None),
    Outcome(
        "allegro-output-gaussian-toy-s1-0123456789", "oom", "val/force_mae_eV_per_A", None, None, "killed by the kernel: out of memory"
    ),
]


def test_summary() -> None:
    assert format_summary(ROWS).splitlines() == [
        "run                                        status  val/force_mae_eV_per_A  train s  reason",
        "-" * 90,
        "allegro-none-mlp-toy-s1-0123456789         done    0.012346                61.2",
        "allegro-output-gaussian-toy-s1-0123456789  oom                                      killed by the kernel: out of memory",
        "1 of 2 runs done; not done: allegro-output-gaussian-toy-s1-0123456789",
    ]


@pytest.mark.parametrize(("rows", "stopped", "code"), [(ROWS[:1], False, 0), (ROWS[:1], True, 0), (ROWS, False, 1), (ROWS, True, 130)])
def test_exit_code(rows: list[Outcome], stopped: bool, code: int) -> None:
    assert exit_code(rows, stopped) == code
