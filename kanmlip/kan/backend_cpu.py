"""The contractions by compiled kernels; see ``cpu/``. Families of local support touch only the functions that are not zero."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from kanmlip.kan import backend_torch
from kanmlip.kan.cpu.build import available
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.family import Chebyshev, Gaussians, LocalPolynomials, Waves

__all__ = ["available", "contract_input", "contract_output", "contract_weight", "input_gradients", "layer", "stack"]

# As in cpu/plan.h.
_EVEN_GAUSSIANS, _GAUSSIANS, _WAVES, _CHEBYSHEV, _LOCAL = range(5)
# Relative difference of two centre distances below which a kernel may count on equal ones.
_EVEN = 1e-12


def contract_output(expansion: Expansion, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_output``."""
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_output(expansion, x, v, weight, shape, order)
    return cast("Tensor", _ops().output(x, v, weight, shape, plan, order))


def contract_weight(expansion: Expansion, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_weight``."""
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_weight(expansion, x, v, g, shape, order)
    return cast("Tensor", _ops().weight(x, v, g, shape, plan, order))


def contract_input(expansion: Expansion, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_input``."""
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_input(expansion, x, g, weight, shape, order)
    return cast("Tensor", _ops().input(x, g, weight, shape, plan, order))


def input_gradients(
    expansion: Expansion, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``contract_input`` by x, g and W for an incoming v [N, in], in one pass where there is a kernel for that."""
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.input_gradients(expansion, x, v, g, weight, shape, order)
    return cast("tuple[Tensor, Tensor, Tensor]", _ops().gradients(x, v, g, weight, shape, plan, order, True))


def layer(expansion: Expansion) -> Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor] | None:
    """y(x, parameters, gain, s) with compiled nodes in the autograd graph; None where functions have parameters, or no kernel."""
    plan = _plan(expansion)
    if plan is None or expansion.basis.shape() is not None:
        return None
    operator = _ops().layer.default
    return lambda x, weight, gain, scale: cast("Tensor", operator(x, weight, gain, scale, plan))


def stack(
    expansions: Sequence[Expansion], x: Tensor, weights: Sequence[Tensor], gains: Sequence[Tensor], scales: Sequence[Tensor]
) -> Tensor:
    """Layers in a row, of expansions that ``layer`` takes: as one node that keeps x alone if no weights are trained."""
    return cast("Tensor", _ops().stack.default(x, weights, gains, scales, [_plan(expansion) for expansion in expansions]))


def _ops() -> torch._ops._OpNamespace:
    return torch.ops.kanmlip_cpu


@functools.lru_cache(maxsize=1024)
def _plan(expansion: Expansion) -> int | None:
    """The number of a plan for an expansion of ``read_spec``, which never changes; None if there is no kernel for its basis."""
    match family := expansion.basis.family():
        case LocalPolynomials():
            return _add(expansion, _LOCAL, _local(family), family.size)
        case Gaussians(centres=()):
            return _add(expansion, _GAUSSIANS, (), family.size)
        case Gaussians(centres=centres, inverse_widths=inverse_widths):
            even = [centres[0] + k / inverse_widths[0] for k in range(len(centres))]
            wide = abs(centres[-1] - centres[0])
            if len(set(inverse_widths)) == 1 and all(abs(a - b) <= _EVEN * wide for a, b in zip(even, centres, strict=True)):
                return _add(expansion, _EVEN_GAUSSIANS, (centres[0], inverse_widths[0]), family.size)
        case Waves():
            return _add(expansion, _WAVES, (family.frequency,), family.size)
        case Chebyshev():
            return _add(expansion, _CHEBYSHEV, (1 / family.width,), family.size)
    return None


def _add(expansion: Expansion, family: int, numbers: tuple[float, ...], size: int) -> int:
    return cast("int", _ops().plan(family, numbers, size, expansion.base, expansion.zero_preserving))


def _local(family: LocalPolynomials) -> tuple[float, ...]:
    """Start, spacing, pieces, terms, and the coefficients about the middle of an interval, where they cancel least."""
    terms = len(family.pieces[0])
    centred = [[sum(piece[q] * math.comb(q, p) * 0.5 ** (q - p) for q in range(p, terms)) for p in range(terms)] for piece in family.pieces]
    return (family.start, family.spacing, float(len(centred)), float(terms), *(c for piece in centred for c in piece))
