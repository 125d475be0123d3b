"""The ways in which a potential is evaluated in molecular dynamics: eager, torch.compile, AOTInductor without and with our kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from kanmlip.benchmark.md_simulation import Evaluate
from kanmlip.data.graph import Graph
from kanmlip.errors import KanmlipError
from kanmlip.export.probe import Difference, check
from kanmlip.kan import native
from kanmlip.models.nequip_energy import NequIPPotential, contained_global_state
from kanmlip.models.potential import EnergyPotential

MODES = {"eager": "eager", "compile": "torch.compile", "aot": "AOTInductor", "native": "AOTInductor with kanmlip's kernels"}
# Those that make a file.
PACKAGED = ("aot", "native")
# Of nequip's compiled models for ASE (nequip/scripts/_compile_utils.py), less the stress, which NVT needs not.
INPUTS = ("pos", "edge_index", "atom_types", "cell", "edge_cell_shift")
OUTPUTS = ("total_energy", "forces")


def eager(potential: EnergyPotential, device: str) -> Evaluate:
    """The potential as it is."""

    def evaluate(graph: Graph) -> tuple[float, np.ndarray]:
        output = potential(graph.to(device))
        return float(output["energy"]), output["forces"].cpu().numpy()

    return evaluate


def make_evaluate(potential: EnergyPotential, mode: str, device: str, example: Graph, package: Path) -> Evaluate:
    """A potential in a mode, checked against itself in eager mode.

    Args:
        potential: In evaluation mode on its device, parameters frozen.
        mode: A key of ``MODES``.
        device: ``cpu`` or ``cuda``.
        example: A structure to record and check with.
        package: File of the AOTInductor model (.pt2): read if it is there, else made.

    Raises:
        KanmlipError: In one line, if the mode cannot be had for this potential or gives something else.
    """
    plain = eager(potential, device)
    if mode == "eager":
        return plain
    if mode == "native" and (device != "cpu" or not native.load()):
        raise KanmlipError(f"no kernels of kanmlip's that a compiled file could call on {device}")
    if mode in PACKAGED and not isinstance(potential, NequIPPotential):
        raise KanmlipError("upstream has no AOTInductor route for this model")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of compilers, about themselves
            if mode in PACKAGED:
                made = _packaged(cast("NequIPPotential", potential), mode, device, example, package)
            elif isinstance(potential, NequIPPotential):
                made = _recorded(potential, device, example)
            else:
                made = _compiled_energy(potential, device)
            found = made(example)
    except Exception as error:  # compilers fail in as many ways as there are operators
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise KanmlipError(f"{MODES[mode]} failed: {type(error).__name__}: {lines[0][:160] if lines else 'no message'}") from error
    expected = plain(example)
    scales = max(1.0, abs(expected[0])), max(1.0, float(np.abs(expected[1]).max()))
    difference = Difference(abs(found[0] - expected[0]) / scales[0], float(np.abs(found[1] - expected[1]).max()) / scales[1])
    check(difference, next(potential.parameters()).dtype, MODES[mode])
    return made


def _fields(potential: NequIPPotential, graph: Graph, device: str) -> list[Tensor]:
    moved = graph.to(device)
    inputs = potential.inputs(moved, moved.positions, moved.cell)
    return [inputs[name] for name in INPUTS]


def _by_fields(potential: NequIPPotential, device: str, call: Callable[..., Any]) -> Evaluate:
    def evaluate(graph: Graph) -> tuple[float, np.ndarray]:
        energy, forces = call(*_fields(potential, graph, device))
        return float(energy.detach()), forces.detach().cpu().double().numpy()

    return evaluate


def _recorded(potential: NequIPPotential, device: str, example: Graph) -> Evaluate:
    """Forces and all as one recorded program, then compiled: what nequip does in training, here for one structure."""
    from nequip.nn.compile import ListInputOutputWrapper
    from nequip.utils.fx import nequip_make_fx

    with contained_global_state():
        wrapped = ListInputOutputWrapper(potential.upstream, list(INPUTS), list(OUTPUTS))
        data = dict(zip(INPUTS, _fields(potential, example, device), strict=True))
        program = nequip_make_fx(model=wrapped, data=data, fields=list(INPUTS))
    return _by_fields(potential, device, torch.compile(program, dynamic=True))


def _packaged(potential: NequIPPotential, mode: str, device: str, example: Graph, package: Path) -> Evaluate:
    """nequip's AOTInductor route with a model in memory."""
    from nequip.utils.aot import aot_export_model

    if not package.is_file():
        from kanmlip.export.with_kernels import kernels_linked

        dim = torch.export.Dim
        data = dict(zip(INPUTS, _fields(potential, example, device), strict=True))
        with contained_global_state(), kernels_linked() if mode == "native" else nullcontext():
            aot_export_model(
                model=potential.upstream,
                device=device,
                input_fields=list(INPUTS),
                output_fields=list(OUTPUTS),
                data=data,
                batch_map={"graph": dim.STATIC, "node": dim("num_nodes", min=2), "edge": dim("num_edges", min=2)},
                output_path=str(package),
            )
    return _by_fields(potential, device, cast("Any", torch)._inductor.aoti_load_package(str(package)))


class _Energy(nn.Module):
    """The energy of a potential as a call of tensors and a graph."""

    def __init__(self, potential: EnergyPotential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, graph: Graph, positions: Tensor) -> Tensor:
        return self.potential.energy(graph, positions, graph.cell)


def _compiled_energy(potential: EnergyPotential, device: str) -> Evaluate:
    """The energy compiled, its gradient by autograd through what the compiler made."""
    energy_of = torch.compile(_Energy(potential), dynamic=True)

    def evaluate(graph: Graph) -> tuple[float, np.ndarray]:
        moved = graph.to(device)
        positions = moved.positions.detach().requires_grad_(True)
        energy = energy_of(moved, positions)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return float(energy.detach()), -gradient.cpu().numpy()

    return evaluate
