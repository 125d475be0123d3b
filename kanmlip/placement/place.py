"""Swap MLPs for KANs, or for controls, in a built potential, each starting as the function that it replaces."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.errors import ConfigError, describe_choice
from kanmlip.kan import KAN, Basis, KANLayer
from kanmlip.models.base import ModelConfig
from kanmlip.models.potential import Potential
from kanmlip.placement.config import HeadConfig, PlacementConfig, head_name
from kanmlip.placement.dense import DenseHead
from kanmlip.placement.head import Head, Network, Swap
from kanmlip.placement.report import PlacementReport, Replacement
from kanmlip.placement.widths import dense_weights, grown_widths, matched_widths


class BasisFactory(Protocol):
    """A named recipe for basis functions."""

    @property
    def name(self) -> str:
        """Name in tables and run ids."""

    @property
    def backend(self) -> str:
        """Which kernels compute the KANs."""

    def build(self) -> Basis:
        """A fresh basis."""


def place(potential: Potential, model: ModelConfig, placement: PlacementConfig, basis: BasisFactory, calibration: Graph) -> PlacementReport:
    """Replace the MLPs that a placement names, in place.

    Modules are swapped in the order in which the model calls them. Each new head sees its true inputs on ``calibration``
    (with the heads before it in place), freezes its input scale and is fitted to what the replaced module computed there.
    A swapped model therefore starts as nearly the same function as the model with MLPs of the same seed.

    Args:
        potential: As ``model.build`` returned it.
        model: Its settings.
        placement: What to replace, and how.
        basis: Basis functions of the KANs.
        calibration: A batch of training structures.

    Returns:
        Every replaced module with shapes and parameters.

    Raises:
        ConfigError: If the model has no such placement, a glob of the model matches nothing, or a grid cannot be updated.
    """
    if placement.name not in model.placements:
        raise ConfigError(f"model={model.name}: " + describe_choice("placement", placement.name, model.placements))
    if placement.name != "none" and (not placement.head.zero_preserving or placement.head.norm == "layer"):
        warnings.warn(
            f"placement.head.zero_preserving={placement.head.zero_preserving} placement.head.norm={placement.head.norm}: "
            f"energies of such heads jump when a neighbour crosses the cutoff; good for comparison, not for molecular dynamics",
            stacklevel=2,
        )
    targets = find_targets(potential.upstream, model, model.placements[placement.name])
    outputs = {path: output for path, _, output in record_calls(potential, targets, calibration)}
    replaced = []
    for path, output in outputs.items():
        replaced.append(_replace(potential, path, targets[path], output, model, placement, basis, calibration))
    for replacement in replaced:
        for network in potential.upstream.get_submodule(replacement.path).modules():
            if isinstance(network, KAN):
                network.set_backend(basis.backend)
    groups = model.placements[placement.name] or ("output",)
    heads = find_targets(potential.upstream, model, [group for group in groups if group in model.targets])
    return PlacementReport(
        placement=placement.name,
        basis=head_name(placement.head, basis.name) if replaced else None,
        head=placement.head.kind if replaced else None,
        replaced=tuple(replaced),
        parameters_total=count_parameters(potential),
        parameters_head=sum(count_parameters(potential.upstream.get_submodule(path)) for path in heads),
    )


def _replace(
    potential: Potential,
    path: str,
    target: str,
    output: Tensor,
    model: ModelConfig,
    placement: PlacementConfig,
    basis: BasisFactory,
    calibration: Graph,
) -> Replacement:
    """Put a head in the place of the module at ``path``, fitted to that module's ``output`` on the calibration structures."""
    module = potential.upstream.get_submodule(path)
    before = count_parameters(module)
    network, new = build_head(model.swap(module, target, placement), placement.head, basis, before)
    if isinstance(network, KAN):
        # Structures are on the CPU here, whatever device the training has.
        network.set_backend("torch" if basis.backend == "triton" else basis.backend)
    like = next(module.parameters())
    new.to(device=like.device, dtype=like.dtype)
    potential.upstream.set_submodule(path, new)
    inputs = next(x for called, x, _ in record_calls(potential, [path], calibration) if called == path)
    cast("Head", new).imitate(inputs, output)
    if placement.head.update_grid:
        update_grid(cast("KAN", network), new, inputs, basis.name)
    return Replacement(path, target, type(module).__name__, network.widths, tuple(output.shape), before, count_parameters(new))


