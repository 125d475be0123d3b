"""Configuration files that are broken: one line with the file, where in it, and the way out; no traceback and nothing started."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kanmlip.benchmark.contenders import parse_basis
from kanmlip.data.catalogue import frame_table, whole_dataset
from kanmlip.errors import ConfigError
from kanmlip.experiment.composition import Composer, Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.plan import make_plan
from kanmlip.experiment.validation import load_run_config
from kanmlip.report.printed import second_transcription
from kanmlip.report.study import load_study
from kanmlip.reproduction.spec import load_runs
from kanmlip.yaml_file import read_mapping
from tests.integration.application import environment

# What a file holds → what is said after its name.
BROKEN = {
    "an open list": (b"name: mine\nelements: [Ag,\n", r", line 3, column 1: not valid YAML \(.*flow"),
    "a tab": (b"name: mine\nfiles:\n\ttrain: x\n", r", line 3, column 1: not valid YAML \(.*'\\t'"),
    "no space": (b"name: mine\na:1\nb: 2\n", r", line 3, column 1: not valid YAML"),
    "a key twice": (b"name: mine\nname: yours\n", r", line 2, column 1: not valid YAML \(found duplicate key name"),
    "an unknown anchor": (b"name: *mine\n", r", line 1, column 7: not valid YAML \(found undefined alias 'mine'"),
    "an object": (b"name: !!python/object:os.system {}\n", r", line 1, column 7: not valid YAML \(could not determine a constructor"),
    "a bell": (b"name: mine\nnote: a\x07\n", r", line 2: not valid YAML \(a character that no text holds, #x0007\)"),
    "not UTF-8": (b"name: mine\nnote: \xe5\n", r", line 2: not UTF-8 text \(byte 0xe5\); save the file as UTF-8"),
    "not UTF-8 far down": (b"# a comment\n" * 3000 + b"note: \xe5\n", r", line 3001: not UTF-8 text"),
    "a number": (b"5\n", " holds only '5', not lines of key: value"),
    "a list": (b"- name: mine\n", " holds a list, not lines of key: value"),
    "defaults as text": (b"defaults: toy\n", ": defaults must be a list"),
    "an open interpolation": (b"name: ${oc.env\n", r": no viable alternative at input '\$\{oc.env'"),
    "a wrong header": (b"# @package one two\nname: mine\n", ": Too many components in '@package one two'"),
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's folder of configuration files."""
    (tmp_path / "dataset").mkdir()
    return tmp_path


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_of_a_user_is_named_with_the_line(kind: str, own: Path) -> None:
    content, said = BROKEN[kind]
    path = own / "dataset" / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        make_plan(["model=mace", "dataset=mine"], False, Sources(main=conf_dir(), extra=own))
    message = str(caught.value)
    assert re.match(re.escape(str(path.resolve())) + said, message), message
    assert "\n" not in message
    assert "; correct the file" in message or "; save the file" in message
    # A file that nobody chose is not read.
    assert Composer(Sources(main=conf_dir(), extra=own)).compose(["dataset=toy"]).dataset.name == "toy"


def test_a_broken_list_of_defaults_names_its_group(own: Path) -> None:
    (own / "dataset" / "mine.yaml").write_text("defaults:\n- {toy: 1, ag: 2}\n")
    with pytest.raises(ConfigError, match=r"In dataset/mine: Too many keys in default item .*; correct the file"):
        make_plan(["model=mace", "dataset=mine"], False, Sources(main=conf_dir(), extra=own))


def test_folders_of_hydras_search_path_are_read_the_same_way(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "dataset" / "mine.yaml"
    path.write_text("a: [1\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 2, column 1: not valid YAML"):
        Composer(Sources(main=conf_dir())).compose([f"hydra.searchpath=[file://{own}]", "dataset=mine"])


@pytest.mark.parametrize("flags", [(), ("--help",), ("--info", "config")], ids=" ".join)
def test_the_command_ends_with_2_and_one_line(flags: tuple[str, ...], own: Path) -> None:
    (own / "dataset" / "mine.yaml").write_text("name: [mine\n")
    command = [sys.executable, "-m", "kanmlip.cli.train", *flags, "--config-dir", str(own), "model=mace", "dataset=mine"]
    results = own / "results"
    done = subprocess.run(
        command, cwd=own, env=environment(KANMLIP_RESULTS=str(results)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert re.fullmatch(r"kanmlip-train: .*mine\.yaml, line 2, column 1: not valid YAML .*; correct the file\n", done.stderr)
    assert not results.exists()


@pytest.mark.parametrize(
    "read",
    [load_study, load_runs, second_transcription, lambda path: load_run_config(path.parent), read_mapping],
    ids=["tables", "runs", "second transcription", "run folder", "any"],
)
def test_every_reader_says_the_same(read: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("runs: [1\n")
    with pytest.raises(ConfigError, match=r"config\.yaml, line 2, column 1: not valid YAML .*; .*(correct|train)"):
        read(path)
    path.write_bytes(b"runs: \xff")
    with pytest.raises(ConfigError, match=r"config\.yaml, line 1: not UTF-8"):
        read(path)
    path.unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read \(No such file or directory\); "):
        read(path)
    path.mkdir()
    with pytest.raises(ConfigError, match=r"config\.yaml cannot be read \(Is a directory\); "):
        read(path)


def test_a_dataset_or_a_basis_of_the_catalogue_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for group in ("dataset", "basis"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "mine.yaml").write_text("name: [mine\n")
        (tmp_path / group / "short.yaml").write_text("name: mine\n")
    for read in (whole_dataset, frame_table):
        with pytest.raises(ConfigError, match=r"mine\.yaml, line 2"):
            read(tmp_path, "mine")
    with pytest.raises(ConfigError, match=r"short\.yaml lacks the key _target_; correct the file"):
        whole_dataset(tmp_path, "short")
    monkeypatch.setattr("kanmlip.experiment.conf_dir", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"mine\.yaml, line 2"):
        parse_basis("mine")
    with pytest.raises(ConfigError, match=r"short\.yaml lacks the key _target_"):
        parse_basis("short")


def test_a_change_of_a_basis_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError, match=r"--bases=bspline:grid=\[1: '\[1' is no value"):
        parse_basis("bspline:grid=[1")
