"""MACE's files for LAMMPS: what is in them is the model, its KAN readouts included."""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase import Atoms

from kanmlip.errors import MissingDependencyError
from kanmlip.export.loading import load_potential
from kanmlip.export.probe import Difference, check, compare, probe, probe_graph
from tests.conftest import rattled_silver
from tests.export.conftest import Made
from tests.export.runs import PRECISIONS, TOLERANCE, WITH_SEVEN_KANS, make_run, patchwork

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mace") is None, reason="needs mace-torch")
HAS_CUEQUIVARIANCE = importlib.util.find_spec("cuequivariance_torch") is not None
needs_cuequivariance = pytest.mark.skipif(
    not HAS_CUEQUIVARIANCE, reason="needs cuequivariance; run: pip install cuequivariance cuequivariance-torch"
)


@pytest.mark.parametrize(("case", "precision"), [pair for pair in PRECISIONS if pair[0].startswith("mace")])
def test_the_libtorch_file_is_the_model(case: str, precision: str, run_of: Callable[..., Made], tmp_path: Path) -> None:
    from kanmlip.export.mace_files import run_libtorch, write_libtorch

    run_dir, potential, _ = run_of(case, basis="bspline", precision=precision)
    run = load_potential(run_dir, backend="reference")
    write_libtorch(run, tmp_path / "model-lammps.pt")
    module = torch.jit.load(tmp_path / "model-lammps.pt")
    # What pair_style mace reads before it starts.
    assert float(module.r_max) == run.config.model.cutoff
    assert module.atomic_numbers.tolist() == [47]
    graph = run.config.model.collate([rattled_silver(seed=9)])
    energy, forces = run_libtorch(module, run, graph)
    difference = compare(potential(graph), energy, forces)
    assert max(difference.energy, difference.forces) <= TOLERANCE[precision]


def test_two_species_and_swapped_readouts_script(tmp_path: Path) -> None:
    from kanmlip.export.mace_files import write_libtorch

    frames = [Atoms("AgAu", positions=[[0, 0, 0], [0, 0.1 * k, 2.7]], cell=[6, 6, 6], pbc=True) for k in range(4)]
    for atoms in frames:
        atoms.calc = rattled_silver().calc.__class__(atoms, energy=-3.0, forces=[[0, 0, 0.5], [0, 0, -0.5]], stress=[0.0] * 6)
    run_dir, _, _ = make_run(tmp_path, frames, "mace-output", "placement.mace_style=replace")
    difference = write_libtorch(load_potential(run_dir, backend="reference"), tmp_path / "model-lammps.pt")
    assert max(difference.energy, difference.forces) <= 1e-9


@needs_cuequivariance
@pytest.mark.parametrize(("case", "precision"), [pair for pair in PRECISIONS if pair[0].startswith("mace")])
def test_the_mliap_file_is_the_model_and_loads_without_kanmlip(
    case: str, precision: str, run_of: Callable[..., Made], tmp_path: Path
) -> None:
    from kanmlip.export.mace_files import write_mliap
    from kanmlip.export.mliap_run import evaluate_mliap

    run_dir, potential, _ = run_of(case, precision=precision)
    path = tmp_path / "model-mliap_lammps.pt"
    run = load_potential(run_dir, backend="reference")
    write_mliap(run, path)
    graph = run.config.model.collate([rattled_silver(seed=9)])
    energy, forces = evaluate_mliap(torch.load(path, weights_only=False), graph, run.dtype)
    difference = compare(potential(graph), energy, forces)
    assert max(difference.energy, difference.forces) <= TOLERANCE[precision]
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert b"kanmlip" not in pickled
    assert b"mace" in pickled


def test_every_basis_is_in_both_files(tmp_path: Path, silver: list[Atoms]) -> None:
    from kanmlip.export import mace_files

    run_dir, _, _ = make_run(tmp_path, silver, "mace-output", *WITH_SEVEN_KANS["mace-output"])
    writers = [mace_files.write_libtorch, *([mace_files.write_mliap] if HAS_CUEQUIVARIANCE else [])]
    for writer in writers:
        run = load_potential(run_dir, backend="reference")
        assert set(patchwork(run).values()) == {1}
        difference = writer(run, tmp_path / "model.pt")
        assert max(difference.energy, difference.forces) <= 1e-9


def test_reference_energies_are_exact_in_a_file_of_more_precision_than_the_training(tmp_path: Path, silver: list[Atoms]) -> None:
    from kanmlip.export import mace_files

    frames = []
    for atoms in silver:
        deep = atoms.copy()
        energy = atoms.get_potential_energy() - 1000.123 * len(atoms)
        deep.calc = atoms.calc.__class__(deep, energy=energy, forces=atoms.get_forces(), stress=atoms.get_stress())
        frames.append(deep)
    run_dir, _, _ = make_run(tmp_path, frames, "mace-output", precision="float32")
    writers = [mace_files.write_libtorch, *([mace_files.write_mliap] if HAS_CUEQUIVARIANCE else [])]
    for writer in writers:
        assert writer(load_potential(run_dir, dtype="float64", backend="reference"), tmp_path / "model.pt").energy <= 1e-12


def test_the_number_of_weights_does_not_depend_on_cuequivariance(run_of: Callable[..., Made]) -> None:
    assert run_of("mace-none")[1].upstream.use_reduced_cg is False


def test_a_missing_cuequivariance_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from kanmlip.export import mace_files

    monkeypatch.setattr(mace_files, "NEEDED", ("cuequivariance_of_another_world",))
    with pytest.raises(MissingDependencyError, match=r"needs cuequivariance_of_another_world, which is not installed; run: pip install"):
        mace_files.require_cuequivariance()


def test_a_file_that_is_not_the_model_is_refused() -> None:
    from kanmlip.errors import KanmlipError

    for difference in (Difference(1e-8, 0.0), Difference(0.0, 1e-8), Difference(float("nan"), 0.0)):
        with pytest.raises(KanmlipError, match="differs from the model in memory"):
            check(difference, torch.float64, "model.pt")
    assert check(Difference(1e-6, 1e-6), torch.float32, "model.pt")


def test_the_probe_has_every_species_and_neighbours_beyond_the_cell(run_of: Callable[..., Made]) -> None:
    run = load_potential(run_of("mace-none")[0])
    graph = probe_graph(run)
    assert set(graph.atomic_numbers.tolist()) == set(run.species)
    assert set(probe(replace(run, species=tuple(range(1, 90)))).numbers) == set(range(1, 90))
    assert bool(graph.edge_cell_shift.ne(0).any()) and bool(graph.edge_cell_shift.eq(0).all(1).any())
    assert float(run.potential(graph)["forces"].abs().max()) > 1e-2
