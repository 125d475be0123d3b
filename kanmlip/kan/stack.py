"""A stack of KAN layers that can be made to start where the MLP it replaces starts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from kanmlip.kan.basis import Basis
from kanmlip.kan.calibration import match_moments
from kanmlip.kan.imitation import imitate
from kanmlip.kan.layer import KANLayer, Norm
from kanmlip.kan.ops import stack
from kanmlip.kan.spec import Backend, check_backend

# Hidden values for one input from which on their memory is worth the time of working them out again; above zero, so that there are some.
_WORTH_FREEING = 1 / 20


class KAN(nn.Module):
    """KAN layers of the given widths: [..., widths[0]] → [..., widths[-1]].

    Args:
        widths: Widths, input first.
        basis: Basis functions; each layer keeps a copy.
        base: Add the SiLU base branch to each layer.
        zero_preserving: f(0) = 0 exactly.
        norm: How each layer normalises its input; see :class:`KANLayer`.
        backend: Which kernels; see :class:`KANLayer` and ``set_backend``.

    Attributes:
        widths: As given.
        keep_hidden: Keep the values between the layers for the backward pass, the default. ``False`` keeps the stack's input alone
            and works them out again there: less memory, as in molecular dynamics of large cells, in more time, and the same numbers
            to the last bit. It acts on weights that are not trained (``requires_grad_(False)``) of two layers or more with
            ``norm="scale"``, in eager mode, by compiled kernels (``backend`` auto, cpu or native, on a CPU), and on bases without
            parameters or mixing of functions (not on AdaptiveGaussian and TruncatedPower); anything else is computed as ever, as
            are stacks whose hidden values are a small part of their input, less than a twentieth (128 → 3 → 1): working them out
            again takes as long as anywhere, and frees next to nothing. May be changed at any time.

    Raises:
        ValueError: If there are fewer than two widths, or a layer refuses its arguments.
    """

    def __init__(
        self,
        widths: Sequence[int],
        basis: Basis,
        *,
        base: bool = True,
        zero_preserving: bool = True,
        norm: Norm = "scale",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths={list(widths)} must have an input and an output width, such as [64, 64, 1]")
        self.widths = tuple(int(width) for width in widths)
        self.keep_hidden = True
        self.layers = nn.ModuleList(
            KANLayer(before, after, basis, base=base, zero_preserving=zero_preserving, norm=norm, backend=backend)
            for before, after in pairwise(self.widths)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., widths[0]] to [..., widths[-1]]."""
        if not torch.jit.is_scripting() and not self.keep_hidden:  # type: ignore[attr-defined]
            y = self._without_hidden(x)
            if y is not None:
                return y
        for layer in self.layers:
            x = layer(x)
        return x

    def _without_hidden(self, x: Tensor) -> Tensor | None:
        """``forward`` where hidden values can be worked out again; none elsewhere."""
        layers = [cast("KANLayer", layer) for layer in self.layers]
        if sum(self.widths[1:-1]) < _WORTH_FREEING * self.widths[0] or x.dtype not in (torch.float32, torch.float64):
            return None
        for layer in layers:  # a hook wants to see what its layer is given
            if layer.norm != "scale" or layer.expansion.basis.mixing() is not None or layer._forward_hooks or layer._forward_pre_hooks:
                return None
        layers[0].check_width(x)
        y = stack(
            x if x.dim() == 2 else x.reshape(-1, self.widths[0]),
            [layer.weight for layer in layers],
            [layer.expansion.specs[layer.backend] for layer in layers],
            [layer.gain for layer in layers],
            [layer.input_scale for layer in layers],
        )
        return y if y is None or x.dim() == 2 else y.view(*x.shape[:-1], self.widths[-1])

    def set_backend(self, backend: str) -> None:
        """Choose the kernels of every layer; the weights are the same.

        Raises:
            ValueError: If there is no such backend.
        """
        check_backend(backend)
        for layer in self.layers:
            cast("KANLayer", layer).backend = cast("Backend", backend)

    @torch.no_grad()
    def calibrate(self, x: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Freeze the layers' input scales and give the outputs a mean and a variance.

        Layer by layer the input scale is measured on what x becomes there. The last layer's weights are then changed such
        that the outputs on x have the mean and variance asked for (up to rounding, if the layer's features allow it).

        Args:
            x: Inputs [..., widths[0]], at least some thousand rows for moments that hold on other data too.
            mean: Mean of each output channel [widths[-1]].
            variance: Variance of each output channel [widths[-1]].

        Raises:
            ValueError: If a shape does not fit, there are no rows, or a number is not finite or a variance negative.
        """
        x = x.detach().reshape(-1, x.shape[-1])
        if x.shape[1] != self.widths[0] or x.shape[0] == 0:
            raise ValueError(f"x has shape {list(x.shape)} after flattening; it must be [M, {self.widths[0]}] with M ≥ 1")
        for name, value in (("mean", mean), ("variance", variance)):
            if value.shape != (self.widths[-1],):
                raise ValueError(f"{name} has shape {list(value.shape)}; it must be [{self.widths[-1]}], one number for each output")
        if not bool(torch.isfinite(x).all() & torch.isfinite(mean).all() & torch.isfinite(variance).all() & (variance >= 0).all()):
            raise ValueError("x, mean and variance must be finite and variance not negative; look for NaN in the model's inputs")
        *hidden, last = (cast("KANLayer", layer) for layer in self.layers)
        for layer in hidden:
            layer.calibrate_scale(x)
            x = layer(x)
        last.calibrate_scale(x)
        match_moments(last, last.normalise(x), mean, variance)

    @torch.no_grad()
    def imitate(self, x: Tensor, y: Tensor) -> None:
        """Freeze the layers' input scales and fit the last layer such that the stack is nearly the function x → y.

        Hidden layers keep their random weights. On x the outputs then have exactly the mean and variance of y.

        Args:
            x: Inputs [..., widths[0]].
            y: Outputs of the function to imitate [..., widths[-1]].

        Raises:
            ValueError: If a shape does not fit, there are no rows, or a number is not finite.
        """
        x, y = x.detach().reshape(-1, x.shape[-1]), y.detach().reshape(-1, y.shape[-1])
        if x.shape[1] != self.widths[0] or y.shape != (x.shape[0], self.widths[-1]) or x.shape[0] == 0:
            wanted = f"[M, {self.widths[0]}] and [M, {self.widths[-1]}] with M ≥ 1"
            raise ValueError(f"x and y have shapes {list(x.shape)} and {list(y.shape)} after flattening; they must be {wanted}")
        if not bool(torch.isfinite(x).all() & torch.isfinite(y).all()):
            raise ValueError("x and y must be finite; look for NaN in the model's inputs")
        *hidden, last = (cast("KANLayer", layer) for layer in self.layers)
        for layer in hidden:
            layer.calibrate_scale(x)
            x = layer(x)
        last.calibrate_scale(x)
        imitate(last, last.normalise(x), y)

    @torch.no_grad()
    def update_grid(self, x: Tensor, *, intervals: int | None = None, quantile: float = 0.0) -> float:
        """Put each layer's grid of splines where its inputs are and keep the functions; see ``grid_update.update_grid``.

        Args:
            x: Inputs [..., widths[0]].
            intervals: Number of intervals of the new grids; None to keep the functions.
            quantile: Share of a layer's inputs that may lie beyond each end of its grid, 0 to 0.5.

        Returns:
            The largest change of an output on ``x``.

        Raises:
            ValueError: If ``x`` does not fit or a layer refuses; the layers before it have their new grids then.
        """
        x = x.detach().reshape(-1, x.shape[-1])
        if x.shape[1] != self.widths[0] or x.shape[0] == 0:
            raise ValueError(f"x has shape {list(x.shape)} after flattening; it must be [M, {self.widths[0]}] with M ≥ 1")
        before = self(x)
        for layer in self.layers:
            cast("KANLayer", layer).update_grid(x, intervals=intervals, quantile=quantile)
            x = layer(x)
        return float((x - before).abs().max())
