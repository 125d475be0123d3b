"""One KAN layer: every input through K basis functions and SiLU, then one matrix of weights."""

from __future__ import annotations

import copy
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from kanmlip.kan import native
from kanmlip.kan.basis import Basis
from kanmlip.kan.expansion import Expansion
from kanmlip.kan.grid_update import Spline, update_grid, with_grid
from kanmlip.kan.ops import layer, recording
from kanmlip.kan.spec import Backend, check_backend

Norm = Literal["scale", "layer", "none"]

# Share of the initial output variance that the basis functions have; the base branch has the rest. Small, so that a layer
# starts with slopes like an MLP's: the forces at the first step depend on them.
BASIS_SHARE = 0.04
# No input channel is divided by less than this fraction of the whole input's root mean square.
SCALE_FLOOR = 0.1
# Variance of the functions on normalised inputs below which their weights would have to be a million and more.
LEAST_SPREAD = 1e-12


class KANLayer(nn.Module):
    """y_o = Σ_i [Σ_k W_oki φ_k(x_i) + W_oi SiLU(x_i)], the sum of one learned function for each pair of channels; no bias.

    Standalone weights are random such that x ~ N(0, 1) gives outputs of variance 1, which is what a linear layer of a
    SiLU MLP with normalised weights gives (e3nn, nequip). ``KAN.calibrate`` sets another mean and variance.

    W is a parameter of order one times a fixed gain for each column, again as in those MLPs. Under Adam, whose steps do
    not know the size of a weight, a learning rate then means the same to a KAN as to the MLP it replaces; with W itself
    as the parameter, KANs of many inputs take steps some ten times as large and train to errors several times worse.

    Args:
        in_features: Input channels.
        out_features: Output channels.
        basis: Basis functions; the layer keeps a copy.
        base: Add the SiLU base branch.
        zero_preserving: f(0) = 0 exactly, by φ_k(x) − φ_k(0).
        norm: ``scale`` divides each channel by the buffer ``input_scale`` (1 until calibrated, then frozen); ``layer`` is
            a LayerNorm without parameters, as in FastKAN: steep at zero input, so energies jump at the cutoff; ``none``.
        backend: ``auto`` takes the fastest kernels for the device at hand; ``cpu`` (C++, compiled on first use), ``triton``
            (CUDA) and ``torch`` (plain PyTorch) name one; none of these stores the expanded basis, but that ``torch`` keeps it
            for the passes of a small layer (``kept``). ``reference`` stores it and is differentiated by PyTorch itself;
            ``inductor`` is the same in the form that PyTorch's compiler does best with, and slow without it; ``native`` the
            same as ``auto``, but that the kernels of ``cpu`` are recorded as operators that programs without Python find in their
            library, or as ``inductor`` where there are none. The attribute may be changed at any time.

    Raises:
        ValueError: If a width is below 1 or ``norm`` or ``backend`` is not one of the choices.
    """

    input_scale: Tensor
    gain: Tensor
    grid: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis: Basis,
        *,
        base: bool = True,
        zero_preserving: bool = True,
        norm: Norm = "scale",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise ValueError(f"in_features={in_features}, out_features={out_features}: both must be 1 or more")
        if norm not in ("scale", "layer", "none"):
            raise ValueError(f"norm={norm} is not known; choose from: scale, layer, none")
        check_backend(backend)
        self.in_features = in_features
        self.out_features = out_features
        self.norm = norm
        self.backend = backend
        self.expansion = Expansion(copy.deepcopy(basis), base, zero_preserving)
        self.weight = nn.Parameter(torch.empty(out_features, self.expansion.columns, in_features))
        self._set_gain()
        self.register_buffer("grid", None)
        if norm == "scale":
            self.register_buffer("input_scale", torch.ones(in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw parameters [out, columns, in]; the last column is SiLU's if there is a base branch.

        Functions that are combinations of others start where those would: the same function has the same chance.
        """
        kernel = self.expansion.kernel_expansion()
        deviation = initial_deviation(kernel).to(self.weight).unsqueeze(-1) / self.in_features**0.5
        with torch.no_grad():
            drawn = torch.randn(self.out_features, kernel.columns, self.in_features).to(self.weight) * deviation
            self.set_effective_weight(self.expansion.basis_weight(drawn))

    @property
    def effective_weight(self) -> Tensor:
        """W [out, columns, in]: the parameters times a fixed gain for each column."""
        return self.weight * self.gain

    @torch.no_grad()
    def set_effective_weight(self, weight: Tensor) -> None:
        """Set the parameters such that ``effective_weight`` is ``weight`` [out, columns, in]."""
        self.weight.copy_(weight / self.gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., in] to [..., out].

        Raises:
            ValueError: If x has another number of channels.
        """
        self.check_width(x)
        if self.backend == "inductor" or (self.backend == "native" and recording(x)):
            return torch.unflatten(self._recordable(x.reshape(-1, self.in_features)), 0, x.shape[:-1])
        if (
            self.backend == "reference"
            or x.dtype not in (torch.float32, torch.float64)
            or (torch.compiler.is_compiling() and _transformed())
            or forward_ad._current_level >= 0  # kernels carry no tangents
        ):
            return self.reference(x)
        scale = self.input_scale if self.norm == "scale" else None
        x = x if scale is not None else self.normalise(x)
        weight, gain = self._kernel_weights()
        shape, spec = self.expansion.basis.shape(), self.expansion.specs[self.backend]
        if x.dim() == 2:  # as in every model here; views would be nodes of the graph
            return layer(x, weight, shape, spec, gain, scale)
        y = layer(x.reshape(-1, self.in_features), weight, shape, spec, gain, scale)
        return y.view(*x.shape[:-1], self.out_features)

    def _kernel_weights(self) -> tuple[Tensor, Tensor | None]:
        """Weights [out, columns, in] for the functions that kernels evaluate, and what is to be multiplied with them there, if anything."""
        if self.expansion.basis.mixing() is None:
            return self.weight, self.gain
        return self.expansion.kernel_weight(self.effective_weight), None

    def _recordable(self, rows: Tensor) -> Tensor:
        """Inputs [N, in] → [N, out], in a form that asks nothing of a tensor while it is recorded."""
        on_cpu = self.gain.device.type == "cpu"  # a buffer, since recorders put proxies in the place of parameters
        functions = self.expansion.functions if self.backend == "native" and on_cpu else None
        if functions is None or not native.load():
            # By a matrix, which a compiler does not look through: else every weight would be scaled anew for each row.
            weight = torch.diag(self.gain.flatten()) @ self.weight
            return self.expansion.combine_compiled(self.normalise(rows), weight, self.in_features, self.out_features)
        scaled = self.norm == "scale"
        inverse_scale, rows = (self.input_scale.reciprocal(), rows) if scaled else (None, self.normalise(rows))
        weight, gain = self._kernel_weights()
        return native.layer(rows, weight, gain, inverse_scale, self.expansion.basis.shape(), functions)

    def check_width(self, x: Tensor) -> None:
        """Refuse inputs of another width, which dividing by the scale may broadcast and kernels would read beyond their end.

        Raises:
            ValueError: If x is not [..., in].
        """
        # Not of what records: a proxy has no shape, and a trace would record the question.
        if torch.compiler.is_compiling() or not isinstance(x, Tensor) or torch._C._get_tracing_state() is not None:
            return
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"x has shape {list(x.shape)}; a layer of {self.in_features} inputs takes [..., {self.in_features}]")

    def reference(self, x: Tensor) -> Tensor:
        """``forward`` in plain PyTorch, which stores the expanded basis [..., columns × in]."""
        return self.expansion.combine(self.normalise(x), self.effective_weight)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in the layer's place: the reference form, recorded, with the layer's own tensors."""
        tracer = torch.fx.Tracer()
        tracer.traced_func_name = "reference"
        graph = tracer.trace(self)
        for node in graph.nodes:
            node.type = None  # annotations of this file are strings, which scripts do not resolve
        return torch.fx.GraphModule(self, graph)

    def normalise(self, x: Tensor) -> Tensor:
        """What the basis functions see of x [..., in]."""
        if self.norm == "scale":
            return x / self.input_scale
        if self.norm == "layer":
            return nn.functional.layer_norm(x, (self.in_features,))
        return x

    @torch.no_grad()
    def calibrate_scale(self, x: Tensor) -> None:
        """Set ``input_scale`` to the root mean square of each channel of x [M, in]; without effect unless ``norm`` is ``scale``.

        A channel that hardly varies is not blown up: its scale is at least a tenth of the whole input's root mean square.
        """
        if self.norm != "scale":
            return
        square = x.square().mean(0)
        floor = SCALE_FLOOR * square.mean().sqrt()
        scale = square.sqrt().clamp_min(floor)
        self.input_scale.copy_(torch.where(scale > 0, scale, torch.ones_like(scale)))

    def update_grid(self, x: Tensor, *, intervals: int | None = None, quantile: float = 0.0) -> float:
        """Put the grid of splines where the inputs x [M, in] are and keep the function; see ``grid_update.update_grid``."""
        return update_grid(self, x, intervals=intervals, quantile=quantile)

    @torch.no_grad()
    def set_grid(self, grid: Tensor) -> None:
        """Take the grid that ``grid_update.encode`` wrote; the weights become zeros [out, columns, in] and have to be set anew.

        Raises:
            ValueError: If the basis has no grid that can be changed.
        """
        expansion = self.expansion
        if not isinstance(expansion.basis, Spline):
            raise ValueError(
                f"basis={type(expansion.basis).__name__} has no grid that can be changed; choose from: BSpline, TruncatedPower"
            )
        basis = with_grid(expansion.basis, grid)
        self.expansion = Expansion(basis, expansion.base, expansion.zero_preserving)
        # Not a new parameter: an optimiser made before then stops at the new shape, and does not train what nobody uses.
        self.weight.grad = None
        self.weight.data = self.weight.new_zeros(self.out_features, self.expansion.columns, self.in_features)
        self._set_gain()
        self.expansion.to(self.weight)
        self.register_buffer("grid", grid.to(self.weight.device))

    def _set_gain(self) -> None:
        # Rounded to float32 whatever the dtype: it is no part of the state, and has to be the same wherever that is loaded.
        gain = (column_gain(self.expansion) / self.in_features**0.5).float()
        self.register_buffer("gain", gain.to(self.weight).unsqueeze(-1), persistent=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if prefix + "grid" in state_dict:  # its weights have that grid's shape
            self.set_grid(state_dict[prefix + "grid"])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """Widths and settings."""
        return f"{self.in_features}, {self.out_features}, norm={self.norm}, zero_preserving={self.expansion.zero_preserving}"


def _transformed() -> bool:
    """Whether torch.func is at work; its transforms do not support registered operators under torch.compile."""
    return torch._C._functorch.maybe_current_level() is not None


# What torch.compiler.assume_constant_result does; calling it would import the compiler, a second or two, wherever there are layers.
cast("Any", _transformed)._dynamo_marked_constant = True


def initial_deviation(expansion: Expansion) -> Tensor:
    """Standard deviations [columns], float64, of the weights of one input that give Var[y] = 1 for x ~ N(0, 1)."""
    share = torch.full((expansion.columns,), BASIS_SHARE if expansion.base else 1.0, dtype=torch.float64)
    if expansion.base:
        share[-1] = 1 - BASIS_SHARE
    return column_gain(expansion) * share.sqrt()


def column_gain(expansion: Expansion) -> Tensor:
    """Weights [columns], float64, of one input with which the basis functions together, and SiLU alone, have variance 1 on N(0, 1).

    Raises:
        ValueError: If the functions are next to constant there, as those of a grid far from zero.
    """
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    with torch.no_grad():
        functions = expansion.evaluate(z.to(expansion.offset)).to(density)
    mean = density @ functions
    variance = density @ (functions - mean).square()
    profile = expansion.basis.initial_profile()
    if expansion.base:
        profile = torch.cat([profile, profile.new_ones(1)])
        spread = torch.cat([(profile.square() * variance)[:-1].sum().expand(len(profile) - 1), variance[-1:]])
    else:
        spread = (profile.square() * variance).sum().expand(len(profile))
    if not bool((spread > LEAST_SPREAD).all()):
        given = ", ".join(f"{name}={value}" for name, value in expansion.basis.arguments().items())
        raise ValueError(
            f"{type(expansion.basis).__name__}({given}): its functions do not vary where normalised inputs lie, around zero with a "
            "variance of 1; a grid from -3 to 3 suits most"
        )
    return profile / spread.sqrt()
