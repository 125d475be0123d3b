"""NequIP and Allegro compiled by AOTInductor (.nequip.pt2), as upstream's pair styles for LAMMPS load them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from kanmlip.data.graph import Graph
from kanmlip.errors import KanmlipError
from kanmlip.export.checked import checked_file
from kanmlip.export.loading import LoadedRun
from kanmlip.export.mliap_run import ghosts
from kanmlip.export.probe import Difference, check, compare, probe_graph
from kanmlip.models.nequip_energy import NequIPPotential

# Arguments in the order of the pair styles (nequip/scripts/_compile_utils.py and allegro/_compile.py).
ARGUMENTS = {
    "pair_nequip": ("pos", "edge_index", "atom_types", "cell", "edge_cell_shift"),
    "pair_allegro": ("pos", "edge_index", "atom_types"),
}


def compile_package(
    package: Path, path: Path, target: str, device: str, run: LoadedRun, program: str = "nequip.scripts.compile"
) -> Difference:
    """Run upstream's ``nequip-compile`` on a package, and compare what it made with the model in memory.

    Args:
        package: From :func:`kanmlip.export.nequip_files.write_package`.
        path: Must end with ``.nequip.pt2``.
        target: ``pair_allegro`` or ``pair_nequip``.
        device: Where the compiled model is to run; must be there.
        run: The model in memory.
        program: The module to run; one that does the same with more operators known.

    Raises:
        KanmlipError: With the last line of upstream's message, or if the file is not the model.
    """
    with checked_file(path) as part:
        command = [sys.executable, "-m", program, str(package), str(part)]
        command += ["--mode", "aotinductor", "--device", device, "--target", target]
        # A process of its own: the command sets process-wide state that it does not take back.
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not part.is_file():
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise KanmlipError(f"nequip-compile failed on {package.name}: {lines[-1] if lines else 'no message'}")
        graph = probe_graph(run)
        energy, forces = run_compiled(part, target, run, graph, device)
        return check(compare(run.potential(graph), energy, forces), run.dtype, path.name)


def run_compiled(path: Path, target: str, run: LoadedRun, graph: Graph, device: str) -> tuple[Tensor, Tensor]:
    """Energy [] eV and forces [N, 3] eV/Å of one structure, by the calls that the pair style makes."""
    arguments, owner = pair_arguments(cast("NequIPPotential", run.potential), target, graph)
    compiled = cast("Any", torch)._inductor.aoti_load_package(str(path))
    return of_atoms(compiled(*(argument.to(device) for argument in arguments)), graph, owner)


def pair_arguments(potential: NequIPPotential, target: str, graph: Graph) -> tuple[list[Tensor], Tensor]:
    """What a pair style hands to a compiled model for one structure, and the atom of each of its atoms and ghosts [N + G]."""
    inputs = potential.inputs(graph, graph.positions, graph.cell)
    owner = torch.arange(graph.positions.shape[0], device=graph.positions.device)
    if target == "pair_allegro":  # knows no periodic images: every neighbour outside the cell is an atom of its own, a ghost
        owners, copies = ghosts(graph)
        shift = graph.edge_cell_shift[graph.edge_cell_shift.ne(0).any(1)].to(graph.cell)
        images = graph.positions[owners] + shift @ graph.cell[0]
        owner = torch.cat([owner, owners])
        inputs |= {
            "pos": torch.cat([graph.positions, images]),
            "edge_index": torch.stack([graph.edge_index[0], copies]),
            "atom_types": inputs["atom_types"][owner],
        }
    return [inputs[name] for name in ARGUMENTS[target]], owner


def of_atoms(output: Sequence[Tensor], graph: Graph, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Energy [] eV and forces [N, 3] eV/Å from what a compiled model gives for :func:`pair_arguments`."""
    energies, acting, _ = output
    forces = torch.zeros_like(graph.positions).index_add_(0, owner, acting.to(graph.positions))
    return energies[: graph.positions.shape[0]].sum(), forces
