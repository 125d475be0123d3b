"""The least time a layer's passes can take: the arithmetic and the traffic they need over this machine's measured rates.

Counted are matrix products only. One of a layer with ``columns`` functions of each input, N rows, a inputs and b outputs takes

    FLOPs = 2 N a b columns,

where ``columns`` is K + 1 for functions that are all evaluated (K and the base branch), P + 1 for those of which only P are not zero
at any point, and 1 for an MLP. A pass is a number of products, each one of the contractions of the trilinear form:

    forward       A_0                                          1
    gradient      A_0, C_1                                     2
    training      A_0, C_1; A_1, B_1 and C_2 from C_1's        7   (5 in a first layer whose input needs no gradient: no C_2, C_1;
                  gradient; B_0, C_1 from A_0's                     an MLP has no C_2: 6, and 5 in such a first layer)

A product reads its operands once and writes its result once; the basis is not stored and all else is fused into the products. With
s bytes a number and w = a b K' weights (K' = K + 1 in all families, 1 for an MLP):

    A_0, B_0, and every product of an MLP      bytes = s (N a + N b + w)
    A_1, B_1, C_1                              bytes = s (2 N a + N b + w)       x beside v, or beside the result
    C_2 times v                                bytes = s (3 N a + N b + w)

The least time of a product is the larger of FLOPs over the rate of matrix products and bytes over the rate of a triad.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from kanmlip.benchmark.interleave import synchronise

# Products of a pass: arrays [N, in] that they read or write, and whether only the loss's gradient by the input needs them.
_A0 = _B0 = (1, False)
_A1 = _B1 = _C1 = (2, False)
_PRODUCTS = {
    "forward": (_A0,),
    "gradient": (_A0, _C1),
    "training": (_A0, _C1, _A1, _B1, (3, True), _B0, (2, True)),
}
_ONCE = (1, False)
_MLP_PRODUCTS = {"forward": (_ONCE,), "gradient": (_ONCE,) * 2, "training": (*(_ONCE,) * 5, (1, True))}


@dataclass(frozen=True)
class Rates:
    """What this machine does on the threads of this process.

    Attributes:
        flops: Matrix products, FLOP/s.
        bandwidth: Triad, byte/s.
    """

    flops: float
    bandwidth: float

    def best(self, other: Rates) -> Rates:
        """The higher of each rate: what slows a measurement down is never the machine's limit."""
        return Rates(max(self.flops, other.flops), max(self.bandwidth, other.bandwidth))


@dataclass(frozen=True)
class Roofline:
    """Work of one pass.

    Attributes:
        flops: Of its matrix products.
        bytes: Of their operands and results.
        seconds: The least time at a machine's rates.
    """

    flops: float
    bytes: float
    seconds: float


def roofline(
    name: str, rows: int, widths: Sequence[int], columns: int, stored: int, itemsize: int, rates: Rates, through_input: bool = True
) -> Roofline:
    """Least work and time of one pass of a network.

    Args:
        name: A key of ``passes.PASSES``.
        rows: N.
        widths: Widths, input first.
        columns: Functions of an input that enter a product: K + 1, P + 1, or 1 for an MLP.
        stored: Weights of a pair of channels: K + 1, or 1 for an MLP.
        itemsize: Bytes a number.
        rates: Of the machine.
        through_input: Whether ``training`` also differentiates the loss by the network's input.
    """
    products = (_MLP_PRODUCTS if stored == 1 else _PRODUCTS)[name]
    flops = traffic = seconds = 0.0
    for layer, (before, after) in enumerate(pairwise(widths)):
        for inputs, for_input in products:
            if for_input and layer == 0 and not through_input:
                continue
            work = 2.0 * rows * before * after * columns
            moved = float(itemsize * (rows * (inputs * before + after) + before * after * stored))
            flops, traffic, seconds = flops + work, traffic + moved, seconds + max(work / rates.flops, moved / rates.bandwidth)
    return Roofline(flops, traffic, seconds)


def measure_rates(dtype: torch.dtype, device: str, seconds: float = 1.0) -> Rates:
    """Rates of a square matrix product and of a triad a = b + s c on arrays far larger than the caches.

    Args:
        dtype: float32 or float64.
        device: ``cpu`` or ``cuda``.
        seconds: To spend on each.
    """
    size, length = (1024, 1 << 24) if device == "cpu" else (8192, 1 << 28)
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    product = torch.empty_like(left)
    b, c = (torch.ones(length, dtype=dtype, device=device) for _ in range(2))
    a = torch.empty_like(b)
    flops = 2 * size**3 / _best(lambda: torch.mm(left, right, out=product), seconds)
    bandwidth = 3 * length * b.element_size() / _best(lambda: torch.add(b, c, alpha=0.5, out=a), seconds)
    return Rates(flops, bandwidth)


def _best(call: Callable[[], object], seconds: float) -> float:
    """Least time of a call among those that fit into ``seconds``, three at least."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        synchronise()
        start = time.perf_counter()
        call()
        synchronise()
        times.append(time.perf_counter() - start)
    return min(times)
