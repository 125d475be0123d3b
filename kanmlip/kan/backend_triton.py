"""The contractions by Triton kernels on CUDA; see ``triton/``. On the CPU only in Triton's interpreter, to check them."""

from __future__ import annotations

import functools
import importlib.util
import os

import torch
from torch import Tensor

from kanmlip.kan import backend_torch
from kanmlip.kan.basis import check_derivative
from kanmlip.kan.expansion import Expansion

__all__ = ["available", "contract_input", "contract_output", "contract_weight"]


def available(device: torch.device) -> bool:
    """Whether kernels run on tensors of a device: CUDA from capability 7 on, or the CPU under ``TRITON_INTERPRET=1``."""
    if not _installed():
        return False
    if os.environ.get("TRITON_INTERPRET") == "1":
        return device.type in ("cpu", "cuda")
    return device.type == "cuda" and torch.version.cuda is not None and torch.cuda.get_device_capability(device)[0] >= 7


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def contract_output(expansion: Expansion, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_output``."""
    check_derivative(order)
    if x.shape[0] == 0 or expansion.basis.family() is None:
        return backend_torch.contract_output(expansion, x, v, weight, shape, order)
    from kanmlip.kan.triton.launch import launch_output

    return launch_output(expansion, x, v, weight, shape, order)


def contract_weight(expansion: Expansion, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_weight``; the same bits each time."""
    check_derivative(order)
    if x.shape[0] == 0 or expansion.basis.family() is None:
        return backend_torch.contract_weight(expansion, x, v, g, shape, order)
    from kanmlip.kan.triton.launch import launch_weight

    return launch_weight(expansion, x, v, g, shape, order)


def contract_input(expansion: Expansion, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
    """See ``backend_torch.contract_input``."""
    check_derivative(order)
    if x.shape[0] == 0 or expansion.basis.family() is None:
        return backend_torch.contract_input(expansion, x, g, weight, shape, order)
    from kanmlip.kan.triton.launch import launch_input

    return launch_input(expansion, x, g, weight, shape, order)
