"""The Triton kernels on CUDA: each contraction against its definition, and layers against the reference through forces."""

from __future__ import annotations

import copy

import pytest
import torch

from kanmlip.benchmark.triton_check import BARS, BASES, Case, cases, errors, tensors
from kanmlip.kan import KAN, Gaussian, backend_triton
from kanmlip.kan.backends import kernels_for
from tests.force_training import assert_trains_as_the_reference


@pytest.mark.parametrize("case", cases(), ids=str)
def test_kernels_are_their_definition(case: Case) -> None:
    for name, error in errors(case, "cuda").items():
        assert error <= BARS[case.dtype], name


@pytest.mark.parametrize("basis", BASES)
def test_kernels_are_their_definition_at_size(basis: str) -> None:
    for name, error in errors(Case(basis, torch.float32, 1, rows=100_003, inputs=128, outputs=32), "cuda").items():
        assert error <= BARS[torch.float32], name


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_gives_exactly_zero(basis: str, dtype: torch.dtype) -> None:
    expansion, _, given = tensors(Case(basis, dtype, 0), "cuda")
    zero = torch.zeros_like(given["x"])
    assert not backend_triton.contract_output(expansion, zero, None, given["weight"], expansion.basis.shape(), 0).any()


def test_weight_gradients_have_the_same_bits_each_time() -> None:
    expansion, _, given = tensors(Case("bspline", torch.float32, 0, rows=50_000, inputs=64), "cuda")
    first, again = (backend_triton.contract_weight(expansion, given["x"], None, given["g"], None, 0) for _ in range(2))
    assert torch.equal(first, again)


def test_auto_is_triton() -> None:
    assert kernels_for("auto", torch.device("cuda")) is backend_triton


@pytest.mark.parametrize("basis", BASES)
def test_layers_train_on_forces_as_the_reference(basis: str) -> None:
    torch.manual_seed(0)
    kan = KAN((9, 16, 3), copy.deepcopy(BASES[basis])).to("cuda", torch.float64)
    start = torch.randn(70, 9, dtype=torch.float64, device="cuda")
    assert_trains_as_the_reference(kan, "triton", start)


def test_nothing_of_the_size_of_the_basis_is_stored() -> None:
    kan = KAN((128, 32), Gaussian(32), backend="triton").to("cuda")
    x = torch.randn(50_000, 128, device="cuda", requires_grad=True)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.autograd.grad(kan(x).square().sum(), [x, *kan.parameters()])
    assert torch.cuda.max_memory_allocated() - before < 4 * x.numel() * x.element_size()
