"""A basis as compiled kernels know it: a family and its numbers, as a call's arguments or as text."""

from __future__ import annotations

import math

from kanmlip.kan.basis import Basis
from kanmlip.kan.family import Chebyshev, Gaussians, LocalPolynomials, Waves

# As in cpu/plan.h.
_EVEN_GAUSSIANS, _GAUSSIANS, _WAVES, _CHEBYSHEV, _LOCAL = range(5)
# Relative difference of two centre distances below which a kernel may count on equal ones.
_EVEN = 1e-12


def describe(basis: Basis, base: bool, zero_preserving: bool) -> str | None:
    """A layer's functions as ``cpu/plan_text.h`` reads them: family, size, base, zero and numbers; None if there is no kernel for them."""
    if (found := numbers_of(basis)) is None:
        return None
    family, numbers = found
    # Numbers as Python prints them: they are read back to the last bit.
    words = (family, basis.num_basis, int(base), int(zero_preserving), *map(float, numbers))
    return " ".join(str(word) for word in words)


def numbers_of(basis: Basis) -> tuple[int, tuple[float, ...]] | None:
    """Number of a basis's family and the family's numbers; None if there is no kernel for it."""
    match family := basis.family():
        case LocalPolynomials():
            return _LOCAL, _local(family)
        case Gaussians(centres=()):
            return _GAUSSIANS, ()
        case Gaussians(centres=centres, inverse_widths=inverse_widths):
            even = [centres[0] + k / inverse_widths[0] for k in range(len(centres))]
            wide = abs(centres[-1] - centres[0])
            if len(set(inverse_widths)) == 1 and all(abs(a - b) <= _EVEN * wide for a, b in zip(even, centres, strict=True)):
                return _EVEN_GAUSSIANS, (centres[0], inverse_widths[0])
        case Waves():
            return _WAVES, (family.frequency,)
        case Chebyshev():
            return _CHEBYSHEV, (1 / family.width,)
    return None


def _local(family: LocalPolynomials) -> tuple[float, ...]:
    """Start, spacing, pieces, terms, and the coefficients about the middle of an interval, where they cancel least."""
    terms = len(family.pieces[0])
    centred = [[sum(piece[q] * math.comb(q, p) * 0.5 ** (q - p) for q in range(p, terms)) for p in range(terms)] for piece in family.pieces]
    return (family.start, family.spacing, float(len(centred)), float(terms), *(c for piece in centred for c in piece))
