"""Move the grid of a layer's splines to where its inputs are, and keep the function.

Never called in ``forward``: a grid that follows the batch would make a structure's energy depend on its batch. The trap elsewhere:
efficient-kan's ``update_grid`` multiplies the spline weights by their scale twice and so changes the function by 99 %.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanmlip.kan.bspline import BSpline
from kanmlip.kan.truncated_power import TruncatedPower

if TYPE_CHECKING:
    from kanmlip.kan.layer import KANLayer

Spline = BSpline | TruncatedPower

# An interval is split into at most so many, however narrow the inputs.
MAX_REFINEMENT = 32
# One weight a function, input and output: more intervals mean that outliers set the grid.
MAX_INTERVALS = 256
# Points in an interval at which two spline spaces are compared; a polynomial of order 5 has 6 coefficients.
_POINTS = 8
# An input so close beyond a knot, in intervals, counts as on it.
_TOLERANCE = 1e-9


@torch.no_grad()
def update_grid(layer: KANLayer, x: Tensor, *, intervals: int | None = None, quantile: float = 0.0) -> float:
    """Set a layer's grid from quantiles of its normalised inputs, and its weights such that the function stays.

    Without ``intervals`` the new knots contain the old ones: each old interval is split into m equal ones, such that the number
    of intervals over the data stays about the same, and the ends lie on knots too. The old function is then a spline on the new
    grid and stays as it is between the ends; only beyond them, where a share ``quantile`` of the inputs may lie, it changes.
    With ``intervals`` the ends are the quantiles themselves, and the function is fitted by least squares, all of the new grid alike.

    A layer with ``zero_preserving`` keeps zero within its grid. The number of weights changes: make optimisers afterwards.

    Args:
        layer: The layer; its ``expansion``, ``weight``, ``gain`` and ``grid`` change.
        x: Inputs as ``forward`` takes them, [M, in].
        intervals: Number of intervals of the new grid; None to keep the function.
        quantile: Share of the inputs that may lie beyond each end of the grid, 0 to 0.5.

    Returns:
        The largest change of an output on ``x``: rounding, unless ``intervals`` or ``quantile`` is given.

    Raises:
        ValueError: If the basis has no grid to refit, the inputs are empty or not finite, ``quantile`` or ``intervals`` is out
            of range, or the inputs reach so far that they would need more than 256 intervals.
    """
    basis = layer.expansion.basis
    if not isinstance(basis, Spline):
        raise ValueError(f"basis={type(basis).__name__} has no grid that can be refitted; choose from: BSpline, TruncatedPower")
    if x.dim() != 2 or x.shape[1] != layer.in_features or x.shape[0] == 0 or not bool(torch.isfinite(x).all()):
        raise ValueError(f"x of shape {list(x.shape)} must be finite and [M, {layer.in_features}] with M ≥ 1; look for NaN in the inputs")
    lower, upper = _ends(layer.normalise(x), quantile)
    if layer.expansion.zero_preserving:
        lower, upper = min(lower, 0.0), max(upper, 0.0)
    new = _refined(basis, lower, upper) if intervals is None else _fitted(basis, lower, upper, intervals)
    weight, before, size = layer.effective_weight, layer(x), basis.num_basis
    splines = torch.einsum("mk,oki->omi", change_of_basis(basis, new).to(weight.device), weight[:, :size].double())
    layer.set_grid(encode(new))
    layer.set_effective_weight(torch.cat([splines.to(weight.dtype), weight[:, size:]], dim=1))
    return float((layer(x) - before).abs().max())


def change_of_basis(old: Spline, new: Spline) -> Tensor:
    """R [K_new, K_old], float64, on the CPU: Σ_m φ_new,m R_mk = φ_old,k on the new grid, in least squares if there is no such R."""
    exact = [copy.deepcopy(basis).to(device="cpu", dtype=torch.float64) for basis in (old, new)]
    count = _POINTS * max(1, math.ceil(new.spacing / old.spacing))
    fractions = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    x = new.grid_min + new.spacing * (torch.arange(new.grid, dtype=torch.float64).unsqueeze(1) + fractions).flatten()
    # B-splines first, which are well conditioned; the large coefficients of truncated powers cancel in every product with them.
    result: Tensor = torch.linalg.lstsq(exact[1].kernel().evaluate(x), exact[0].evaluate(x)).solution
    mixing = exact[1].mixing()
    return result if mixing is None else torch.linalg.solve(mixing, result)


def encode(basis: Spline) -> Tensor:
    """Intervals and ends [3] for ``state_dict``: the bits of float64 numbers in integers, which no change of dtype rounds."""
    return torch.tensor([basis.grid, basis.grid_min, basis.grid_max], dtype=torch.float64).view(torch.int64)


def with_grid(basis: Spline, grid: Tensor) -> Spline:
    """A basis of the same kind on the grid that ``encode`` wrote."""
    intervals, lower, upper = grid.cpu().view(torch.float64).tolist()
    return _on_grid(basis, int(intervals), lower, upper)


def _on_grid(basis: Spline, intervals: int, lower: float, upper: float) -> Spline:
    return type(basis)(**{**basis.arguments(), "grid": intervals, "grid_min": lower, "grid_max": upper})


def _ends(x: Tensor, quantile: float) -> tuple[float, float]:
    """The quantiles of all channels together, rounded outwards to inputs that occur."""
    if not 0 <= quantile < 0.5:
        raise ValueError(f"quantile={quantile} must be at least 0 and below 0.5; 0 puts all inputs within the grid, 0.001 cuts outliers")
    ordered = x.flatten().sort().values
    skipped = math.floor(quantile * (len(ordered) - 1))
    return float(ordered[skipped]), float(ordered[-1 - skipped])


def _refined(basis: Spline, lower: float, upper: float) -> Spline:
    """A grid over [lower, upper] whose knots contain those of the old one, carried on beyond its ends."""
    length = basis.grid * basis.spacing
    parts = MAX_REFINEMENT if upper - lower < length / MAX_REFINEMENT else max(1, round(length / (upper - lower)))
    spacing = basis.spacing / parts
    first = math.floor((lower - basis.grid_min) / spacing + _TOLERANCE)
    last = max(math.ceil((upper - basis.grid_min) / spacing - _TOLERANCE), first + 1)
    if last - first > MAX_INTERVALS:
        raise ValueError(
            f"inputs from {lower:.3g} to {upper:.3g} need {last - first} intervals, more than {MAX_INTERVALS}; calibrate the input scale "
            f"first, cut outliers by quantile=0.001, or give the number of intervals"
        )
    return _on_grid(basis, last - first, basis.grid_min + first * spacing, basis.grid_min + last * spacing)


def _fitted(basis: Spline, lower: float, upper: float, intervals: int) -> Spline:
    """A grid from lower to upper; one old interval long at the least if the inputs do not vary."""
    if not 1 <= intervals <= MAX_INTERVALS:
        raise ValueError(f"intervals={intervals} is not possible; give 1 to {MAX_INTERVALS}, or None to keep the function")
    return _on_grid(basis, intervals, lower, upper if upper > lower else lower + basis.spacing)
