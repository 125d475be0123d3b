"""What is timed against what: the MLP, our KANs by basis and backend, and other KAN layers, each as plain data that a child can build."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from kanmlip.benchmark.stored_basis import NormalisedMLP, RecursiveSplineLayer, StoredGaussianLayer
from kanmlip.errors import ConfigError, describe_choice
from kanmlip.kan import KAN, Basis
from kanmlip.kan.family import LocalPolynomials
from kanmlip.placement.widths import dense_weights, matched_widths

OTHERS = {
    "efficient-kan": "efficient-kan's algorithm (own reference)",
    "fast-kan": "fast-kan's algorithm (own reference)",
    "pykan": "pykan, speed mode (from PyPI)",
}
# Of the contenders that have a grid: what the paper's models use, and our bases too.
GRID, ORDER, GAUSSIANS, GRID_RANGE = 5, 3, 8, (-3.0, 3.0)
# pykan keeps about this many tensors [N, in, out] of a layer in a force-training step.
_PYKAN_COPIES = 12
_PYKAN_LIMIT = 4 * 2**30


@dataclass(frozen=True)
class Contender:
    """One network of the layer benchmark.

    Attributes:
        kind: ``mlp``, ``kan`` (ours) or a key of ``OTHERS``.
        widths: Widths, input first.
        basis: Of ours: a name of conf/basis, with changes such as ``bspline:grid=20``.
        backend: Of ours.
        match: Whether the hidden widths are the MLP's or were reduced to its number of parameters.
    """

    kind: str
    widths: tuple[int, ...]
    basis: str = ""
    backend: str = ""
    match: str = "widths"

    @property
    def name(self) -> str:
        """Name in tables; unique within a comparison."""
        label = {"mlp": "MLP", "kan": f"{self.basis} {self.backend}"}.get(self.kind, self.kind)
        return label if self.match == "widths" else f"{label}, {'→'.join(map(str, self.widths))}"

    def build(self, dtype: torch.dtype, device: str, seed: int = 0) -> nn.Module:
        """The network, [N, widths[0]] → [N, widths[-1]].

        Raises:
            ConfigError: If the basis or the backend does not exist, or the package is not installed.
        """
        torch.manual_seed(seed)
        return _BUILDERS[self.kind](self).to(device=device, dtype=dtype)

    def parameters(self) -> int:
        """Trainable parameters; of pykan those that are used in speed mode."""
        return self._count(self.widths)

    def with_parameters_of(self, mlp: Contender) -> Contender:
        """The same with hidden widths reduced until there are no more parameters than the MLP has."""
        return replace(self, widths=matched_widths(self.widths, mlp.parameters(), self._count), match="parameters")

    def columns(self, dense: bool = True) -> int:
        """Functions of each input that enter a matrix product, the base branch included; those not zero at a point unless ``dense``."""
        if self.kind == "mlp":
            return 1
        if self.kind != "kan":
            return (GAUSSIANS if self.kind == "fast-kan" else GRID + ORDER) + 1
        basis = parse_basis(self.basis)
        family = basis.kernel().family()
        local = isinstance(family, LocalPolynomials) and not dense
        return (min(len(family.pieces), family.size) if local and isinstance(family, LocalPolynomials) else basis.num_basis) + 1

    def _count(self, widths: Sequence[int]) -> int:
        weights = dense_weights(widths)
        if self.kind == "kan":
            learnable = sum(p.numel() for p in parse_basis(self.basis).parameters())
            return self.columns() * weights + learnable * (len(widths) - 1)
        if self.kind == "fast-kan":
            return self.columns() * weights + sum(2 * before + after for before, after in pairwise(widths))
        return (self.columns() + 1 if self.kind in OTHERS else 1) * weights


def parse_basis(text: str) -> Basis:
    """A basis of conf/basis with changed arguments.

    Args:
        text: ``bspline``, ``bspline:grid=20``, ``bspline:grid=20+order=4``.

    Raises:
        ConfigError: If there is no such basis, or it refuses an argument.
    """
    import yaml

    from kanmlip.experiment import conf_dir
    from kanmlip.experiment.basis import basis_config
    from kanmlip.yaml_file import read_mapping

    name, _, changes = text.partition(":")
    path = conf_dir() / "basis" / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(describe_choice("--bases", name, (found.stem for found in path.parent.glob("*.yaml"))))
    fields = read_mapping(path, ("_target_", "name"))
    for change in filter(None, changes.split("+")):
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--bases={text}: '{change}' is not a change; write for example {name}:key=value+key=value")
        try:
            fields[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--bases={text}: '{value}' is no value; write for example {name}:key=value+key=value") from error
    target = fields.pop("_target_")
    return basis_config(target, fields.pop("name"), fields).build()


def choose_backend(kan: KAN, backend: str) -> None:
    """Set a KAN's backend and evaluate it once, so that one that cannot work here says so now.

    Raises:
        ConfigError: If the layers have no such backend or it does not work on this machine.
    """
    try:
        kan.set_backend(cast("Any", backend))
    except ValueError as error:
        raise ConfigError(f"--backends={backend}: {error}") from error
    weight = next(kan.parameters())
    try:
        with warnings.catch_warnings():
            # A fallback to another backend warns: it must not be timed under this one's name.
            warnings.simplefilter("default" if backend == "auto" else "error", UserWarning)
            kan(torch.zeros(1, kan.widths[0], dtype=weight.dtype, device=weight.device))
    except (RuntimeError, ValueError, NotImplementedError, ImportError, OSError, UserWarning) as error:
        raise ConfigError(f"--backends={backend} does not work here: {error}") from error


def why_not(contender: Contender, rows: int) -> str | None:
    """Why a contender cannot be measured on this machine; none if it can."""
    if contender.kind != "pykan":
        return None
    if importlib.util.find_spec("kan") is None:
        return "pykan is not installed; pip install pykan scikit-learn"
    widest = max(before * after for before, after in pairwise(contender.widths))
    needed = _PYKAN_COPIES * 4 * rows * widest
    return f"its tensors [N, in, out] would take about {needed / 2**30:.0f} GiB" if needed > _PYKAN_LIMIT else None


class PyKAN(nn.Module):
    """pykan's network in speed mode, as its users are told to train it: [N, in] → [N, out]."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # invalid escapes in its docstrings
                network = importlib.import_module("kan").KAN
        except ImportError as error:
            raise ConfigError(f"--contenders=pykan cannot be imported ({error}); pip install pykan scikit-learn") from error
        with contextlib.redirect_stdout(io.StringIO()):
            made = network(width=list(widths), grid=GRID, k=ORDER, grid_range=list(GRID_RANGE), symbolic_enabled=False, auto_save=False)
            self.network = made.speed()
        for symbolic in self.network.symbolic_fun:
            symbolic.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in] → [N, out]."""
        return cast("Tensor", self.network(x))


def _ours(contender: Contender) -> nn.Module:
    kan = KAN(contender.widths, parse_basis(contender.basis))
    choose_backend(kan, contender.backend)
    return kan


def _stack(layer: Callable[[int, int], nn.Module]) -> Callable[[Contender], nn.Module]:
    return lambda contender: nn.Sequential(*(layer(before, after) for before, after in pairwise(contender.widths)))


_BUILDERS: dict[str, Callable[[Contender], nn.Module]] = {
    "mlp": lambda contender: NormalisedMLP(contender.widths),
    "kan": _ours,
    "efficient-kan": _stack(
        lambda a, b: RecursiveSplineLayer(a, b, grid=GRID, order=ORDER, grid_min=GRID_RANGE[0], grid_max=GRID_RANGE[1])
    ),
    "fast-kan": _stack(lambda a, b: StoredGaussianLayer(a, b, num_basis=GAUSSIANS, grid_min=GRID_RANGE[0], grid_max=GRID_RANGE[1])),
    "pykan": lambda contender: PyKAN(contender.widths),
}
