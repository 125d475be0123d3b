"""What piecewise polynomials on a uniform grid share: their family, and a ``write`` of only the functions that are not zero."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from kanmlip.kan.basis import Basis, both_ways, check_count, check_derivative, check_grid
from kanmlip.kan.family import LocalPolynomials


class LocalBasis(Basis):
    """Shifted copies of one symmetric bump over P intervals of a uniform grid, P − 1 + ``grid`` of them.

    Function k begins at ``grid_min`` + (k − P + 1) ``spacing``: all that reach into the grid, and beyond it all fall to zero.
    A subclass implements ``bump``.

    Attributes:
        grid: Intervals between ``grid_min`` and ``grid_max``.
        grid_min: Left end of the grid.
        grid_max: Right end of the grid.
        spacing: Length of an interval.
        pieces: The bump's polynomials [P][D + 1] as in :class:`LocalPolynomials`, m = 0 its last piece.
    """

    centres: Tensor
    centre_column: Tensor
    smoothness: int
    grid: int
    grid_min: float
    grid_max: float
    spacing: float
    pieces: tuple[tuple[float, ...], ...]

    def __init__(self, grid: int, grid_min: float, grid_max: float, smoothness: int, pieces: tuple[tuple[float, ...], ...]) -> None:
        check_count("grid", grid, 1)
        check_grid(grid_min, grid_max)
        super().__init__(grid + len(pieces) - 1)
        self.pad = len(pieces) - 1  # the P functions of an interval outside the grid need not all exist
        self.grid = grid
        self.grid_min = grid_min
        self.grid_max = grid_max
        self.spacing = (grid_max - grid_min) / grid
        self.smoothness = smoothness
        self.pieces = pieces
        self.register_constants()

    @abstractmethod
    def bump(self, t: Tensor, derivative: int = 0) -> Tensor:
        """The bump at t = (x − c)/``spacing``, or its derivative by x, in differentiable PyTorch and not by ``pieces``."""

    def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
        """See :meth:`Basis.evaluate`."""
        check_derivative(derivative)
        return self.bump((x.unsqueeze(-1) - self.centres) / self.spacing, derivative)

    def rows(self, x: Tensor) -> Tensor:
        """See :meth:`Basis.rows`."""
        return self.bump((x.unsqueeze(-2) - self.centre_column) * (1 / self.spacing))

    def constants(self) -> dict[str, Tensor]:
        """Centres c_k of the functions, [K] and [K, 1]."""
        first = 1 - len(self.pieces) / 2
        return both_ways(self.grid_min + self.spacing * (torch.arange(self.num_basis, dtype=torch.float64) + first))

    def family(self) -> LocalPolynomials:
        """See :meth:`Basis.family`."""
        return LocalPolynomials(self.num_basis, self.grid_min - self.pad * self.spacing, self.spacing, self.pieces)

    def write(self, x: Tensor, orders: Sequence[int], outs: Sequence[Tensor], shape: Tensor | None = None) -> None:
        """See :meth:`Basis.write`; the P functions that are not zero at x, scattered into the dense [n, C, in]."""
        check_derivative(max(orders))
        intervals = self.num_basis + self.pad  # support of all functions together
        # Counted from a knot in the middle: from the first one, x would lose a digit or two before its fraction is taken.
        before = intervals // 2
        after = intervals - before
        t = (x - (self.grid_min + (before - self.pad) * self.spacing)).div_(self.spacing)
        # Derivatives that jump are not zero at the outermost knots, where t is clamped.
        inside = (t >= -before) & (t < after) if max(orders) > self.smoothness else None
        t.clamp_(-before, after)
        left = t.floor().clamp_(max=after - 1)
        t.sub_(left)
        # A NaN stays one in t, but must not become an address.
        address = _addresses(torch.nan_to_num_(left).add_(before), outs[0].shape[1]).view(-1)
        for order, out in zip(orders, outs, strict=True):
            values = self.local_values(t, order, self.spacing**-order)
            if order > self.smoothness and inside is not None:
                values.mul_(inside)
            flat = out.view(-1).zero_()
            for m in range(len(self.pieces)):
                flat[m * x.shape[1] :].scatter_(0, address, values[m].view(-1))

    def local_values(self, f: Tensor, derivative: int, scale: float) -> Tensor:
        """The P functions of an interval, or their derivatives by f, times ``scale`` at its fraction f in [0, 1]: [n, in] → [P, n, in].

        A piece in the bump's right half is the mirror image of one in the left half, whose polynomial has no constant to cancel
        where the bump ends: the functions fall to exactly zero at both ends.
        """
        count = len(self.pieces)
        values = f.new_empty(count, *f.shape)
        mirror = 1 - f
        sign = (-1) ** derivative
        for m in range(count):
            rising = m >= count // 2
            factor = scale if rising else sign * scale
            coefficients = _differentiated(self.pieces[m if rising else count - 1 - m], derivative)
            _horner(f if rising else mirror, [factor * c for c in coefficients], values[m])
        return values


def _addresses(left: Tensor, columns: int) -> Tensor:
    """Where the first function of an interval stands in a flat [n, columns, in], for whole numbers ``left`` [n, in], which are overwritten.

    Worked out in floating point where that is exact: it takes half the time of 64-bit integers.
    """
    n, width = left.shape
    if n * columns * width > 2 / torch.finfo(left.dtype).eps:
        left = left.long()
    rows = torch.arange(0, n * columns * width, columns * width, dtype=left.dtype, device=left.device)
    inputs = torch.arange(width, dtype=left.dtype, device=left.device)
    return left.mul_(width).add_(rows.unsqueeze(-1)).add_(inputs).long()


def check_order(order: int, choices: Sequence[int]) -> None:
    """Refuse an order of polynomials that a basis does not have.

    Raises:
        ValueError: If ``order`` is not one of the choices.
    """
    if order not in choices:
        listed = ", ".join(map(str, choices))
        raise ValueError(f"order={order} is not known; choose from: {listed} (1 has discontinuous forces, 2 force constants)")


def _differentiated(coefficients: Sequence[float], derivative: int) -> list[float]:
    """Coefficients of a polynomial's derivative, lowest power first; empty beyond its degree."""
    result = list(coefficients)
    for _ in range(derivative):
        result = [power * c for power, c in enumerate(result)][1:]
    return result


def _horner(f: Tensor, coefficients: Sequence[float], out: Tensor) -> None:
    """Σ_p coefficients[p] f^p into ``out``."""
    if not coefficients:
        out.zero_()
        return
    out.fill_(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out.mul_(f)
        if c:
            out.add_(c)
