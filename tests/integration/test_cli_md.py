"""``kanmlip-md`` as a user calls it: exit codes, files, interruption and resume, and what it refuses."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.constraints import FixAtoms

from kanmlip.cli.md import main
from kanmlip.dynamics.files import read_thermo
from tests.conftest import rattled_silver
from tests.integration.application import environment
from tests.pictures.fake_runs import train_fake

pytest.importorskip("matplotlib")
COOL = ["--temperature", "20", "--interval", "2", "--equilibration", "4"]


def test_a_simulation_is_run_extended_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_fake("placement=output", "basis=bspline")
    assert main([folder.name[:12], *COOL, "--steps", "40"]) == 0
    here = folder / "md" / "nve-20K-1fs-Ar8-s0"
    pictures = {f"{name}.{kind}" for name in ("rdf", "energy") for kind in ("png", "svg")}
    data = {"md.json", "thermo.csv", "trajectory.xyz", "state.npz", "summary.json", "rdf.csv"}
    assert {path.name for path in here.iterdir()} == data | pictures | {"run.lock"}
    printed = capsys.readouterr().out
    assert "done at step 40" in printed
    assert "meV/atom/ps over 0.04 ps" in printed
    assert main([folder.name, *COOL, "--steps", "60", "--no-pictures"]) == 0
    assert read_thermo(here / "thermo.csv")["step"].tolist() == list(range(0, 61, 2))
    assert main([folder.name, *COOL, "--steps", "60", "--seed", "1", "--ensemble", "langevin", "--repeat", "2", "1", "1"]) == 0
    assert (folder / "md" / "langevin-20K-1fs-Ar16-s1" / "rdf.csv").is_file()
    assert "energy drift" not in capsys.readouterr().out.split("langevin")[-1]


def test_a_run_that_was_trained_again_is_another_potential(capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_fake("placement=none")
    arguments = [str(folder), *COOL, "--steps", "10", "--no-pictures"]
    assert main(arguments) == 0
    best = folder / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)
    next(iter(state["model"].values())).add_(1e-3)
    torch.save(state, best)
    assert main(arguments) == 2
    assert "weights=" in capsys.readouterr().err
    assert main([*arguments, "--restart"]) == 0


def test_ctrl_c_leaves_a_simulation_that_the_same_command_goes_on_with(tmp_path: Path) -> None:
    folder = train_fake("placement=none")
    arguments = [str(folder), *COOL, "--steps", "120", "--no-pictures"]
    assert main([*arguments, "--output", str(tmp_path / "whole")]) == 0
    command = [sys.executable, "-m", "kanmlip.cli.md", *arguments, "--output", str(tmp_path / "parts")]
    slow = environment(KANMLIP_TEST_DELAY="0.03")
    process = subprocess.Popen(command, env=slow, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    thermo = tmp_path / "parts" / "thermo.csv"
    deadline = time.monotonic() + 120
    while process.poll() is None and not (thermo.exists() and thermo.read_text().count("\n") > 8):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "give the same command again to go on" in output
    assert main([*arguments, "--output", str(tmp_path / "parts")]) == 0
    for name in ("thermo.csv", "trajectory.xyz"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_atoms_that_fly_apart_are_exit_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = train_fake("placement=none")
    assert main([str(folder), "--temperature", "3e4", "--timestep", "20", "--output", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "unstable at step " in printed
    assert "what was written until then is whole" in printed
    assert ase.io.read(tmp_path / "trajectory.xyz", ":")
    assert main([str(folder), "--temperature", "3e4", "--timestep", "20", "--output", str(tmp_path)]) == 2
    assert "--restart" in capsys.readouterr().err
    assert (tmp_path / "unstable.xyz").is_file()
    (tmp_path / "rdf.png").touch()
    assert main([str(folder), *COOL, "--steps", "4", "--output", str(tmp_path), "--restart", "--no-pictures"]) == 0
    assert not {"unstable.xyz", "rdf.png", "energy.svg"} & {path.name for path in tmp_path.iterdir()}


def test_velocities_and_masses_of_a_file_are_not_used_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_fake("placement=none")
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    arguments = [str(folder), *COOL, "--steps", "2", "--no-pictures", "--structure", str(tmp_path / "start.traj"), "--restart"]
    for change, message in (
        (lambda: None, ""),
        (lambda: atoms.set_velocities(np.ones((4, 3))), "warning: velocities of"),
        (lambda: atoms.set_masses([36.0] * 4), "warning: velocities and masses of"),
    ):
        change()
        ase.io.write(tmp_path / "start.traj", atoms)
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().err
        assert message in said
        assert ("are not used" in said) == bool(message)


def test_what_cannot_be_simulated_is_refused_before_anything_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rough = train_fake("placement=output", "basis=bspline", "basis.order=2")
    ase.io.write(tmp_path / "silver.xyz", rattled_silver())
    for arguments, message in (
        ([], "basis=bspline basis.order=2 has 1 continuous derivative"),
        (["--force-rough", "--steps", "0"], "--steps=0: input should be greater than or equal to 1"),
        (["--force-rough", "--structure", str(tmp_path / "silver.xyz")], "Ag"),
        (["--force-rough", "--structure", str(tmp_path / "none.xyz")], "none.xyz cannot be read as a structure"),
        (["--force-rough", "--repeat", "0", "1", "1"], "--repeat=0 1 1"),
        (["--force-rough", "--dtype", "float16"], "dtype=float16 is not known"),
    ):
        assert main([str(rough), *arguments, "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    lattice = bulk("Ar", "fcc", a=5.3, cubic=True)
    for name, change, message in (
        ("frozen", lambda atoms: atoms.set_constraint(FixAtoms([0])), "frozen.xyz has constraints (FixAtoms), which are not kept here"),
        ("flat", lambda atoms: atoms.set_cell(None), "the structure is periodic along a, b, c"),
    ):
        atoms = lattice.copy()
        change(atoms)
        ase.io.write(tmp_path / f"{name}.xyz", atoms, columns=["symbols", "positions", *(["move_mask"] if name == "frozen" else [])])
        if name == "flat":
            (tmp_path / "flat.xyz").write_text((tmp_path / "flat.xyz").read_text().replace('pbc="F F F"', 'pbc="T T T"'))
        assert main([str(rough), "--force-rough", "--structure", str(tmp_path / f"{name}.xyz"), "--output", str(tmp_path / "out")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([str(rough), "--force-rough", *COOL, "--steps", "3", "--no-pictures", "--output", str(tmp_path / "out")]) == 0
    assert "warning: basis=bspline" in capsys.readouterr().err


def test_help_does_not_load_torch(tmp_path: Path) -> None:
    for command in ("md", "show"):
        code = (
            "import sys\n"
            f"from kanmlip.cli.{command} import main\n"
            "try:\n    main(['--help'])\n"
            "except SystemExit:\n    print('torch' in sys.modules)"
        )  # fmt: skip
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("False")
