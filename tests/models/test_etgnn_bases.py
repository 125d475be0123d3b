"""Basis functions against scipy, and their derivatives where a plain formula divides by zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_jn

from kanmlip.models.etgnn.bases import RadialBasis, SphericalRadialBasis, angular_basis
from kanmlip.models.etgnn.spherical_bessel import bessel_zeros, spherical_bessel
from tests.models.test_etgnn_equations import zeros_by_search

# Near zero, in between, and at the cutoff; below 1e-3 Å scipy's own recurrences are no reference.
DISTANCES = torch.tensor([1e-3, 0.05, 0.3, 1.6, 2.7, 4.0, 5.999, 6.0], dtype=torch.float64)


@pytest.mark.parametrize("order", range(9))
def test_spherical_bessel_functions_are_exact_for_small_and_large_arguments(order: int) -> None:
    x = np.array([0.0, 1e-8, 1e-3, 0.1, 1.0, 5.0, 11.7, 35.0, 60.0])
    np.testing.assert_allclose(spherical_bessel(order, x), spherical_jn(order, x), rtol=0, atol=2e-14)


def test_zeros_are_scipys_and_the_same_every_time() -> None:
    zeros = bessel_zeros(8, 8)
    np.testing.assert_allclose(zeros, zeros_by_search(8, 8), rtol=1e-14)
    np.testing.assert_allclose(zeros[0], math.pi * np.arange(1, 9), rtol=1e-15)
    assert np.array_equal(zeros, bessel_zeros(8, 8))


@pytest.mark.parametrize("legacy", [False, True])
def test_the_spherical_radial_functions_are_those_of_the_equations(legacy: bool) -> None:
    made = SphericalRadialBasis(6.0, 8, 8, legacy)(DISTANCES).numpy()
    d = DISTANCES.numpy()
    envelope = 0.5 * (1 + np.cos(math.pi * d / (36.0 if legacy else 6.0)))
    for order, row in enumerate(zeros_by_search(8, 8)):
        for n, z in enumerate(row):
            expected = envelope * math.sqrt(2) / abs(spherical_jn(order + 1, z)) * spherical_jn(order, z * d / 6.0)
            np.testing.assert_allclose(made[:, order, n], expected, rtol=0, atol=1e-12)


def test_the_radial_functions_are_those_of_the_equations() -> None:
    made = RadialBasis(6.0, 8)(DISTANCES).numpy()
    d = DISTANCES.numpy()[:, None]
    expected = 0.5 * (1 + np.cos(math.pi * d / 6)) * np.sin(np.arange(1, 9) * math.pi * d / 6) / d
    np.testing.assert_allclose(made, expected, rtol=1e-13, atol=1e-15)


def test_the_angular_functions_are_scipys() -> None:
    angle = np.linspace(0, math.pi, 13)
    made = angular_basis(torch.tensor(np.cos(angle)), 8).numpy()
    for order in range(8):
        expected = math.sqrt((2 * order + 1) / (4 * math.pi)) * eval_legendre(order, np.cos(angle))
        np.testing.assert_allclose(made[:, order], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("orders", [1, 2])
def test_a_single_order_has_a_single_function(orders: int) -> None:
    assert angular_basis(torch.tensor([0.3], dtype=torch.float64), orders).shape == (1, orders)
    assert SphericalRadialBasis(6.0, orders, 1, False)(DISTANCES).shape == (8, orders, 1)


def distances_near(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_derivatives_by_the_distance_are_right_up_to_the_cutoff_and_down_to_zero() -> None:
    inside = distances_near([1e-4, 0.7, 3.0, 6.0 - 1e-4])
    assert torch.autograd.gradcheck(RadialBasis(6.0, 8), inside, atol=1e-6)
    assert torch.autograd.gradcheck(SphericalRadialBasis(6.0, 8, 8, False), inside, atol=1e-6)
    ends = distances_near([0.0, 6.0])
    for basis in (RadialBasis(6.0, 8), SphericalRadialBasis(6.0, 8, 8, False)):
        values = basis(ends)
        (gradient,) = torch.autograd.grad(values.sum(), ends)
        assert torch.isfinite(gradient).all()
        assert float(values[1].detach().abs().max()) < 1e-12
        assert abs(float(gradient[1])) < 1e-10


@pytest.mark.parametrize("angle", [0.0, 1e-9, math.pi / 2, math.pi - 1e-9, math.pi])
def test_angular_functions_have_derivatives_by_positions_where_atoms_are_in_line(angle: float) -> None:
    legs = torch.tensor([[1.6, 0, 0], [1.6 * math.cos(angle), 1.6 * math.sin(angle), 0]], dtype=torch.float64, requires_grad=True)

    def functions(legs: torch.Tensor) -> torch.Tensor:
        unit = legs / legs.norm(dim=1, keepdim=True)
        return angular_basis((unit[0] * unit[1]).sum(), 8)

    assert torch.autograd.gradcheck(functions, legs)
