"""Every command of the README runs, in the order in which it stands there, and does what the README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from kanmlip.data.catalogue import whole_dataset
from kanmlip.data.root import data_root
from kanmlip.errors import DataError

README = (Path(__file__).parents[2] / "README.md").read_text()
FENCES = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for fence in FENCES for line in fence.splitlines() if line.split("#")[0].strip()]
SCRIPTS = {f"kanmlip-{name}": f"kanmlip.cli.{name}" for name in ("train", "data", "tables", "bench", "md", "show", "reproduce")}
# What stands for a command here: make test is this very run, and the demo and the reproduction have tests of their own.
ELSEWHERE = {"make test", "make demo", "source .venv/bin/activate", *(c for c in COMMANDS if c.startswith("make reproduce-paper"))}


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    name, *arguments = shlex.split(command)
    call = [sys.executable, "-m", SCRIPTS[name], *arguments]
    return subprocess.run(call, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=400, check=False)


def test_the_readme_gives_commands_and_knows_no_others() -> None:
    assert len(COMMANDS) >= 6
    assert {"make demo", "make test"} <= set(COMMANDS)
    unknown = [command for command in COMMANDS if command not in ELSEWHERE and shlex.split(command)[0] not in SCRIPTS]
    assert unknown == []


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, silver: list[Atoms], repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KANMLIP_DATA", str(data_root().resolve()))
    ase.io.write(tmp_path / "my.xyz", silver * 3, format="extxyz")
    frames = ase.io.read(tmp_path / "my.xyz", ":")
    for index, atoms in enumerate(frames):
        atoms.positions += 1e-3 * index  # no frame twice
    ase.io.write(tmp_path / "my.xyz", frames, format="extxyz")
    try:
        whole_dataset(repository / "conf", "ag").check(data_root())
        has_silver = True
    except DataError:
        has_silver = False
    for command in COMMANDS:
        if command in ELSEWHERE:
            continue
        if ("table3" in command or "kanmlip-tables" in command or "--budget small" in command) and not has_silver:
            continue  # the error a user sees then is tested in tests/unit/test_data_sets.py
        done = run(command, tmp_path)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command.startswith("kanmlip-train -m model=allegro"):
            assert "6 of 6 runs done" in done.stdout, "jobs that differ in nothing are one run"
    if has_silver:
        assert (tmp_path / "results" / "tables" / "smoke" / "table3.md").is_file()


def test_the_example_in_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)


@pytest.mark.parametrize("word", ["model", "placement", "basis", "dataset", "budget", "logger"])
def test_the_table_of_choices_is_the_configuration(word: str, repository: Path) -> None:
    (line,) = re.findall(rf"^\| `{word}` \|(.*)\|$", README, flags=re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", line)) - {"WANDB_API_KEY"}
    files = {path.stem for path in (repository / "conf" / word).glob("*.yaml")}
    assert named == files
