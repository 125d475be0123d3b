"""KAN as a module: copies, state_dict, what its layers share, its imports, and its errors."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from kanmlip.kan import KAN, Basis, Gaussian
from tests.unit.test_kan_basis import each_basis
from tests.unit.test_kan_layer import inputs, make


def nothing(kan: KAN) -> KAN:
    return kan


@each_basis
@pytest.mark.parametrize("change", [nothing, lambda kan: kan.double(), lambda kan: kan.double().float()], ids=["same", "double", "back"])
def test_deepcopy_state_dict_and_pickle(basis_class: type[Basis], change: Callable[[KAN], KAN]) -> None:
    kan = change(make((6, 4, 2), basis_class, torch.float32))
    dtype = next(kan.parameters()).dtype
    x = inputs(50, 6, dtype=dtype)
    kan.calibrate(3 * x, torch.ones(2, dtype=dtype), torch.ones(2, dtype=dtype))
    y = kan(x)
    file = io.BytesIO()
    torch.save(kan.state_dict(), file)
    file.seek(0)
    torch.manual_seed(7)
    fresh = change(KAN((6, 4, 2), basis_class()))
    assert not torch.equal(fresh(x), y)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    clone = copy.deepcopy(kan)
    assert torch.equal(fresh(x), y)
    assert torch.equal(clone(x), y)
    with torch.no_grad():
        next(clone.parameters()).zero_()
    assert torch.equal(kan(x), y)


@each_basis
def test_layers_do_not_share_a_basis(basis_class: type[Basis]) -> None:
    basis = basis_class()
    kan = KAN((4, 3, 2), basis)
    own = {id(module) for module in basis.modules()}
    first, second = ({id(module) for module in layer.expansion.basis.modules()} for layer in kan.layers)  # type: ignore[union-attr]
    assert not own & first
    assert not own & second
    assert not first & second


def test_bad_stack_arguments() -> None:
    with pytest.raises(ValueError, match="widths=\\[3\\]"):
        KAN([3], Gaussian())
    with pytest.raises(ValueError, match="backend=fast"):
        KAN([3, 1], Gaussian()).set_backend("fast")  # type: ignore[arg-type]


def test_layers_import_torch_and_nothing_else_of_ours() -> None:
    code = (
        "import sys, kanmlip.kan; "
        "ours = {m for m in sys.modules if m.startswith('kanmlip') and not m.startswith('kanmlip.kan')} - {'kanmlip'}; "
        "third = {'pydantic', 'scipy', 'ase', 'nequip', 'e3nn', 'hydra', 'lightning'} & set(sys.modules); "
        "sys.exit(repr((ours, third)) if ours or third else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
