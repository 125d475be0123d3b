"""Compiled models that hold kanmlip's kernels: the model, in programs that have nothing else of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ase import Atoms

from kanmlip.cli.export import main
from kanmlip.experiment.validation import load_run_config
from kanmlip.export.loading import load_potential
from kanmlip.export.probe import probe_graph
from kanmlip.export.routes import family
from kanmlip.export.torch_only import depends_on_kanmlip, record_heads
from kanmlip.export.with_kernels import wants_kernels
from kanmlip.kan import backend_cpu
from kanmlip.models.nequip_energy import NequIPPotential
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import BASES, TOLERANCE, make_run

pytest.importorskip("nequip")
# A program that has torch and nothing of ours.
ALONE = """
import sys
sys.modules["kanmlip"] = None  # whoever asks for it gets an ImportError
import torch
model = torch._inductor.aoti_load_package(sys.argv[1])
torch.save([one.detach() for one in model(*torch.load("arguments.pt"))], "output.pt")
"""


@pytest.fixture
def kernels() -> None:
    if not backend_cpu.available():
        pytest.skip("no C++ compiler")


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("basis", BASES)
def test_recorded_heads_call_the_kernels(basis: str, run_of: Callable[..., Made]) -> None:
    run_dir, potential, _ = run_of("nequip-output", basis=basis)
    run = load_potential(run_dir, backend="native")
    graph = probe_graph(run)
    before = run.potential(graph)
    record_heads(run)
    assert depends_on_kanmlip(run.potential.upstream) == []
    code = "".join(module.code for module in run.potential.upstream.modules() if isinstance(module, torch.fx.GraphModule))
    assert "kanmlip_cpu" in code
    recorded, original = run.potential(graph), potential(graph)
    for name in ("energy", "forces"):
        torch.testing.assert_close(recorded[name], original[name], rtol=0, atol=1e-9)
        torch.testing.assert_close(before[name], original[name], rtol=0, atol=1e-9)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("setting", ["norm=layer", "zero_preserving=false", "base=false"])
def test_recorded_heads_are_the_model_whatever_their_settings(setting: str, tmp_path: Path, silver: list[Atoms]) -> None:
    run_dir, potential, _ = make_run(tmp_path, silver, "nequip-output", f"placement.head.{setting}", basis="bspline")
    run = load_potential(run_dir, backend="native")
    graph = probe_graph(run)
    record_heads(run)
    assert depends_on_kanmlip(run.potential.upstream) == []
    torch.testing.assert_close(run.potential(graph)["forces"], potential(graph)["forces"], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("case", "basis", "precision"),
    [
        ("allegro-all", "gaussian", "float64"),
        ("allegro-output", "bspline", "float32"),
        ("nequip-output", "bspline", "float32"),
    ],
)
def test_a_program_without_kanmlip_runs_the_file(
    case: str, basis: str, precision: str, run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kanmlip.export.nequip_compiled import of_atoms, pair_arguments

    run_dir, potential, config = run_of(case, basis=basis, precision=precision)
    assert main([str(run_dir), "--to", "lammps", "--output", str(tmp_path)]) == 0
    assert f"holds kanmlip's kernels, for this kind of processor and PyTorch {torch.__version__}" in capsys.readouterr().out
    # Another structure than the one that was recorded: sizes must not be baked in.
    graph = config.model.collate([rattled_silver(seed=9)])
    assert isinstance(potential, NequIPPotential)
    arguments, owner = pair_arguments(potential, f"pair_{case.split('-', maxsplit=1)[0]}", graph)
    torch.save(arguments, tmp_path / "arguments.pt")
    model = f"{run_dir.name}.nequip.pt2"
    done = run_alone(model, tmp_path, {})
    assert done.returncode == 0, done.stderr
    energy, forces = of_atoms(torch.load(tmp_path / "output.pt"), graph, owner)
    expected = potential(graph)
    assert float(energy) == pytest.approx(float(expected["energy"]), abs=16 * TOLERANCE[precision])
    torch.testing.assert_close(forces, expected["forces"], rtol=0, atol=TOLERANCE[precision])
    # With a PyTorch that says it is another one.
    (tmp_path / "other.cpp").write_text('extern "C" unsigned long aoti_torch_abi_version() { return 9ul << 56 | 8ul << 48 | 7ul << 40; }')
    compiler = os.environ.get("CXX") or "g++"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "other.so", tmp_path / "other.cpp"], check=True, timeout=60)
    refused = run_alone(model, tmp_path, {"LD_PRELOAD": str(tmp_path / "other.so")})
    assert refused.returncode != 0
    assert f"kernels, compiled for PyTorch {torch.__version__.split('+')[0]}, and runs with PyTorch 9.8.7" in refused.stderr


def run_alone(model: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a file on ``arguments.pt``."""
    command, everything = [sys.executable, "-c", ALONE, model], {**os.environ, **environment}
    return subprocess.run(command, cwd=folder, env=everything, check=False, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("case", "arguments", "message"),
    [
        ("mace-output", ["--to", "lammps"], "--kernels: for --to lammps of NequIP and Allegro, not --to lammps of model=mace"),
        ("allegro-all", ["--to", "ase"], "--kernels: for --to lammps of NequIP and Allegro, not --to ase"),
        ("allegro-none", ["--to", "lammps"], "placement=none and no KAN that could call them"),
    ],
)
def test_where_there_is_nothing_to_call_them_kernels_are_refused(
    case: str, arguments: list[str], message: str, run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_of(case)[0]), *arguments, "--kernels", "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize(
    ("case", "target", "device", "asked", "wanted"),
    [
        ("allegro-all", "lammps", "cpu", None, True),
        ("allegro-all", "lammps", "cpu", False, False),
        ("allegro-all", "lammps", "cuda", None, False),
        ("allegro-all", "package", "cpu", None, False),
        ("allegro-none", "lammps", "cpu", None, False),
        ("mace-output", "lammps", "cpu", None, False),
    ],
)
def test_unless_asked_kernels_are_where_they_can_be(
    case: str, target: str, device: str, asked: bool | None, wanted: bool, run_of: Callable[..., Made]
) -> None:
    config = load_run_config(run_of(case)[0])
    assert wants_kernels(config, target, family(config.model), device, asked) is wanted


def test_without_a_compiler_kernels_are_refused(
    run_of: Callable[..., Made], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from kanmlip.kan import native

    monkeypatch.setattr(native, "load", lambda: False)
    assert main([str(run_of("allegro-output")[0]), "--to", "lammps", "--kernels", "--output", str(tmp_path / "out")]) == 2
    assert "install a C++20 compiler, or leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not wants_kernels(load_run_config(run_of("allegro-output")[0]), "lammps", "allegro", "cpu", None)
