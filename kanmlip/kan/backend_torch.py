"""The contractions in plain PyTorch: blocks of rows, expanded in cache and thrown away. Works wherever PyTorch does."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from kanmlip.kan.contraction import Form, Wanted, partials
from kanmlip.kan.expansion import Expansion


def contract_output(expansion: Expansion, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """Σ_ik v_ni φ_k⁽ᵈ⁾(x_ni) W_oki: x, v [N, in], W [out, columns, in] → [N, out]."""
    return cast("Tensor", partials(Form(expansion, order, shape), x, v, None, weight, wanted=Wanted(g=True)).g)


def contract_weight(expansion: Expansion, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """Σ_n v_ni φ_k⁽ᵈ⁾(x_ni) g_no: x, v [N, in], g [N, out] → [out, columns, in]."""
    return cast("Tensor", partials(Form(expansion, order, shape), x, v, g, None, wanted=Wanted(weight=True)).weight)


def contract_input(expansion: Expansion, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """Σ_ko φ_k⁽ᵈ⁾(x_ni) W_oki g_no: x [N, in], g [N, out], W [out, columns, in] → [N, in]."""
    return cast("Tensor", partials(Form(expansion, order, shape), x, None, g, weight, wanted=Wanted(v=True)).v)


def input_gradients(
    expansion: Expansion, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of ``contract_input`` by x, g and W for an incoming v [N, in], in one pass."""
    wanted = Wanted(x=True, g=True, weight=True)
    result = partials(Form(expansion, order, shape), x, v, g, weight, wanted=wanted)
    return cast("tuple[Tensor, Tensor, Tensor]", (result.x, result.g, result.weight))
