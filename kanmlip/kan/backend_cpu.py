"""The contractions by compiled kernels; see ``cpu/``. Families of local support touch only the functions that are not zero."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from kanmlip.kan import backend_torch
from kanmlip.kan.basis import check_derivative
from kanmlip.kan.cpu.build import available
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.family import Chebyshev, Gaussians, LocalPolynomials, Waves

__all__ = ["available", "contract_input", "contract_output", "contract_weight"]

_EVEN_GAUSSIANS, _GAUSSIANS, _WAVES, _CHEBYSHEV = range(4)
# Relative difference of two centre distances below which a kernel may count on equal ones.
_EVEN = 1e-12


class _Plan(NamedTuple):
    """Which kernels to call, and with what; kind is None for functions of local support."""

    kind: int | None
    numbers: tuple[float, ...]
    size: int


def contract_output(expansion: Expansion, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_output``."""
    check_derivative(order)
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_output(expansion, x, v, weight, shape, order)
    if plan.kind is not None:
        return cast("Tensor", _ops().dense_output(x, v, weight, shape, *plan, *_flags(expansion), order))
    return cast("Tensor", _ops().local_output(x, v, weight, plan.numbers, plan.size, *_flags(expansion), order))


def contract_weight(expansion: Expansion, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_weight``."""
    check_derivative(order)
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_weight(expansion, x, v, g, shape, order)
    if plan.kind is not None:
        return cast("Tensor", _ops().dense_weight(x, v, g, shape, *plan, *_flags(expansion), order))
    return cast("Tensor", _ops().local_weight(x, v, g, plan.numbers, plan.size, *_flags(expansion), order))


def contract_input(expansion: Expansion, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_input``."""
    check_derivative(order)
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.contract_input(expansion, x, g, weight, shape, order)
    if plan.kind is not None:
        return cast("Tensor", _ops().dense_input(x, g, weight, shape, *plan, *_flags(expansion), order))
    return cast("Tensor", _ops().local_input(x, g, weight, plan.numbers, plan.size, *_flags(expansion), order))


def input_gradients(
    expansion: Expansion, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``contract_input`` by x, g and W for an incoming v [N, in], in one pass where there is a kernel for that."""
    check_derivative(order + 1)
    plan = _plan(expansion)
    if plan is None:
        return backend_torch.input_gradients(expansion, x, v, g, weight, shape, order)
    if plan.kind is None:
        result = _ops().local_input_gradients(x, v, g, weight, plan.numbers, plan.size, *_flags(expansion), order)
    else:
        result = _ops().dense_input_gradients(x, v, g, weight, shape, *plan, *_flags(expansion), order)
    return cast("tuple[Tensor, Tensor, Tensor]", result)


def _ops() -> torch._ops._OpNamespace:
    return torch.ops.kanmlip_cpu


def _flags(expansion: Expansion) -> tuple[bool, bool]:
    return expansion.base, expansion.zero_preserving


@functools.lru_cache(maxsize=1024)
def _plan(expansion: Expansion) -> _Plan | None:
    """What to call for an expansion of ``read_spec``, which never changes; None if there is no kernel for its basis."""
    plan: _Plan | None = None
    match family := expansion.basis.family():
        case LocalPolynomials():
            plan = _Plan(None, _local(family), family.size)
        case Gaussians(centres=()):
            plan = _Plan(_GAUSSIANS, (), family.size)
        case Gaussians(centres=centres, inverse_widths=inverse_widths):
            even = [centres[0] + k / inverse_widths[0] for k in range(len(centres))]
            wide = abs(centres[-1] - centres[0])
            if len(set(inverse_widths)) == 1 and all(abs(a - b) <= _EVEN * wide for a, b in zip(even, centres, strict=True)):
                plan = _Plan(_EVEN_GAUSSIANS, (centres[0], inverse_widths[0]), family.size)
        case Waves():
            plan = _Plan(_WAVES, (family.frequency,), family.size)
        case Chebyshev():
            plan = _Plan(_CHEBYSHEV, (1 / family.width,), family.size)
    return plan


def _local(family: LocalPolynomials) -> tuple[float, ...]:
    """Start, spacing, pieces, terms, and the coefficients about the middle of an interval, where they cancel least."""
    terms = len(family.pieces[0])
    centred = [[sum(piece[q] * math.comb(q, p) * 0.5 ** (q - p) for q in range(p, terms)) for p in range(terms)] for piece in family.pieces]
    return (family.start, family.spacing, float(len(centred)), float(terms), *(c for piece in centred for c in piece))
