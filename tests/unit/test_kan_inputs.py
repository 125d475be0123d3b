"""Inputs that a layer must refuse, or take in whatever layout and under whatever transform they come."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from kanmlip.kan import KAN, Basis, BSpline, Gaussian, KANLayer, ReLUPower, backend_cpu
from kanmlip.kan.ops import layer as layer_operator
from kanmlip.kan.spec import BACKENDS

EAGER = [backend for backend in BACKENDS if backend != "triton"]


@pytest.mark.parametrize("backend", EAGER)
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("norm", ["scale", "none"])
def test_another_width_is_refused(backend: str, frozen: bool, norm: str) -> None:
    """One channel would be broadcast, and compiled kernels would read beyond the end of too few."""
    kan = KAN([4, 2, 1], BSpline(), backend=backend, norm=norm).requires_grad_(not frozen)  # type: ignore[arg-type]
    for keep_hidden in (True, False):
        kan.keep_hidden = keep_hidden
        for shape in ([2, 5], [2, 3], [2, 1], [3], [2, 2, 1]):
            with pytest.raises(ValueError, match=rf"x has shape \[{', '.join(map(str, shape))}\]; a layer of 4 inputs takes \[\.\.\., 4\]"):
                kan(torch.randn(shape))
        assert kan(torch.randn(3, 2, 4)).shape == (3, 2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": (3, 5)}, r"weights of x \[3, 5\] must be \[out, 9, 5\], not \[2, 9, 4\]"),
        ({"x": (12,)}, r"x must be \[N, in\]"),
        ({"weight": (2, 8, 4)}, r"must be \[out, 9, 4\]"),
        ({"scale": (1,)}, r"scales of x \[3, 4\] must be \[in\], not \[1\]"),
        ({"v": (3, 1)}, "v must have the shape of x"),
        ({"g": (2, 2)}, r"g must be \[N, out\]"),
        ({"g": (3, 1)}, r"g must be \[N, out\]"),
    ],
)
def test_operators_check_sizes(change: dict[str, Sequence[int]], message: str) -> None:
    """What is recorded with them may be given anything."""
    if not backend_cpu.available():
        pytest.skip("no C++ compiler")
    one = KANLayer(4, 2, Gaussian(), backend="cpu")
    sizes: dict[str, Any] = {"x": (3, 4), "weight": (2, 9, 4), "scale": (4,), "v": (3, 4), "g": (3, 2), **change}
    x, weight, scale, v, g = (torch.ones(sizes[name]) for name in ("x", "weight", "scale", "v", "g"))
    spec = one.expansion.specs["cpu"]
    operators = torch.ops.kanmlip
    with pytest.raises((ValueError, RuntimeError), match=message):
        layer_operator(x, weight, None, spec, None, scale)
        operators.kan_output(x, v, weight, None, spec, 0)
        operators.kan_input(x, g, weight, None, spec, 1)
        operators.kan_weight(x, v, g, None, spec, 0)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("basis", [BSpline(order=2), BSpline(), BSpline(order=4), ReLUPower(), Gaussian()], ids=lambda b: type(b).__name__)
def test_transposed_inputs(basis: Basis, backend: str) -> None:
    kan = KAN([6, 3], basis, backend=backend).double()  # type: ignore[arg-type]

    def slopes(x: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(kan(x).square().sum(), x, create_graph=True)
        return slope

    stored = torch.randn(6, 5, dtype=torch.float64)
    found, expected = slopes(stored.t().requires_grad_()), slopes(stored.t().contiguous().requires_grad_())
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_class_that_is_defined_again_is_another_one() -> None:
    """As when a cell of a notebook runs twice; layers of the first definition keep theirs."""

    def define(power: int) -> type[Basis]:
        class Power(Basis):
            def __init__(self) -> None:
                super().__init__(1)
                self.register_constants()

            def constants(self) -> dict[str, Tensor]:
                return {}

            def evaluate(self, x: Tensor, derivative: int = 0) -> Tensor:
                return (x**power if derivative == 0 else power * x ** (power - 1)).unsqueeze(-1)

        return Power

    layers = [KANLayer(1, 1, define(power)(), base=False, zero_preserving=False, backend="torch") for power in (1, 2)]
    x = torch.full((3, 1), 2.0, requires_grad=True)
    for one in (*layers, layers[0]):
        torch.testing.assert_close(one(x), one.reference(x))
        slope, expected = (torch.autograd.grad(form(x).sum(), x)[0] for form in (one, one.reference))
        torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("backend", ["auto", "torch", "reference"])
@pytest.mark.parametrize("graph", [True, False])
def test_tangents_are_carried(backend: str, graph: bool) -> None:
    kan = KAN([6, 3], Gaussian(), backend=backend).double()  # type: ignore[arg-type]
    x, direction = torch.randn(2, 5, 6, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(kan, x)
    with torch.set_grad_enabled(graph), forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(kan(forward_ad.make_dual(x, direction))).tangent
    torch.testing.assert_close(tangent, torch.einsum("nojd,jd->no", expected, direction))


def test_a_user_without_a_home_directory_computes(tmp_path: Path) -> None:
    code = (
        "import pathlib, torch\n"
        "def lost(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = lost\n"
        "from kanmlip.kan import KAN, BSpline\n"
        "from kanmlip.data.root import cache_root\n"
        "print(KAN([4, 1], BSpline())(torch.zeros(2, 4)).tolist(), cache_root())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[0.0], [0.0]] ")
    assert str(tmp_path) in done.stdout
