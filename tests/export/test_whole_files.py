"""What an export leaves behind when it fails, is killed, or would destroy something: what was there before."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms

from kanmlip.cli.export import main
from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.export import portable
from kanmlip.export.checked import check_writable, checked_file
from kanmlip.export.loading import load_potential
from tests.export.conftest import Made
from tests.export.runs import make_run

KILLED = """
import os, pathlib, signal
from kanmlip.export.checked import checked_file
with checked_file(pathlib.Path("model.pt")) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def visible(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and not path.parent.name.startswith(".")}


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "model.pt").read_text() == "old"
    with checked_file(tmp_path / "model.pt") as part:
        part.write_text("new")
        assert (tmp_path / "model.pt").read_text() == "old"
    assert (tmp_path / "model.pt").read_text() == "new"


@pytest.mark.parametrize("case", ["nequip-output", "mace-output"])
def test_a_file_that_is_not_the_model_is_not_left(
    case: str, run_of: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case.startswith("mace"):
        from kanmlip.export import mace_files as module

        write = module.write_libtorch
    else:
        from kanmlip.export import nequip_files as module

        write = module.write_package
    compare = module.compare
    monkeypatch.setattr(module, "compare", lambda expected, energy, forces: compare(expected, energy, 1.01 * forces))
    with pytest.raises(KanmlipError, match=r"model\.nequip\.zip differs from the model in memory"):
        write(load_potential(run_of(case)[0], backend="reference"), tmp_path / "model.nequip.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_portable_folder_that_is_not_the_model_is_not_left(
    run_of: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_potential(run_of("nequip-output")[0])
    compare = portable.compare
    monkeypatch.setattr(portable, "compare", lambda expected, energy, forces: compare(expected, energy, 1.01 * forces))
    with pytest.raises(KanmlipError, match="out differs from the model in memory"):
        portable.write_portable(run, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_export_may_be_repeated_and_is_refused_while_it_is_not_whole(
    run_of: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, _, _ = run_of("nequip-output", precision="float32")
    portable.write_portable(load_potential(run_dir), tmp_path / "out")
    whole = visible(tmp_path)
    replace, moved = Path.replace, []

    def killed(path: Path, target: Path) -> Path:
        if ".new." not in str(target):
            moved.append(target)
        if len(moved) == 2:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            portable.write_portable(load_potential(run_dir, dtype="float64"), tmp_path / "out")
    with pytest.raises(ConfigError, match="is no run folder"):  # weights of one precision, settings of another
        load_potential(tmp_path / "out")
    portable.write_portable(load_potential(run_dir, dtype="float64"), tmp_path / "out")
    assert load_potential(tmp_path / "out").dtype == torch.float64
    assert visible(tmp_path) == whole


@pytest.mark.parametrize("sign", ["history.csv", "checkpoints/last.ckpt"])
def test_the_folder_of_a_run_is_not_overwritten(
    sign: str, run_of: Callable[..., Made], tmp_path: Path, silver: list[Atoms], capsys: pytest.CaptureFixture[str]
) -> None:
    victim, _, _ = make_run(tmp_path, silver, "nequip-none")
    (victim / sign).write_text("")
    weights = (victim / "checkpoints" / "best.ckpt").read_bytes()
    for target in ("ase", "torchsim"):
        assert main([str(run_of("nequip-output")[0]), "--to", target, "--output", str(victim)]) == 2
        assert "is the folder of a run, whose weights would be lost" in capsys.readouterr().err
    assert (victim / "checkpoints" / "best.ckpt").read_bytes() == weights


def test_an_export_of_another_run_is_not_overwritten(
    run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = run_of("nequip-none")[0], run_of("nequip-output")[0]
    assert main([str(first), "--to", "ase", "--output", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main([str(second), "--to", "ase", "--output", str(tmp_path / "out")]) == 2
    assert f"holds {first.name}; choose another folder, or remove that one" in capsys.readouterr().err


def test_a_folder_that_cannot_be_is_refused_before_anything_is_loaded(
    run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("kanmlip.export.loading.load_potential", lambda *_, **__: pytest.fail("loaded"))
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main([str(run_of("nequip-none")[0]), "--to", "package", "--output", str(output)]) == 2
        assert f"{tmp_path / 'file'} is a file; choose a folder" in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be written to"):
        check_writable(tmp_path / "new")
