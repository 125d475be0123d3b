"""``kanmlip-export`` as a user calls it: files that load, and one line with exit code 2 for what cannot be done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from kanmlip.cli.export import main
from kanmlip.experiment.status import Status, write_status
from kanmlip.export import ase as export_ase
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import make_run


def test_a_portable_folder_is_the_model_in_another_precision(
    run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, potential, config = run_of("allegro-all", precision="float32")
    output = tmp_path / "portable"
    assert main([str(run_dir), "--to", "ase", "--dtype", "float64", "--output", str(output)]) == 0
    assert f'ase.load("{output}")' in capsys.readouterr().out
    assert {path.name for path in output.rglob("*") if path.is_file()} == {"config.yaml", "status.json", "best.ckpt"}
    atoms = rattled_silver(seed=9)
    expected = potential(config.model.collate([atoms]))["forces"].numpy()
    atoms.calc = export_ase.load(output)
    assert atoms.calc.run.dtype.itemsize == 8
    np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("case", "ending"), [("nequip-output", ".nequip.zip"), ("allegro-output", ".nequip.zip")])
def test_packages_go_where_results_go(
    case: str, ending: str, run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path))
    run_dir, _, _ = run_of(case)
    assert main([str(run_dir), "--to", "package"]) == 0
    assert (tmp_path / "exports" / run_dir.name / "package" / f"{run_dir.name}{ending}").is_file()
    assert f"--target pair_{case.split('-', maxsplit=1)[0]}" in capsys.readouterr().out


def test_mace_gets_its_lammps_files_and_their_input(
    run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, _, _ = run_of("mace-output")
    assert main([str(run_dir), "--to", "lammps", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / f"{run_dir.name}-lammps.pt").is_file()
    assert f"pair_coeff * * {run_dir.name}-lammps.pt Ag\n" in (tmp_path / "in.pair").read_text()
    assert "# atom types of the data file: 1 = Ag; where they are others" in (tmp_path / "in.pair").read_text()
    assert (tmp_path / f"{run_dir.name}-mliap_lammps.pt").is_file() or "left out: MACE's ML-IAP file needs cuequivariance" in printed


def test_tensors_go_to_ase_and_nowhere_else(tmp_path: Path, silver: list[Atoms], capsys: pytest.CaptureFixture[str]) -> None:
    run_dir, potential, config = make_run(tmp_path, silver, "etgnn-output", dataset="toy_bec")
    for target in ("lammps", "torchsim", "package"):
        assert main([str(run_dir), "--to", target, "--output", str(tmp_path / target)]) == 2
        assert "model=etgnn predicts" in capsys.readouterr().err
        assert not (tmp_path / target).exists()
    assert main([str(run_dir), "--to", "ase", "--output", str(tmp_path / "ase")]) == 0
    atoms = rattled_silver(seed=9)
    (name, *_) = sorted(config.model.predicts)
    expected = potential(config.model.collate([atoms]))[name].detach().numpy()
    calculator = export_ase.load(tmp_path / "ase")
    found = calculator.get_property(name, atoms)
    np.testing.assert_allclose(found, expected.reshape(found.shape), rtol=0, atol=1e-9)
    assert "energy" not in calculator.implemented_properties


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "asse"], "--to=asse is not known; choose from: ase, lammps, package, torchsim. Did you mean 'ase'"),
        (["--to", "package"], "packages are a format of NequIP and Allegro, model=mace has none; choose --to lammps or --to ase"),
        (["--to", "ase", "--dtype", "half"], "dtype=half is not known"),
        (["--to", "ase", "--device", "gpu"], "device=gpu is not known; choose from: auto, cpu, cuda"),
        (["--to", "ase", "--checkpoint", "first"], "checkpoint=first is not known"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], message: str, run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, _, _ = run_of("mace-output")
    assert main([str(run_dir), *arguments, "--output", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_runs_that_are_no_runs_are_refused(tmp_path: Path, silver: list[Atoms], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("nequip")
    assert main([str(tmp_path), "--to", "ase"]) == 2
    assert "is no run folder" in capsys.readouterr().err
    run_dir, _, _ = make_run(tmp_path, silver, "nequip-none")
    assert main([str(run_dir), "--to", "ase", "--output", str(run_dir)]) == 2
    assert "is the run folder itself" in capsys.readouterr().err
    write_status(run_dir, Status("interrupted", run_dir.name))
    assert main([str(run_dir), "--to", "ase"]) == 2
    assert "is not finished, its status is 'interrupted'" in capsys.readouterr().err


def test_a_missing_torchsim_is_named(
    run_of: Callable[..., Made], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch_sim", None)
    monkeypatch.setitem(sys.modules, "torch_sim.models.interface", None)
    monkeypatch.delitem(sys.modules, "kanmlip.export.torchsim", raising=False)
    assert main([str(run_of("nequip-none")[0]), "--to", "torchsim"]) == 2
    assert "pip install torch-sim-atomistic" in capsys.readouterr().err
