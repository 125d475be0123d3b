"""The contractions by compiled kernels; see ``cpu/``. Families of local support touch only the functions that are not zero."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from kanmlip.kan import backend_torch
from kanmlip.kan.cpu.build import available
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.kernel_plan import numbers_of

__all__ = ["available", "contract_input", "contract_output", "contract_weight", "input_gradients", "layer", "stack"]


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
    if (found := numbers_of(expansion.basis)) is None:
        return None
    return cast("int", _ops().plan(*found, expansion.basis.num_basis, expansion.base, expansion.zero_preserving))
