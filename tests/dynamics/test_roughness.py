"""Heads whose forces or energies jump are refused by kanmlip-md, with the way out."""

from __future__ import annotations

import pytest

from kanmlip.dynamics.roughness import check_smooth, describe_roughness
from kanmlip.errors import ConfigError
from kanmlip.experiment.config import RunConfig
from kanmlip.experiment.configure import compose_run


def config(*settings: str) -> RunConfig:
    return compose_run(["model=allegro", "dataset=toy", "budget=smoke", *settings])


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (
            ("basis=bspline", "basis.order=2"),
            "basis=bspline basis.order=2 has 1 continuous derivative.*force constants jump; train with basis.order=3",
        ),
        (("basis=relu", "basis.order=1"), "basis=relu basis.order=1 has 0 continuous derivative.*forces jump"),
        (("placement.head.zero_preserving=false",), "zero_preserving=false.*jump when a neighbour crosses the cutoff; train with"),
        (("placement.head.norm=layer",), "norm=layer.*jump when a neighbour crosses the cutoff"),
    ],
)
def test_rough_heads_are_refused_unless_forced(settings: tuple[str, ...], wanted: str) -> None:
    run = config("placement=output", *settings)
    with pytest.raises(ConfigError, match=f"{wanted}.*--force-rough"):
        check_smooth(run, forced=False)
    assert check_smooth(run, forced=True) == describe_roughness(run)
    # The same settings without a KAN have no effect.
    assert check_smooth(config("placement=none", *settings), forced=False) is None


@pytest.mark.parametrize("basis", ["gaussian", "bspline", "fourier", "chebyshev", "relu", "truncated_power", "adaptive_gaussian"])
def test_every_basis_as_it_comes_is_smooth_enough(basis: str) -> None:
    assert check_smooth(config("placement=output", f"basis={basis}"), forced=False) is None
