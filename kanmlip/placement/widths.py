"""Widths of networks with no more parameters, or no more work, than what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise


def dense_weights(widths: Sequence[int]) -> int:
    """Weights of matrices between layers of the given widths: Σ w_l w_(l+1). A KAN has ``columns`` times as many."""
    return sum(before * after for before, after in pairwise(widths))


def matched_widths(widths: Sequence[int], budget: int, count: Callable[[Sequence[int]], int]) -> tuple[int, ...]:
    """Scale hidden widths down by the largest common factor with which a network has at most ``budget`` parameters.

    The ends keep their widths and no hidden width falls below 1. Where there is no hidden layer to make narrower and the plain
    layer has too many parameters, one hidden layer, as wide as the budget allows, goes in between. If nothing stays within the
    budget, the candidate with the fewest parameters is taken: the factor 0 (every hidden width 1), or the plain layer.

    Args:
        widths: Widths at equal width, input first.
        budget: Parameters not to be exceeded.
        count: Parameters of a network of given widths; must grow with every width.

    Returns:
        Widths, input first; never wider than ``widths``.

    Raises:
        ValueError: If there are fewer than two widths or one is below 1.
    """
    widths = tuple(int(width) for width in widths)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths={list(widths)} must be an input and an output width, each 1 or more, with hidden ones between")
    if count(widths) <= budget:
        return widths
    first, *hidden, last = widths
    # A bottleneck wider than the narrower end would have more parameters than the plain layer, which has too many already.
    widest = max(hidden) if hidden else min(first, last)
    shape = hidden or [widest]
    scaled = [(first, *(max(1, width * part // widest) for width in shape), last) for part in range(widest, 0, -1)]
    for candidate in scaled:
        if count(candidate) <= budget:
            return candidate
    return min(widths, scaled[-1], key=count)


def grown_widths(widths: Sequence[int], budget: float) -> tuple[int, ...]:
    """Scale the hidden widths of an MLP up by the largest common factor with which it has at most ``budget`` weights.

    The counterpart of :func:`matched_widths`: the ends keep their widths, and where there is no hidden layer to make wider one
    goes in between. Nothing becomes narrower: a budget below that of ``widths`` gives ``widths``.

    Args:
        widths: Widths at equal width, input first.
        budget: Weights, and thereby multiplications a row, not to be exceeded.

    Returns:
        Widths, input first.

    Raises:
        ValueError: If there are fewer than two widths or one is below 1.
    """
    widths = tuple(int(width) for width in widths)
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths={list(widths)} must be an input and an output width, each 1 or more, with hidden ones between")
    first, *hidden, last = widths
    shape = hidden or [1]

    def scaled(width: int) -> tuple[int, ...]:
        return (first, *(max(1, round(width * part / max(shape))) for part in shape), last)

    start = max(hidden) if hidden else 0
    low, high = start, start + 1
    while dense_weights(scaled(high)) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if dense_weights(scaled(middle)) <= budget else (low, middle)
    return widths if low == start else scaled(low)
