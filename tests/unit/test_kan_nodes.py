"""A layer's compiled nodes of the autograd graph: they compute what is asked for and nothing else, and give way where they cannot serve."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from kanmlip.kan import KAN, AdaptiveGaussian, Basis, BSpline, Gaussian
from tests.unit.test_kan_basis import each_basis

pytestmark = pytest.mark.skipif(not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++")), reason="no C++ compiler")


def make(basis: Basis, backend: str = "cpu") -> tuple[KAN, Tensor]:
    torch.manual_seed(0)
    kan = KAN((3, 4, 1), basis, backend=backend).double()  # type: ignore[arg-type]
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    kan(x)  # builds the kernels, and makes the plans
    return kan, x


def kernels_of(call: Callable[[], object]) -> dict[str, int]:
    """How often a call ran which compiled kernel."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        call()
    prefix = "kanmlip_cpu::"
    return {event.key.removeprefix(prefix): event.count for event in record.key_averages() if event.key.startswith(prefix)}


def test_each_pass_runs_the_kernels_that_it_needs() -> None:
    """Two layers: forces need no gradient of the weights, and the last pass of a step is one kernel a node."""
    kan, x = make(BSpline())
    assert kernels_of(lambda: kan(x)) == {"layer": 2, "output": 2}
    y = kan(x)
    assert kernels_of(lambda: torch.autograd.grad(y.sum(), x, retain_graph=True)) == {"input": 2}
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    loss = slope.square().sum() + y.square().sum()
    assert kernels_of(lambda: torch.autograd.grad(loss, [x, *kan.parameters()], retain_graph=True)) == {"gradients": 4}
    # Where the input is not asked for, that of the first layer, single contractions do.
    assert kernels_of(lambda: torch.autograd.grad(loss, list(kan.parameters()))) == {"gradients": 2, "output": 1, "weight": 2}


@pytest.mark.parametrize("frozen", ["weights", "input"])
def test_what_needs_no_gradient_gets_none(frozen: str) -> None:
    kan, x = make(Gaussian())
    kan.requires_grad_(frozen != "weights")
    x.requires_grad_(frozen != "input")
    ran = kernels_of(lambda: kan(x).sum().backward())
    assert set(ran) == ({"layer", "output", "input"} if frozen == "weights" else {"layer", "output", "gradients", "weight"})


def test_functions_with_parameters_of_their_own_take_the_other_way() -> None:
    kan, x = make(AdaptiveGaussian())
    assert "layer" not in kernels_of(lambda: kan(x))


@each_basis
def test_a_hessian_by_batched_backward_passes_is_that_by_single_ones(basis_class: type[Basis]) -> None:
    kan, x = make(basis_class())

    def energy(x: Tensor) -> Tensor:
        return kan(x).sum()

    single = torch.autograd.functional.hessian(energy, x)
    torch.testing.assert_close(torch.autograd.functional.hessian(energy, x, vectorize=True), single, rtol=1e-12, atol=1e-12)
    kan.set_backend("reference")
    torch.testing.assert_close(torch.autograd.functional.hessian(energy, x), single, rtol=1e-10, atol=1e-10)


def test_a_fourth_derivative_is_refused_with_a_way_out() -> None:
    kan, x = make(BSpline(order=5))
    value = kan(x).sum()
    with pytest.raises(NotImplementedError, match=r"derivative=4.*KANLayer\.backend='reference'"):
        for _ in range(4):
            (slope,) = torch.autograd.grad(value, x, create_graph=True)
            value = slope.sum()


def test_a_recorded_trace_does_not_depend_on_this_process() -> None:
    """Plans are numbers of this process; a trace carries the functions themselves."""
    kan, x = make(BSpline())
    with torch.no_grad():
        traced = torch.jit.trace(kan, (x,))
    assert "kanmlip::kan_output" in str(traced.inlined_graph)
    assert "kanmlip_cpu" not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(2 * x), kan(2 * x))
