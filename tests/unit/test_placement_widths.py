"""A KAN at equal parameters is the widest one that keeps to the budget."""

from __future__ import annotations

import pytest

from kanmlip.placement.widths import dense_weights, matched_widths


def kan(widths) -> int:
    return 9 * dense_weights(widths)


def test_dense_weights_are_those_of_the_matrices() -> None:
    assert dense_weights((128, 32, 1)) == 128 * 32 + 32


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ((128, 32, 1), (128, 3, 1)),
        ((256, 128, 128), (256, 14, 128)),
        ((80, 64, 112), (80, 7, 112)),
        ((64, 16, 1), (64, 1, 1)),
    ],
)
def test_the_next_wider_kan_would_exceed_the_mlp(widths: tuple[int, ...], expected: tuple[int, ...]) -> None:
    budget = dense_weights(widths)
    found = matched_widths(widths, budget, kan)
    assert found == expected
    assert kan(found) <= budget < kan((widths[0], found[1] + 1, widths[2]))


def test_eight_columns_fit_one_more_than_nine() -> None:
    assert matched_widths((128, 32, 1), dense_weights((128, 32, 1)), lambda widths: 8 * dense_weights(widths)) == (128, 4, 1)


def test_hidden_layers_shrink_by_a_common_factor() -> None:
    first, *hidden, last = matched_widths((64, 64, 32, 16, 1), dense_weights((64, 64, 32, 16, 1)), kan)
    assert (first, last) == (64, 1)
    assert hidden == [64 * part // 64 for part in hidden[:1]] + [hidden[0] // 2, hidden[0] // 4]
    assert 1 < hidden[0] < 64


def test_what_keeps_to_the_budget_stays_as_it_is() -> None:
    assert matched_widths((8, 4, 1), 10_000, kan) == (8, 4, 1)
    assert matched_widths((8, 1), kan((8, 1)), kan) == (8, 1)


def test_a_layer_without_hidden_ones_gets_a_narrow_one() -> None:
    assert matched_widths((64, 64), 64 * 64, kan) == (64, 3, 64)


def test_where_nothing_fits_the_nearest_is_taken() -> None:
    assert matched_widths((64, 1), 64, kan) == (64, 1)  # a hidden layer of one would have a parameter set more, not fewer
    assert matched_widths((4, 8, 4), 1, kan) == (4, 1, 4)
    assert matched_widths((40, 40), -3, kan) == (40, 1, 40)


@pytest.mark.parametrize("widths", [(4,), (4, 0), ()])
def test_impossible_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be an input and an output width"):
        matched_widths(widths, 10, kan)
