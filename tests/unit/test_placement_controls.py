"""Control heads: as many parameters or as much work as the KAN, the same start, f(0) = 0, names of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.identity import run_id
from kanmlip.kan import KAN
from kanmlip.placement.config import HeadConfig, head_name
from kanmlip.placement.dense import DenseHead
from kanmlip.placement.head import Swap
from kanmlip.placement.place import build_head, count_parameters
from kanmlip.placement.widths import dense_weights, grown_widths

BASIS = compose_run(["basis=gaussian"]).basis
SHAPES = ((64, 32, 1), (16, 8, 4, 1), (32, 32, 32, 3), (12, 20))


def head(widths: tuple[int, ...], **settings: Any) -> DenseHead:
    network, module = build_head(Swap(widths, lambda inner: inner), HeadConfig(**settings), BASIS, budget=0)
    assert isinstance(network, DenseHead)
    assert module is network
    return network


@pytest.mark.parametrize("widths", SHAPES)
def test_an_mlp_of_equal_parameters_is_as_large_as_the_kan_allows(widths: tuple[int, ...]) -> None:
    kan = count_parameters(KAN(widths, BASIS.build()))
    control = head(widths, kind="mlp", match="parameters")
    assert (control.widths[0], control.widths[-1]) == (widths[0], widths[-1])
    assert count_parameters(control) == dense_weights(control.widths) <= kan
    # One more unit in the widest hidden layer, the others in proportion, would be too many.
    widest = max(control.widths[1:-1])
    larger = grown_widths(widths, count_parameters(control) * (widest + 2) ** 2 / widest**2)
    assert max(larger[1:-1]) > widest
    assert kan - count_parameters(control) < 0.25 * kan if len(widths) > 3 else kan - count_parameters(control) <= widths[0] + widths[-1]


def test_an_mlp_of_equal_time_has_the_measured_ratio_of_multiplications() -> None:
    control = head((64, 32, 1), kind="mlp", match="time", cost_ratio=6.0)
    assert 0.97 * 6.0 * dense_weights((64, 32, 1)) < dense_weights(control.widths) <= 6.0 * dense_weights((64, 32, 1))
    assert head((64, 32, 1), kind="mlp", match="time", cost_ratio=1.0).widths == (64, 32, 1)


@pytest.mark.parametrize("settings", [{"kind": "linear"}, {"kind": "mlp"}, {"kind": "mlp", "match": "parameters"}], ids=str)
@pytest.mark.parametrize("norm", ["scale", "none"])
def test_controls_start_where_the_mlp_starts(settings: dict[str, str], norm: str) -> None:
    torch.manual_seed(1)
    x = torch.randn(3000, 24) * torch.linspace(0.1, 4, 24)
    target = nn.Sequential(nn.Linear(24, 16, bias=False), nn.SiLU(), nn.Linear(16, 2, bias=False))
    with torch.no_grad():
        y = 0.01 * target(x)
    control = head((24, 16, 2), norm=norm, **settings)
    control.imitate(x, y)
    started: Tensor = control(x).detach()
    if settings["kind"] == "mlp":  # a linear map has the mean only as far as its inputs have one
        torch.testing.assert_close(started.mean(0), y.mean(0), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(started.var(0), y.var(0), rtol=0.02, atol=0)
    assert torch.equal(control(torch.zeros(1, 24)), torch.zeros(1, 2)), "f(0) = 0, as of the KAN"
    if settings["kind"] == "mlp":
        residual = (started - y).square().mean() / (y - y.mean(0)).square().mean()
        assert residual < 1.0, "nearer to the MLP than its mean is"


def test_names_are_of_no_basis_and_ids_are_of_what_matters() -> None:
    names = {
        head_name(HeadConfig(**settings), "gaussian")
        for settings in ({"kind": "linear"}, {"kind": "mlp"}, {"kind": "mlp", "match": "parameters"})
    }
    assert names == {"linear", "mlp_widths", "mlp_parameters_gaussian"}
    assert head_name(HeadConfig(match="parameters"), "gaussian") == "gaussian"

    def name(*arguments: str) -> str:
        return run_id(compose_run(["placement=output", *arguments]), "0" * 64)

    linear = "placement.head.kind=linear"
    assert name(linear, "basis=gaussian") == name(linear, "basis=bspline"), "the basis has no effect"
    mlp = ("placement.head.kind=mlp", "placement.head.match=parameters")
    assert name(*mlp, "basis=gaussian") != name(*mlp, "basis=bspline")
    assert name(*mlp).startswith("allegro-output-mlp_parameters_gaussian-toy-s1111-")
    assert name("placement.head.kind=kan") == name()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"match": "time", "cost_ratio": 2.0}, "needs kind=mlp"),
        ({"kind": "mlp", "match": "time"}, "needs a cost_ratio"),
        ({"kind": "mlp", "cost_ratio": 2.0}, "needs a cost_ratio"),
        ({"kind": "linear", "match": "parameters"}, "no hidden layer"),
        ({"kind": "mlp", "update_grid": True}, "no basis functions"),
    ],
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        HeadConfig(**settings)


def test_forces_of_a_control_can_be_trained() -> None:
    control = head((8, 4, 1), kind="mlp").double()
    x = torch.randn(50, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: control(x).sum(), (x[:4].detach().requires_grad_(True),))
    (force,) = torch.autograd.grad(control(x).sum(), x, create_graph=True)
    force.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in control.parameters())
