"""Work and least times follow the formulas that the reports state."""

from __future__ import annotations

import pytest
import torch

from kanmlip.benchmark.roofline import Rates, measure_rates, roofline

FAST_MEMORY, FAST_MATHS = Rates(1e9, 1e30), Rates(1e30, 1e9)


def work(name: str, widths=(128, 32, 1), columns=9, stored=9, through_input=True, rates=FAST_MEMORY):
    return roofline(name, 5000, widths, columns, stored, 4, rates, through_input)


def test_flops_are_products_times_columns() -> None:
    one = 2 * 5000 * (128 * 32 + 32)
    assert [work(name, columns=9).flops for name in ("forward", "gradient", "training")] == [9 * one, 18 * one, 63 * one]
    assert work("training", columns=1, stored=1).flops == 6 * one
    assert work("forward", columns=5).flops == 5 * one


def test_a_first_layer_needs_five_products_either_way() -> None:
    one = 2 * 5000 * 64 * 16
    assert work("training", widths=(64, 16), through_input=False).flops == 5 * 9 * one
    assert work("training", widths=(64, 16), columns=1, stored=1, through_input=False).flops == 5 * one


def test_traffic_is_every_operand_and_result_once() -> None:
    n, a, b, k = 5000, 64, 16, 9
    weights = a * b * k
    assert work("forward", widths=(a, b)).bytes == 4 * (n * a + n * b + weights)
    assert work("gradient", widths=(a, b)).bytes == 4 * (3 * n * a + 2 * n * b + 2 * weights)
    assert work("training", widths=(a, b)).bytes == 4 * ((1 + 2 + 2 + 2 + 3 + 1 + 2) * n * a + 7 * n * b + 7 * weights)


def test_local_support_saves_arithmetic_and_no_weights() -> None:
    dense, local = work("forward", columns=24, stored=24), work("forward", columns=5, stored=24)
    assert dense.flops == pytest.approx(24 / 5 * local.flops)
    assert dense.bytes == local.bytes


def test_the_least_time_is_the_slower_of_maths_and_memory() -> None:
    assert work("forward").seconds == pytest.approx(work("forward").flops / 1e9)
    slow = work("forward", rates=FAST_MATHS)
    assert slow.seconds == pytest.approx(slow.bytes / 1e9)


def test_measured_rates_are_those_of_a_computer() -> None:
    rates = measure_rates(torch.float32, "cpu", seconds=0.01)
    assert 1e9 < rates.flops < 1e13
    assert 1e8 < rates.bandwidth < 1e12
    assert rates.best(Rates(2 * rates.flops, rates.bandwidth / 2)) == Rates(2 * rates.flops, rates.bandwidth)
