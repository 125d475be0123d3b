"""Are the Triton kernels right and fast: each contraction against its definition, and a force-training step against the MLP's."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kanmlip.benchmark.contenders import Contender
from kanmlip.kan import AdaptiveGaussian, Basis, BSpline, Chebyshev, Fourier, Gaussian, ReLUPower, backend_triton
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.family import Waves

# Largest error of a contraction, relative to its largest entry.
BARS = {torch.float32: 1e-6, torch.float64: 1e-12}
BASES: dict[str, Basis] = {
    "bspline": BSpline(),
    "bspline order=2": BSpline(order=2),
    "bspline order=5 grid=9": BSpline(9, 5),
    "relu": ReLUPower(),
    "gaussian": Gaussian(),
    "adaptive_gaussian": AdaptiveGaussian(),
    "fourier": Fourier(),
    "chebyshev": Chebyshev(),
}
FAR = (0.0, 20.0, -20.0, 1e4, -1e4)
TIMED = ("bspline", "gaussian", "fourier", "chebyshev", "adaptive_gaussian", "relu")


@dataclass(frozen=True)
class Case:
    """One comparison: functions, derivative, sizes and options.

    Attributes:
        basis: Key of ``BASES``.
        dtype: Of the tensors.
        order: Order of differentiation.
        rows: N; the first few rows are zeros and points far outside.
        inputs: Inputs.
        outputs: Outputs.
        base: SiLU as well.
        zero_preserving: φ_k(x) − φ_k(0).
        scaled: With factors v.
    """

    basis: str
    dtype: torch.dtype
    order: int
    rows: int = 37
    inputs: int = 5
    outputs: int = 17
    base: bool = True
    zero_preserving: bool = True
    scaled: bool = True


def cases() -> Iterator[Case]:
    """Every basis, dtype and order, and one by one the options and sizes that kernels branch on."""
    for basis in BASES:
        for dtype in BARS:
            for order in range(4):
                yield Case(basis, dtype, order)
    for basis in ("bspline", "gaussian", "fourier", "chebyshev"):
        plain = Case(basis, torch.float32, 0, scaled=False)
        yield replace(plain, rows=130, inputs=20, outputs=3)
        yield replace(plain, rows=1, inputs=1, outputs=1, base=False)
        yield replace(plain, zero_preserving=False)
        yield replace(plain, rows=66, inputs=33, outputs=70, base=False, order=1)
        yield replace(plain, rows=0)
        yield replace(plain, dtype=torch.float64, outputs=3, order=1)


def tensors(case: Case, device: str) -> tuple[Expansion, Expansion, dict[str, Tensor]]:
    """The expansion, the same in float64, and random x, v, g, W of the case."""
    basis = copy.deepcopy(BASES[case.basis]).to(case.dtype)
    made = Expansion(basis, case.base, case.zero_preserving).to(device=device, dtype=case.dtype).requires_grad_(False)
    generator = torch.Generator().manual_seed(case.order)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64).to(device=device, dtype=case.dtype)

    x = 1.5 * random(case.rows, case.inputs)
    if case.rows > len(FAR):
        # Waves of a large argument are what float32 makes of them; they get no point far outside but zero.
        far = FAR[:1] if isinstance(basis.family(), Waves) else FAR
        x[: len(far)] = torch.tensor(far).unsqueeze(1)
    size = {"v": (case.rows, case.inputs), "g": (case.rows, case.outputs), "weight": (case.outputs, made.columns, case.inputs)}
    return made, copy.deepcopy(made).double(), {"x": x, **{name: random(*sizes) for name, sizes in size.items()}}


def errors(case: Case, device: str) -> dict[str, float]:
    """Largest error of each contraction against its definition in float64, infinite if not finite.

    Relative to the largest entry among points that are not far outside and basis functions; SiLU is as large as its argument far
    outside, so that errors of those rows and of its weights are relative to their own largest entry where that is larger.
    """
    expansion, exact, given = tensors(case, device)
    x, g, weight = given["x"], given["g"], given["weight"]
    v = given["v"] if case.scaled else None
    shape, size = expansion.basis.shape(), expansion.basis.num_basis
    phi = exact.evaluate(x.double(), case.order)
    scaled = phi if v is None else phi * v.double().unsqueeze(-1)
    near = x.abs().amax(1) < 10
    found = backend_triton.contract_output(expansion, x, v, weight, shape, case.order)
    right = torch.einsum("nik,oki->no", scaled, weight.double())
    result = {"output": _relative(found, right, right[near], (1,))}
    found = backend_triton.contract_weight(expansion, x, v, g, shape, case.order)
    right = torch.einsum("nik,no->oki", scaled, g.double())
    result["weight"] = _relative(found, right, right[:, :size], (0, 2))
    found = backend_triton.contract_input(expansion, x, g, weight, shape, case.order)
    right = torch.einsum("nik,oki,no->ni", phi, weight.double(), g.double())
    result["input"] = _relative(found, right, right[near], (1,))
    return result


def _relative(found: Tensor, right: Tensor, ordinary: Tensor, group: tuple[int, ...]) -> float:
    """Largest error relative to the largest of the ordinary entries, or of the entry's own group if that is larger."""
    if found.shape != right.shape or not bool(found.isfinite().all()):
        return torch.inf
    if right.numel() == 0:
        return 0.0
    scale = right.abs().amax(group, keepdim=True)
    if ordinary.numel() > 0:
        scale = scale.maximum(ordinary.abs().max())
    return float(((found.double() - right).abs() / scale.clamp_min(1e-300)).max())


