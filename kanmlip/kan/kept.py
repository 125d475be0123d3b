"""A small layer in plain PyTorch: its functions are worked out once, and kept for the passes of a force-training step.

Most of the time of a layer without compiled kernels goes into them, and into calling operators: here they are as few as they can be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import TOGETHER
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.memory import pool, scratch

# A layer keeps its functions if they are no more elements than this at one order of differentiation, one block of what larger layers
# recompute block by block: the memory does not grow with a layer's inputs.
KEPT_ELEMENTS = 1 << 19


class Kept:
    """The three sums of a layer at one x [N, in], as ``backends.Contractions`` has them for any x.

    Args:
        expansion: The functions.
        x: Points [N, in], for which ``fits`` is true.
    """

    def __init__(self, expansion: Expansion, x: Tensor) -> None:
        self.expansion = expansion
        self._functions: dict[int, Tensor] = {}
        self._memory: list[Tensor] = []

    def output(self, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """A_d [N, out]."""
        return torch.mm(self._matrix(x, v, shape, order), weight.reshape(weight.shape[0], -1).t())

    def weight(self, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """B_d [out, columns, in]."""
        return torch.mm(g.t(), self._matrix(x, v, shape, order)).view(g.shape[1], -1, x.shape[1])

    def input(self, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """C_d [N, in]."""
        functions = self._get(x, shape, order)
        gw = self._product(functions)
        torch.mm(g, weight.reshape(weight.shape[0], -1), out=gw.view(len(gw), -1))
        return gw.mul_(functions).sum(1)

    def input_gradients(self, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> tuple[Tensor, ...]:
        """v C_{d+1} [N, in], A_d(v) [N, out] and B_d(v) [out, columns, in]."""
        by_x = self.input(x, g, weight, shape, order + 1).mul_(v)
        matrix = self._matrix(x, v, shape, order)
        flat = weight.reshape(weight.shape[0], -1)
        return by_x, torch.mm(matrix, flat.t()), torch.mm(g.t(), matrix).view(weight.shape)

    def _matrix(self, x: Tensor, v: Tensor | None, shape: Tensor | None, order: int) -> Tensor:
        """v φ⁽ᵈ⁾ [N, columns · in], to be used before the next product."""
        functions = self._get(x, shape, order)
        if v is not None:
            functions = torch.mul(functions, v.unsqueeze(1), out=self._product(functions))
        return functions.view(len(x), -1)

    def _product(self, functions: Tensor) -> Tensor:
        """Scratch memory of the functions' shape [N, columns, in]."""
        return scratch(functions, functions.numel()).view(functions.shape)

    def _get(self, x: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """φ⁽ᵈ⁾ [N, columns, in]."""
        if order not in self._functions:
            self._add(x, TOGETHER if order in TOGETHER else (order,), shape)
        return self._functions[order]

    def _add(self, x: Tensor, orders: Sequence[int], shape: Tensor | None) -> None:
        x = x.contiguous()  # functions are written in that order
        room = self.expansion.buffer_shape(x, len(x), orders)
        size = math.prod(room)
        if x.is_cuda:
            buffers = [x.new_empty(room) for _ in orders]
        else:
            memory = [pool.take(x, size) for _ in orders]
            self._memory += memory
            buffers = [part[:size].view(room) for part in memory]
        self._functions.update(zip(orders, self.expansion.write(x, orders, buffers, shape), strict=True))

    def __del__(self) -> None:
        for memory in self._memory:
            pool.give(memory)


def fits(expansion: Expansion, x: Tensor) -> bool:
    """Whether the functions at x [N, in] are few enough to be kept."""
    return 0 < math.prod(expansion.buffer_shape(x, len(x), TOGETHER)) <= KEPT_ELEMENTS
