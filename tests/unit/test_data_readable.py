"""Files that are there and cannot be read: wrong input, exit code 2, with the file and the setting that names it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanmlip.cli.data import main
from kanmlip.data import checksum
from kanmlip.data.catalogue import whole_dataset
from kanmlip.data.checksum import file_sha256
from kanmlip.data.extxyz import ExtXYZ
from kanmlip.errors import DataError
from kanmlip.experiment import conf_dir
from tests.faults.broken_files import frame, write


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    random = np.random.default_rng(0)
    for name in ("train.xyz", "val.xyz"):
        write(tmp_path / name, [frame(random) for _ in range(3)])
    return tmp_path / "train.xyz", tmp_path / "val.xyz"


def forbid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if its mode were 000; the tests may run as root, whom no mode keeps out."""
    original = io.open

    def refuse(file: Any, *arguments: Any, **options: Any) -> Any:
        if Path(str(file)) == path:
            raise PermissionError(13, "Permission denied", str(path))
        return original(file, *arguments, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)


@pytest.mark.parametrize("key", ["train", "val"])
@pytest.mark.parametrize("checked_before", [False, True])
def test_an_unreadable_file_names_its_setting(
    key: str, checked_before: bool, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExtXYZ(name="extxyz", train=str(files[0]), val=str(files[1]))
    if checked_before:
        monkeypatch.setattr(checksum, "SETTLED_AFTER_S", -1.0)
        config.check(tmp_path)
    path = files[key == "val"]
    forbid(path, monkeypatch)
    with pytest.raises(DataError, match="Permission denied") as caught:
        config.fingerprint(tmp_path)
    assert f"dataset.{key}: {path} cannot be read (Permission denied)" in str(caught.value)
    with pytest.raises(DataError, match=str(path)):
        config.check(tmp_path)


def test_an_unreadable_file_of_a_published_set_names_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = whole_dataset(conf_dir(), "ag")
    assert dataset is not None
    (tmp_path / "ag").mkdir()
    for name in ("train.extxyz.xz", "val.extxyz.xz"):
        (tmp_path / "ag" / name).write_bytes(b"")
    forbid(tmp_path / "ag" / "train.extxyz.xz", monkeypatch)
    with pytest.raises(DataError, match=r"dataset=ag: .*train.extxyz.xz cannot be read \(Permission denied\)"):
        dataset.check(tmp_path)


def test_a_folder_that_may_not_be_entered_is_named(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.stat

    def refuse(path: Path, **options: Any) -> Any:
        if path in files:
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, **options)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match=r"dataset.train: .*train.xyz cannot be read \(Permission denied\)"):
        ExtXYZ(name="extxyz", train=str(files[0]), val=str(files[1])).check(tmp_path)
    assert main(["check", str(files[0])]) == 2


def test_check_of_an_unreadable_file_is_wrong_input(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forbid(files[0], monkeypatch)
    assert main(["check", str(files[0])]) == 2
    assert f"{files[0]} cannot be read" in capsys.readouterr().err


def test_a_folder_in_place_of_a_file_is_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset.val: .* cannot be read \(Is a directory\)"):
        file_sha256(tmp_path, "dataset.val")
