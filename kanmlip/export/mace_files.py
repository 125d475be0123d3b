"""MACE in the two formats of ``mace_create_lammps_model``: libtorch for ``pair_style mace``, and ML-IAP."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.errors import MissingDependencyError
from kanmlip.export.checked import checked_file
from kanmlip.export.loading import LoadedRun
from kanmlip.export.mliap_run import evaluate_mliap
from kanmlip.export.probe import Difference, check, compare, probe_graph
from kanmlip.export.torch_only import freeze, record_heads
from kanmlip.models.mace import import_mace_modules
from kanmlip.models.mace_energy import MACEPotential, default_dtype

NEEDED = ("cuequivariance", "cuequivariance_torch")
VARIABLE = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def write_libtorch(run: LoadedRun, path: Path) -> Difference:
    """Write the TorchScript file that ``pair_style mace`` reads, and read it back.

    Args:
        run: Loaded with ``backend="reference"``; its heads are changed.
        path: Upstream ends it with ``-lammps.pt``.

    Raises:
        KanmlipError: If the file is not the model.
    """
    from e3nn.util import jit

    graph = probe_graph(run)
    expected = run.potential(graph)
    record_heads(run)  # scripts know neither the annotations nor the casts of our files
    with contained_imports(), default_dtype(run.dtype):
        from mace.calculators import LAMMPS_MACE

        compiled = jit.compile(LAMMPS_MACE(freeze(run.potential.upstream)))
    with checked_file(path) as part:
        compiled.save(str(part))
        loaded = cast("nn.Module", cast("Any", torch.jit).load(str(part)))
        energy, forces = run_libtorch(loaded, run, graph)
        return check(compare(expected, energy, forces), run.dtype, path.name)


def run_libtorch(module: nn.Module, run: LoadedRun, graph: Graph) -> tuple[Tensor, Tensor]:
    """Energy [1] and forces [N, 3] of a libtorch file, all atoms local, as LAMMPS calls it."""
    potential = cast("MACEPotential", run.potential)
    inputs = potential.to("cpu").inputs(graph.to("cpu"), graph.positions.cpu(), graph.cell.cpu())
    # LAMMPS differentiates by positions; ours are zeros, and the vectors between atoms are in the shifts, exact to float64.
    inputs["positions"].requires_grad_(True)
    output = module(inputs, torch.ones(graph.positions.shape[0], dtype=run.dtype), False)
    return output["total_energy_local"], output["forces"]


def write_mliap(run: LoadedRun, path: Path) -> Difference:
    """Write the pickle that LAMMPS's ``pair_style mliap unified`` reads; needs mace-torch, and not kanmlip, to be loaded.

    Upstream turns the model into one with cuequivariance's kernels, by building it again from its sizes: readouts that it does
    not know are rebuilt as its own, or end in a TypeError. The heads are therefore taken out before and put back after.

    Args:
        run: Loaded with ``backend="reference"``; its heads are changed.
        path: Upstream ends it with ``-mliap_lammps.pt``.

    Raises:
        MissingDependencyError: If cuequivariance is not installed.
        KanmlipError: If the file is not the model.
    """
    require_cuequivariance()
    graph = probe_graph(run)
    expected = run.potential(graph)
    with checked_file(path) as part:
        torch.save(build_mliap(run), part)
        # Ours, just written, and upstream's format: a pickle of a module.
        energy, forces = evaluate_mliap(torch.load(part, weights_only=False), graph.to("cpu"), run.dtype)
        return check(compare(expected, energy, forces), run.dtype, path.name)


def build_mliap(run: LoadedRun) -> Any:
    """Upstream's ``LAMMPS_MLIAP_MACE`` of a run, its heads recorded as plain PyTorch."""
    has_kans = run.config.placement.name != "none"
    record_heads(run)
    upstream = cast("Any", freeze(run.potential.upstream))
    heads = upstream.readouts
    with contained_imports(), default_dtype(run.dtype):
        from mace.calculators.lammps_mliap_mace import LAMMPS_MLIAP_MACE
        from mace.cli.convert_e3nn_cueq import run as convert

        if has_kans:
            # Readouts of the right kind and size, for upstream to take the sizes from; nothing else of this model is used.
            upstream.readouts = cast("Any", run.config.model.build(run.stats, run.dtype, run.config.seed).upstream).readouts
        converted = convert(upstream, device="cpu", return_model=True)
        if has_kans:
            upstream.readouts = converted.readouts = heads
        converted.lammps_mliap = True
        return LAMMPS_MLIAP_MACE(freeze(converted))


def require_cuequivariance() -> None:
    """Check that what converts to ML-IAP is installed.

    Raises:
        MissingDependencyError: With the command that installs it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"MACE's ML-IAP file needs {', '.join(missing)}, which is not installed; run: pip install cuequivariance cuequivariance-torch"
        )


@contextmanager
def contained_imports() -> Iterator[None]:
    """Import parts of MACE without what that does to the process; see :func:`kanmlip.models.mace.import_mace_modules`."""
    import_mace_modules()
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before
