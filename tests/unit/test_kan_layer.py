"""KANLayer and KAN: gradients of every order, the fused against the reference form, f(0) = 0, shapes and dtypes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kanmlip.kan import KAN, Basis, KANLayer, backend_torch
from kanmlip.kan import contraction as contraction_module
from kanmlip.kan import kept as kept_module
from kanmlip.kan.kept import Kept
from tests.unit.test_kan_basis import each_basis

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
OPTIONS: list[dict[str, object]] = [
    {},
    {"base": False},
    {"zero_preserving": False},
    {"norm": "layer", "zero_preserving": False},
    {"norm": "none", "base": False, "zero_preserving": False},
]
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def inputs(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make(widths: tuple[int, ...], basis_class: type[Basis], dtype: torch.dtype = torch.float64, **options: object) -> KAN:
    torch.manual_seed(0)
    return KAN(widths, basis_class(), **options).to(dtype)  # type: ignore[arg-type]


def step(kan: KAN, x: Tensor) -> list[Tensor]:
    """A force-training step: outputs, input gradient, and gradients of a loss on both by the input and the weights."""
    x = x.clone().requires_grad_()
    y = kan(x)
    (slope,) = torch.autograd.grad((y * torch.arange(1, y.shape[-1] + 1, dtype=y.dtype)).sum(), x, create_graph=True)
    loss = (slope - 0.3).square().sum() + y.square().sum()
    return [y, slope, *torch.autograd.grad(loss, [x, *kan.parameters()])]


@each_basis
@each_option
def test_gradcheck(basis_class: type[Basis], options: dict[str, object]) -> None:
    kan = make((3, 2, 2), basis_class, **options)
    x = inputs(4, 3).requires_grad_()
    weights = [p.detach().clone().requires_grad_() for p in kan.parameters()]
    names = [name for name, _ in kan.named_parameters()]

    def function(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(kan, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *weights))
    assert torch.autograd.gradgradcheck(function, (x, *weights))


@each_basis
def test_third_derivatives(basis_class: type[Basis]) -> None:
    """Hessian training: the gradient of a curvature by inputs and weights."""
    kan = make((3, 2, 1), basis_class)
    results = []
    for backend in ("auto", "reference"):
        kan.set_backend(backend)
        x = inputs(5, 3).requires_grad_()
        (slope,) = torch.autograd.grad(kan(x).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(curvature.sin().sum(), [x, *kan.parameters()]))
    for fused, reference in zip(*results, strict=True):
        torch.testing.assert_close(fused, reference, rtol=1e-9, atol=1e-10)


@each_basis
@each_option
@pytest.mark.parametrize("backend", ["auto", "reference", "inductor"])
def test_a_layer_is_the_sum_of_its_functions(basis_class: type[Basis], options: dict[str, object], backend: str) -> None:
    """Σ_ki φ_k(x_i/s_i) W_oki, term by term from the definitions of the functions, also where there are no rows."""
    layer = make((4, 3), basis_class, **options).layers[0]
    layer.backend = backend
    for x in (inputs(7, 4), inputs(7, 4)[:0]):
        expected = torch.einsum("nik,oki->no", layer.expansion.evaluate(layer.normalise(x)), layer.effective_weight)
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@each_basis
@each_option
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_fused_equals_reference_through_the_double_backward(
    basis_class: type[Basis], options: dict[str, object], dtype: torch.dtype, tolerance: float
) -> None:
    kan = make((9, 5, 3), basis_class, dtype, **options)
    x = inputs(50, 9, dtype=dtype)
    x[0] = 0.0
    x[1] = 20.0
    fused = step(kan, x)
    kan.set_backend("reference")
    for ours, reference in zip(fused, step(kan, x), strict=True):
        scale = max(1.0, float(reference.detach().abs().max()))
        torch.testing.assert_close(ours, reference, rtol=0, atol=tolerance * scale)


@each_basis
@pytest.mark.parametrize("frozen", ["weights", "inputs"])
def test_one_sided_gradients(basis_class: type[Basis], frozen: str) -> None:
    kan = make((4, 3), basis_class).requires_grad_(frozen == "inputs")
    x = inputs(6, 4).requires_grad_(frozen == "weights")
    wanted = [x] if frozen == "weights" else list(kan.parameters())
    fused = torch.autograd.grad(kan(x).square().sum(), wanted)
    kan.set_backend("reference")
    torch.testing.assert_close(fused, torch.autograd.grad(kan(x).square().sum(), wanted))


@each_basis
def test_blocks_of_rows_give_the_same(basis_class: type[Basis], monkeypatch: pytest.MonkeyPatch) -> None:
    kan, x = make((9, 5, 3), basis_class, backend="torch"), inputs(50, 9)
    monkeypatch.setattr(kept_module, "KEPT_ELEMENTS", 0)
    whole = step(kan, x)
    monkeypatch.setattr(contraction_module, "_BLOCK_CPU", 7 * 9 * 9)
    for one, other in zip(step(kan, x), whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("owner", "name", "kept"), [(backend_torch, "contract_weight", 0), (Kept, "weight", 1000)])
def test_forces_do_not_work_out_the_weights_gradients(owner: object, name: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """grad(energy, positions) of a custom Function computes them too, unless prevented (pytorch issue 56500)."""
    calls = []
    original = getattr(owner, name)

    def spy(*arguments: object) -> Tensor:
        calls.append(arguments)
        return original(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(kept_module, "KEPT_ELEMENTS", kept)
    monkeypatch.setattr(owner, name, spy)
    kan, x = KAN((4, 3, 1), _some_basis(), backend="torch"), torch.randn(5, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(kan(x).sum(), x, create_graph=True)
    assert not calls
    slope.square().sum().backward()
    assert calls


@each_basis
def test_no_expanded_basis_is_stored(basis_class: type[Basis]) -> None:
    kan, x = KAN((16, 8, 1), basis_class()), torch.randn(1000, 16, requires_grad=True)
    largest = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        (slope,) = torch.autograd.grad(kan(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
    assert largest <= 1000 * 16


@each_basis
@each_dtype
@pytest.mark.parametrize("widths", [(1, 1), (7, 3), (64, 64, 64), (33, 17, 1)])
@pytest.mark.parametrize("norm", ["scale", "layer", "none"])
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_zero_in_zero_out(basis_class: type[Basis], dtype: torch.dtype, widths: tuple[int, ...], norm: str, backend: str) -> None:
    kan = make(widths, basis_class, dtype, norm=norm, backend=backend)
    for rows in (1, 3, 70):
        x = inputs(rows, widths[0], dtype=dtype)
        x[-1] = 0.0
        assert torch.equal(kan(x)[-1], torch.zeros(widths[-1], dtype=dtype))
    plain = make(widths, basis_class, dtype, norm=norm, backend=backend, zero_preserving=False)
    assert plain(torch.zeros(1, widths[0], dtype=dtype)).abs().max() > 0


@each_basis
def test_zero_preserving_only_shifts_a_layer(basis_class: type[Basis]) -> None:
    layer, plain = (make((4, 3), basis_class, zero_preserving=zero) for zero in (True, False))
    plain.load_state_dict(layer.state_dict())
    x = inputs(5, 4)
    torch.testing.assert_close(layer(x), plain(x) - plain(torch.zeros_like(x)))


@each_basis
@each_dtype
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0, 3)])
def test_leading_shapes_and_dtypes(basis_class: type[Basis], dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    kan = make((6, 4, 2), basis_class, dtype)
    x = inputs(*shape, 6, dtype=dtype)
    y = kan(x)
    assert y.shape == (*shape, 2)
    assert y.dtype == dtype
    torch.testing.assert_close(y.reshape(-1, 2), kan(x.reshape(-1, 6)))
    assert all(torch.isfinite(value).all() for value in step(kan, x))


@each_basis
def test_non_contiguous_inputs(basis_class: type[Basis]) -> None:
    kan = make((6, 4, 2), basis_class)
    wide = inputs(8, 10)
    for x in (wide[:, 2:8], wide.t()[:6].t(), inputs(6, 8).t(), wide[0, :6].expand(8, 6)):
        for one, other in zip(step(kan, x), step(kan, x.contiguous()), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@each_basis
@each_option
def test_a_row_does_not_depend_on_the_others(basis_class: type[Basis], options: dict[str, object]) -> None:
    kan = make((6, 4, 2), basis_class, **options).train()
    x = inputs(30, 6)
    alone = torch.cat([kan(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(kan(x), alone, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(kan(100 * x.flip(0))[0], kan(100 * x[-1]), rtol=1e-12, atol=1e-13)


@each_basis
@each_dtype
@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_finite_and_smooth_far_outside(basis_class: type[Basis], dtype: torch.dtype, backend: str) -> None:
    kan = make((3, 4, 1), basis_class, dtype, backend=backend)
    x = torch.tensor([[1e4, -1e4, 60.0], [8.9, -9.1, 1e3], [-60.0, 6.6, 5.4]], dtype=dtype)
    assert all(torch.isfinite(value).all() for value in step(kan, x))


@each_basis
@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize("zero_preserving", [True, False])
def test_initial_outputs_have_variance_one(basis_class: type[Basis], base: bool, zero_preserving: bool) -> None:
    layer = make((48, 400), basis_class, base=base, zero_preserving=zero_preserving)
    x = torch.randn(2000, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert float(layer(x).detach().var(0).mean()) == pytest.approx(1.0, abs=0.1)


@each_basis
def test_initial_slopes_are_near_those_of_the_base_branch(basis_class: type[Basis]) -> None:
    slopes = []
    for share in (slice(None), slice(-1, None)):
        kan = make((48, 48, 1), basis_class)
        for layer in kan.layers:
            with torch.no_grad():
                kept = layer.weight[:, share].clone()
                layer.weight.zero_()
                layer.weight[:, share] = kept
        x = torch.randn(500, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()
        slopes.append(torch.autograd.grad(kan(x).sum(), x)[0].square().mean().sqrt())
    assert 0.8 < float(slopes[0] / slopes[1]) < 1.5


def test_compiles_to_the_reference_form() -> None:
    """Under the compiler a layer takes its plain form: blocks of rows would be specialised to one N."""
    kan = KAN((4, 3, 1), _some_basis())
    compiled = torch.compile(kan, backend="eager", fullgraph=True)
    x = torch.randn(5, 4)
    torch.testing.assert_close(compiled(x), kan(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0, "out_features": 1}, "in_features=0"),
        ({"in_features": 1, "out_features": 1, "norm": "batch"}, "norm=batch is not known; choose from: scale, layer, none"),
        (
            {"in_features": 1, "out_features": 1, "backend": "fast"},
            "backend=fast is not known; choose from: auto, reference, inductor, torch, cpu, triton",
        ),
    ],
)
def test_bad_layer_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KANLayer(basis=_some_basis(), **arguments)  # type: ignore[arg-type]


def _some_basis() -> Basis:
    return next(iter(each_basis.args[1]))()  # type: ignore[no-any-return]