def agreement(device: str = "cuda") -> dict[str, Any]:
    """Worst error by basis and dtype over all cases and larger ones, for ``scripts/gpu_check.py``."""
    worst: dict[str, float] = {}
    passed = True
    larger = [replace(case, rows=10_000, inputs=128, outputs=32) for case in cases() if case.rows == 37]
    for case in (*cases(), *larger):
        largest = max(errors(case, device).values())
        name = f"{case.basis} {str(case.dtype).removeprefix('torch.')}"
        worst[name] = max(worst.get(name, 0.0), largest)
        passed &= largest <= BARS[case.dtype]
    return {"passed": passed, "errors": worst}


def timings(rows: int = 100_000, widths: Sequence[int] = (128, 32, 1), bases: Sequence[str] = TIMED) -> dict[str, Any]:
    """Force-training steps on CUDA in ms by ``triton.testing.do_bench`` (median), and their ratio to the MLP's, float32.

    Args:
        rows: N.
        widths: Widths of the MLP; KANs have the same, or hidden widths reduced to its number of parameters.
        bases: Names of conf/basis.
    """
    from triton.testing import do_bench

    mlp = Contender("mlp", tuple(widths))
    kans = [Contender("kan", tuple(widths), basis, "triton") for basis in bases]
    contenders = [mlp, *kans, *(kan.with_parameters_of(mlp) for kan in kans)]
    x = torch.randn(rows, widths[0], device="cuda", generator=torch.Generator("cuda").manual_seed(0))
    times = {c.name: float(do_bench(_step(c.build(torch.float32, "cuda"), x), return_mode="median")) for c in contenders}
    return {name: {"step_ms": ms, "ratio": ms / times[mlp.name]} for name, ms in times.items()}


def _step(model: nn.Module, x: Tensor) -> Callable[[], None]:
    """Outputs, their gradient by the inputs, and the gradients of a loss on both by the parameters."""
    x = x.clone().requires_grad_()

    def step() -> None:
        y = model(x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        torch.autograd.grad(slope.square().mean() + y.square().mean(), [*model.parameters()], allow_unused=True)

    return step


def check() -> dict[str, Any]:
    """Both parts, for ``scripts/gpu_check.py``: passed if every kernel is right; times are reported, not judged."""
    report = agreement()
    report["steps"] = {f"{'→'.join(map(str, widths))}": timings(widths=widths) for widths in ((128, 32, 1), (256, 128, 128))}
    return report