def build_head(swap: Swap, head: HeadConfig, basis: BasisFactory, budget: int) -> tuple[Network, nn.Module]:
    """The KAN of a swap, or the control in its place, and the module around it.

    Args:
        swap: Widths, and what goes around the network.
        head: Settings; with ``kind=kan match=parameters`` the whole module keeps to the budget, if any widths can.
        basis: Basis functions of the KAN.
        budget: Parameters of the replaced module.
    """
    if head.kind != "kan":
        control = DenseHead(control_widths(swap, head, basis), head.norm)
        return control, swap.wrap(control)

    def build(widths: Sequence[int]) -> tuple[KAN, nn.Module]:
        kan = KAN(widths, basis.build(), base=head.base, zero_preserving=head.zero_preserving, norm=head.norm)
        return kan, swap.wrap(kan)

    kan, new = build(swap.widths)
    if head.match == "widths":
        return kan, new
    around = count_parameters(new) - count_parameters(kan)
    # A learnable basis has parameters of its own in every layer.
    expansion = cast("KANLayer", kan.layers[0]).expansion
    columns, learnable = expansion.columns, count_parameters(expansion)
    widths = matched_widths(swap.widths, budget - around, lambda ws: columns * dense_weights(ws) + learnable * (len(ws) - 1))
    return (kan, new) if widths == swap.widths else build(widths)


def control_widths(swap: Swap, head: HeadConfig, basis: BasisFactory) -> tuple[int, ...]:
    """Widths of a control; see :class:`kanmlip.placement.config.HeadConfig`."""
    if head.kind == "linear":
        return (swap.widths[0], swap.widths[-1])
    if head.match == "parameters":
        # Its own draw of weights must not shift that of the control's.
        with torch.random.fork_rng():
            return grown_widths(swap.widths, count_parameters(KAN(swap.widths, basis.build(), base=head.base)))
    return grown_widths(swap.widths, head.cost_ratio * dense_weights(swap.widths)) if head.cost_ratio is not None else swap.widths


def update_grid(kan: KAN, head: nn.Module, inputs: Tensor, basis: str) -> None:
    """Move the grids of a head's KAN to what it gets of the head's ``inputs``.

    Raises:
        ConfigError: If the basis has no grid, or the inputs reach too far for one.
    """
    seen: list[Tensor] = []
    handle = kan.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    try:
        with torch.no_grad():
            head(inputs)
        kan.update_grid(seen[0])
    except ValueError as error:
        raise ConfigError(f"placement.head.update_grid=true basis={basis}: {error}; or set placement.head.update_grid=false") from error
    finally:
        handle.remove()


def find_targets(upstream: nn.Module, model: ModelConfig, groups: Iterable[str]) -> dict[str, str]:
    """Paths in ``upstream`` that the model's globs for ``groups`` match, each with its group.

    Raises:
        ConfigError: If a glob matches nothing; lists what is there.
    """
    # A glob's * stands for one path component, as in a shell: readouts.* must not match readouts.0.linear.
    paths = [path for path, _ in upstream.named_modules() if path]
    found: dict[str, str] = {}
    for group in groups:
        for glob in model.targets[group]:
            matches = [path for path in paths if path.count(".") == glob.count(".") and fnmatchcase(path, glob)]
            if not matches:
                near = [path for path in paths if path.count(".") <= glob.count(".")]
                raise ConfigError(f"model={model.name}: no module matches '{glob}' (group {group}); the model has: {', '.join(near)}")
            found |= dict.fromkeys(matches, group)
    return found


def record_calls(potential: Potential, paths: Iterable[str], batch: Graph) -> list[tuple[str, Tensor, Tensor]]:
    """Evaluate ``batch`` once and record (path, first input, output) of the modules at ``paths``, in order of their calls."""
    calls: list[tuple[str, Tensor, Tensor]] = []

    def recorder(path: str) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            calls.append((path, inputs[0].detach(), output.detach()))

        return potential.upstream.get_submodule(path).register_forward_hook(hook)

    handles = [recorder(path) for path in paths]
    try:
        potential.run_upstream(batch)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
