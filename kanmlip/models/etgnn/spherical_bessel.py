"""Spherical Bessel functions j_l, their zeros, and Chebyshev series of them: numbers that a model's basis is made from once."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# More nodes, or terms, than half of the largest argument: from there on the error falls faster than exponentially.
MARGIN = 32


def spherical_bessel(order: int, x: Array) -> Array:
    """j_l(x), to 2e-14 for arguments of any size.

    From j_l(x) = (−i)^l/2 ∫ exp(ixs) P_l(s) ds over [−1, 1] (Abramowitz and Stegun 10.1.14) by Gauss–Legendre quadrature. The
    recurrence in l loses all its digits near x = 0.

    Args:
        order: l ≥ 0.
        x: Any shape, x ≥ 0.
    """
    nodes, weights = np.polynomial.legendre.leggauss(int(np.max(x, initial=0.0)) + order + MARGIN)
    legendre = np.polynomial.legendre.legval(nodes, np.eye(order + 1)[order])
    wave = np.cos if order % 2 == 0 else np.sin
    sign = (-1) ** (order // 2)
    return np.asarray(0.5 * sign * (wave(np.multiply.outer(x, nodes)) @ (weights * legendre)), dtype=np.float64)


def bessel_zeros(orders: int, count: int) -> Array:
    """The first positive zeros z_ln of j_l, n = 1 … count, for l = 0 … orders − 1.

    By bisection: those of j_0 are nπ, and between two neighbouring zeros of one order lies just one of the next.

    Returns:
        [orders, count], to 1e-14 of each.
    """
    zeros = np.empty((orders, count))
    row = math.pi * np.arange(1, count + orders, dtype=np.float64)
    for order in range(orders):
        zeros[order] = row[:count]
        low, high = row[:-1].copy(), row[1:].copy()
        sign = np.sign(spherical_bessel(order + 1, low))
        for _ in range(60):
            middle = 0.5 * (low + high)
            left = np.sign(spherical_bessel(order + 1, middle)) == sign
            low, high = np.where(left, middle, low), np.where(left, high, middle)
        row = 0.5 * (low + high)
    return zeros


def radial_series(orders: int, count: int) -> Array:
    """Chebyshev coefficients of N_ln j_l(z_ln s) on 0 ≤ s ≤ 1, with N_ln = √2/|j_{l+1}(z_ln)|.

    A series has no small number to divide by, so it and its derivatives are as exact at s = 0 as elsewhere.

    Returns:
        [terms, orders, count], for Chebyshev polynomials T_k(2s − 1); exact to 1e-12.
    """
    zeros = bessel_zeros(orders, count)
    terms = int(zeros.max() / 2) + MARGIN
    points = np.polynomial.chebyshev.chebpts1(terms)
    transform = 2 / terms * np.polynomial.chebyshev.chebvander(points, terms - 1).T
    transform[0] /= 2
    series = np.empty((terms, orders, count))
    for order in range(orders):
        norm = math.sqrt(2) / np.abs(spherical_bessel(order + 1, zeros[order]))
        series[:, order] = transform @ (norm * spherical_bessel(order, np.multiply.outer((points + 1) / 2, zeros[order])))
    return series
