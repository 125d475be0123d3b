"""The networks that ours are timed against compute what they claim, and all contenders count their parameters rightly."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline as ScipySpline

from kanmlip.benchmark.contenders import Contender, choose_backend, parse_basis, why_not
from kanmlip.benchmark.passes import PASSES, make_input, make_pass
from kanmlip.benchmark.stored_basis import NormalisedMLP, RecursiveSplineLayer, StoredGaussianLayer
from kanmlip.errors import ConfigError
from kanmlip.kan import KAN

HAVE_PYKAN = importlib.util.find_spec("kan") is not None


@pytest.mark.parametrize(("grid", "order"), [(5, 3), (20, 3), (4, 2)])
def test_recursive_splines_are_scipys(grid: int, order: int) -> None:
    layer = RecursiveSplineLayer(2, 1, grid=grid, order=order).double()
    layer.knots = layer.knots.new_tensor(np.linspace(-3 - 6 * order / grid, 3 + 6 * order / grid, grid + 2 * order + 1)).repeat(2, 1)
    x = torch.linspace(-2.99, 2.99, 40, dtype=torch.float64).view(20, 2)
    knots = layer.knots[0].numpy()
    for k in range(grid + order):
        expected = ScipySpline(knots, np.eye(grid + order)[k], order)(x.numpy())
        np.testing.assert_allclose(layer.expand(x)[..., k].numpy(), expected, atol=1e-12)


def test_the_recursion_has_its_knots_where_ours_begins_and_ends() -> None:
    knots = RecursiveSplineLayer(1, 1, grid=5, order=3).knots[0]
    assert knots[3].item() == pytest.approx(-3, abs=1e-6)
    assert knots[-4].item() == pytest.approx(3, abs=1e-6)


def test_a_recursive_layer_is_its_formula() -> None:
    layer = RecursiveSplineLayer(3, 2).double()
    x = torch.randn(7, 3, dtype=torch.float64)
    y = torch.einsum("nik,oik,oi->no", layer.expand(x), layer.spline_weight, layer.spline_scaler)
    y = y + torch.einsum("ni,oi->no", x * torch.sigmoid(x), layer.base_weight)
    torch.testing.assert_close(layer(x), y, rtol=0, atol=1e-12)


def test_our_kan_with_the_recursive_layers_weights_is_the_same_function() -> None:
    theirs = RecursiveSplineLayer(4, 3).double()
    theirs.knots = (-3 + 1.2 * torch.arange(-3, 9, dtype=torch.float64)).repeat(4, 1)
    ours = KAN((4, 3), parse_basis("bspline"), zero_preserving=False, backend="reference").double()
    scaled = (theirs.spline_weight * theirs.spline_scaler.unsqueeze(-1)).transpose(1, 2)
    ours.layers[0].set_effective_weight(torch.cat([scaled, theirs.base_weight.unsqueeze(1)], 1))
    x = torch.rand(50, 4, dtype=torch.float64) * 5.8 - 2.9
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-12)


def test_a_stored_gaussian_layer_is_its_formula() -> None:
    layer = StoredGaussianLayer(3, 2, num_basis=4, grid_min=-2, grid_max=1).double()
    layer.norm.weight.data.uniform_(0.5, 2)
    x = torch.randn(7, 3, dtype=torch.float64)
    z = (x - x.mean(1, keepdim=True)) / (x.var(1, unbiased=False, keepdim=True) + layer.norm.eps).sqrt() * layer.norm.weight
    expected = layer.base.bias.expand(7, 2) + (x * torch.sigmoid(x)) @ layer.base.weight.T
    for k, centre in enumerate((-2.0, -1.0, 0.0, 1.0)):
        expected = expected + torch.exp(-((z - centre) ** 2)) @ layer.spline.weight.view(2, 3, 4)[..., k].T
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "layer", [RecursiveSplineLayer(2, 2, grid=3), StoredGaussianLayer(3, 2, num_basis=3)], ids=["recursive", "gaussian"]
)
def test_stored_bases_are_right_twice_differentiated(layer: torch.nn.Module) -> None:
    layer.double()
    x = (torch.rand(3, 3 if isinstance(layer, StoredGaussianLayer) else 2, dtype=torch.float64) * 4 - 2).requires_grad_(True)
    parameters = list(layer.parameters())
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *parameters))
    assert torch.autograd.gradgradcheck(call, (x, *parameters))


def test_our_mlp_is_nequips() -> None:
    function = pytest.importorskip("nequip.nn.mlp").ScalarMLPFunction(6, 3, 2, 5)
    ours = NormalisedMLP((6, 5, 5, 3))
    for weight, linear in zip(ours.weights, [module for module in function.mlp if hasattr(module, "weight")], strict=True):
        weight.data.copy_(linear.weight)
    x = torch.randn(9, 6)
    torch.testing.assert_close(ours(x), function(x), rtol=0, atol=1e-6)


CONTENDERS = [
    Contender("mlp", (6, 5, 2)),
    Contender("kan", (6, 5, 2), "bspline", "torch"),
    Contender("kan", (6, 5, 2), "gaussian:num_basis=4", "reference"),
    Contender("efficient-kan", (6, 5, 2)),
    Contender("fast-kan", (6, 5, 2)),
    pytest.param(Contender("pykan", (6, 5, 2)), marks=pytest.mark.skipif(not HAVE_PYKAN, reason="pykan is not installed")),
]


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.name)
def test_every_contender_counts_its_parameters_and_runs_every_pass(contender: Contender) -> None:
    network = contender.build(torch.float64, "cpu")
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == contender.parameters()
    x = make_input(4, 6, torch.float64, "cpu")
    for name in PASSES:
        make_pass(name, network, x)()
    assert network(x).shape == (4, 2)
    if contender.kind != "pykan":  # whose weights are a float32 least-squares fit, different in the last bits
        assert torch.equal(contender.build(torch.float64, "cpu")(x), network(x))


def test_columns_count_functions_and_the_base_branch() -> None:
    spline, fine = (Contender("kan", (4, 2), basis, "torch") for basis in ("bspline", "bspline:grid=20"))
    assert (spline.columns(), fine.columns()) == (9, 24)
    assert spline.columns(dense=False) == fine.columns(dense=False) == 5
    assert Contender("kan", (4, 2), "gaussian", "torch").columns(dense=False) == 9
    assert Contender("mlp", (4, 2)).columns() == 1


@pytest.mark.parametrize("kind", ["kan", "efficient-kan", "fast-kan"])
def test_equal_parameters_is_the_widest_that_does_not_exceed_the_mlp(kind: str) -> None:
    mlp = Contender("mlp", (256, 128, 128))
    wide = Contender(kind, mlp.widths, "bspline", "torch")
    narrow = wide.with_parameters_of(mlp)
    wider = Contender(kind, (256, narrow.widths[1] + 1, 128), "bspline", "torch")
    assert narrow.parameters() <= mlp.parameters() < wider.parameters()
    assert narrow.name != wide.name


def test_a_basis_with_changes() -> None:
    assert parse_basis("bspline:grid=20+order=2").num_basis == 22
    for text, message in (("bspine", "Did you mean 'bspline'"), ("bspline:grid", "is not a change"), ("bspline:grids=4", "grids")):
        with pytest.raises(ConfigError, match=message):
            parse_basis(text)


def test_a_backend_that_falls_back_is_refused_rather_than_timed_under_the_wrong_name() -> None:
    class Falling(torch.nn.Module):
        widths = (2, 1)

        def __init__(self, error: Exception | None) -> None:
            super().__init__()
            self.weight, self.error = torch.nn.Parameter(torch.zeros(1)), error

        def set_backend(self, name: str) -> None: ...

        def forward(self, x):
            import warnings

            if self.error:
                raise self.error
            warnings.warn("no compiler: using another backend", stacklevel=2)
            return x

    for kan in (Falling(None), Falling(RuntimeError("no kernels"))):
        with pytest.raises(ConfigError, match=r"--backends=cpu does not work here: no (compiler|kernels)"):
            choose_backend(kan, "cpu")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"--backends=gpu.*choose from"):
        choose_backend(KAN((2, 1), parse_basis("gaussian")), "gpu")


def test_pykan_is_left_out_where_its_tensors_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert why_not(Contender("pykan", (128, 32, 1)), 5000) is None
    assert "GiB" in str(why_not(Contender("pykan", (256, 128, 128)), 5000))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install pykan" in str(why_not(Contender("pykan", (2, 1)), 5))


def test_passes_differentiate_what_they_say() -> None:
    network = NormalisedMLP((3, 4, 1)).double()
    seen: list[torch.Tensor] = []
    x = make_input(5, 3, torch.float64, "cpu")

    class Spy(torch.nn.Module):
        def forward(self, x):
            if x.requires_grad:
                x.register_hook(seen.append)
            return network(x)

    for name, through, expected in (("forward", True, 0), ("gradient", True, 1), ("training", True, 2)):
        seen.clear()
        make_pass(name, Spy(), x, through)()
        assert len(seen) == expected
    with pytest.raises(ValueError, match="pass=backward is not known"):
        make_pass("backward", network, x)
