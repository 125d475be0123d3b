"""Which kernels compute a layer: by device, or by name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from kanmlip.kan import backend_torch
from kanmlip.kan.expansion import Expansion, read_spec
from kanmlip.kan.kept import Kept, fits
from kanmlip.kan.spec import read_settings


class Kernels(Protocol):
    """What a backend module offers; see ``backend_torch``."""

    contract_output: Callable[[Expansion, Tensor, Tensor | None, Tensor, Tensor | None, int], Tensor]
    contract_weight: Callable[[Expansion, Tensor, Tensor | None, Tensor, Tensor | None, int], Tensor]
    contract_input: Callable[[Expansion, Tensor, Tensor, Tensor, Tensor | None, int], Tensor]


class Contractions:
    """The three sums for one expansion by one backend's kernels, of tensors in any layout."""

    def __init__(self, kernels: Kernels, expansion: Expansion) -> None:
        self.kernels = kernels
        self.expansion = expansion
        # y(x, parameters, gain, s) with nodes of the autograd graph of the backend's own, if it has such.
        self.layer: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor] | None
        self.layer = getattr(kernels, "layer", lambda _: None)(expansion)

    def keeping(self, x: Tensor) -> Contractions | Kept:
        """The same for all passes of one layer over x [N, in]: in plain PyTorch, small layers keep their functions."""
        return Kept(self.expansion, x) if self.kernels is cast("object", backend_torch) and fits(self.expansion, x) else self

    def output(self, x: Tensor, v: Tensor | None, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """A_d [N, out]."""
        return self.kernels.contract_output(self.expansion, x.contiguous(), _dense(v), weight.contiguous(), _dense(shape), order)

    def weight(self, x: Tensor, v: Tensor | None, g: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """B_d [out, columns, in]."""
        return self.kernels.contract_weight(self.expansion, x.contiguous(), _dense(v), g.contiguous(), _dense(shape), order)

    def input(self, x: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> Tensor:
        """C_d [N, in]."""
        return self.kernels.contract_input(self.expansion, x.contiguous(), g.contiguous(), weight.contiguous(), _dense(shape), order)

    def input_gradients(self, x: Tensor, v: Tensor, g: Tensor, weight: Tensor, shape: Tensor | None, order: int) -> tuple[Tensor, ...]:
        """v C_{d+1} [N, in], A_d(v) [N, out] and B_d(v) [out, columns, in], in one pass where the backend has one."""
        if hasattr(self.kernels, "input_gradients"):
            dense = (x.contiguous(), v.contiguous(), g.contiguous(), weight.contiguous(), _dense(shape))
            return cast("tuple[Tensor, ...]", cast("Any", self.kernels).input_gradients(self.expansion, *dense, order))
        by_x = v * self.input(x, g, weight, shape, order + 1)
        return by_x, self.output(x, v, weight, shape, order), self.weight(x, v, g, shape, order)


def resolve(spec: str, x: Tensor) -> Contractions:
    """The contractions for the functions and the backend of a text, on the device and in the dtype of x.

    Raises:
        ValueError: If the text asks for ``triton`` where it cannot run.
    """
    return _resolve(spec, x.dtype, x.device)


@functools.lru_cache(maxsize=1024)
def _resolve(spec: str, dtype: torch.dtype, device: torch.device) -> Contractions:
    return Contractions(kernels_for(read_settings(spec)["backend"], device), read_spec(spec, dtype, device))


def kernels_for(backend: str, device: torch.device) -> Kernels:
    """The module that computes on a device.

    Args:
        backend: ``auto`` takes the fastest there is.
        device: Of the tensors.

    Raises:
        ValueError: If ``triton`` is asked for where it cannot run.
    """
    if backend in ("auto", "cpu", "native") and device.type == "cpu":
        from kanmlip.kan import backend_cpu

        if backend_cpu.available():
            return cast("Kernels", backend_cpu)
    if backend == "triton" or (backend in ("auto", "native") and device.type == "cuda"):
        backend_triton = importlib.import_module("kanmlip.kan.backend_triton")  # untyped, as triton is
        if backend_triton.available(device):
            return cast("Kernels", backend_triton)
        if backend == "triton":
            raise ValueError(f"backend=triton needs a CUDA device and the package triton, but the device is {device}; choose backend=auto")
    return cast("Kernels", backend_torch)


def _dense(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()
