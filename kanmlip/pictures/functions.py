"""The learned functions of one variable that KAN layers consist of, with the density of what each one sees."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kanmlip.data.graph import Graph
from kanmlip.experiment.atomic import write_npz
from kanmlip.kan import KANLayer
from kanmlip.models.potential import Potential
from kanmlip.pictures.figure import COLOURS, GREY, new_figure, save, styled

POINTS = 400
MOST_ROWS = 4000  # of inputs that densities and importances are taken from
PANELS_IN_A_ROW = 4


@dataclass(frozen=True)
class LearnedFunction:
    """One function of a layer, y_o = Σ_i f_oi(x_i).

    Attributes:
        source: i.
        target: o.
        importance: Standard deviation of f_oi(x_i) over the inputs, in the layer's output units.
        x: [P], normalised inputs, as the basis functions see them.
        y: [P], f_oi(x).
        base: [P], the SiLU part of it; zeros for a layer without one.
        inputs: [M], what the layer saw there.
    """

    source: int
    target: int
    importance: float
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    base: NDArray[np.float64]
    inputs: NDArray[np.float64]


def record_inputs(potential: Potential, batches: Sequence[Graph]) -> dict[str, Tensor]:
    """What every KAN layer of a potential gets, normalised: path in ``upstream`` → [M, in], at most some thousand rows.

    Returns:
        In the order of the layers' names; empty for a potential without a KAN.
    """
    seen: dict[str, list[Tensor]] = {}

    def recorder(path: str, layer: KANLayer) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(path, []).append(layer.normalise(inputs[0].detach().reshape(-1, layer.in_features)))

        return layer.register_forward_pre_hook(hook)

    with ExitStack() as stack:
        for path, module in potential.upstream.named_modules():
            if isinstance(module, KANLayer):
                stack.callback(recorder(path, module).remove)
        for batch in batches:
            potential.run_upstream(batch)
    joined = {path: torch.cat(parts) for path, parts in seen.items()}
    return {path: x[:: -(-len(x) // MOST_ROWS)] for path, x in joined.items() if len(x)}


@torch.no_grad()
def learned_functions(layer: KANLayer, inputs: Tensor, most: int) -> list[LearnedFunction]:
    """The functions of a layer that matter most.

    Args:
        layer: A layer of ``in`` · ``out`` functions.
        inputs: Normalised inputs [M, in].
        most: How many to return.

    Returns:
        In falling order of importance.
    """
    weight = layer.effective_weight  # [out, columns, in]
    importance = _importance(layer, inputs)
    order = importance.flatten().argsort(descending=True)[:most].tolist()
    low, high = torch.quantile(inputs.double(), 0.001, dim=0), torch.quantile(inputs.double(), 0.999, dim=0)
    found = []
    for index in order:
        target, source = divmod(index, layer.in_features)
        margin = 0.15 * float(high[source] - low[source]) or 1.0
        x = torch.linspace(float(low[source]) - margin, float(high[source]) + margin, POINTS, dtype=torch.float64)
        functions = layer.expansion.evaluate(x.to(weight))
        parts = (functions * weight[target, :, source]).double()
        base = parts[:, -1] if layer.expansion.base else torch.zeros_like(x)
        found.append(
            LearnedFunction(
                source, target, float(importance[target, source]), x.numpy(), parts.sum(1).cpu().numpy(), base.cpu().numpy(),
                inputs[:, source].double().cpu().numpy(),
            )
        )  # fmt: skip
    return found


def _importance(layer: KANLayer, inputs: Tensor) -> Tensor:
    """Standard deviation of every f_oi over the inputs [out, in]; channel by channel, since all at once may not fit in memory."""
    weight = layer.effective_weight
    columns = []
    for source in range(layer.in_features):
        values = layer.expansion.evaluate(inputs[:, source]) @ weight[:, :, source].T  # [M, out]
        columns.append(values.std(0, correction=0))
    return torch.stack(columns, dim=1)


@styled
def draw_functions(path: str, functions: Sequence[LearnedFunction], folder: Path) -> list[Path]:
    """Write functions_<path>.png, .svg and .npz for one layer: f_oi with the density of x_i under it, in grey."""
    rows = -(-len(functions) // PANELS_IN_A_ROW)
    figure = new_figure(2.1 * PANELS_IN_A_ROW, 1.7 * rows + 0.3)
    grid = figure.subplots(rows, PANELS_IN_A_ROW, squeeze=False).ravel()
    for axes, function in zip(grid, functions, strict=False):
        density = axes.twinx()
        density.hist(function.inputs, bins=50, range=(function.x[0], function.x[-1]), density=True, color=GREY)
        density.set_yticks([])
        density.spines["right"].set_visible(False)
        axes.set_zorder(density.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.plot(function.x, function.y, color=COLOURS[0], linewidth=1.3)
        if function.base.any():
            axes.plot(function.x, function.base, color=COLOURS[1], linewidth=0.8, linestyle="--")
        axes.set_title(f"x{function.source} → y{function.target}   σ = {function.importance:.2g}", fontsize=7)
    for axes in grid[len(functions) :]:
        axes.set_axis_off()
    figure.suptitle(f"{path}: learned functions of normalised inputs; dashed: SiLU part; grey: density of the inputs", fontsize=8)
    name = f"functions_{path.replace('.', '_')}"
    data = folder / f"{name}.npz"
    arrays = {
        "source": np.array([function.source for function in functions]),
        "target": np.array([function.target for function in functions]),
        "importance": np.array([function.importance for function in functions]),
        **{field: np.stack([getattr(function, field) for function in functions]) for field in ("x", "y", "base", "inputs")},
    }
    write_npz(data, arrays)
    return [*save(figure, folder, name), data]
