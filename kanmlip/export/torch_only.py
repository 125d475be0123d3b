"""KAN heads as recorded PyTorch, so that files with them load where kanmlip is not installed."""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, fx, nn

from kanmlip.errors import ConfigError
from kanmlip.export.loading import LoadedRun
from kanmlip.kan import KANLayer
from kanmlip.kan.spec import RECORDED
from kanmlip.placement.place import find_targets

# What readers of a nequip ScalarMLPFunction look at.
KEPT_ATTRIBUTES = ("dims", "is_nonlinear")


def record_heads(run: LoadedRun) -> None:
    """Put a ``torch.fx.GraphModule`` in the place of every KAN head of a run, in place; it has the head's own tensors.

    The recording is of a form whose every operation is PyTorch's own, so the run must be loaded with such a backend: ``inductor`` for
    files that are going to be compiled, else ``reference``. With ``native`` it calls kanmlip's kernels, which whoever compiles the file
    has to link with it.

    Raises:
        ConfigError: If a head has another backend.
    """
    upstream, config = run.potential.upstream, run.config
    for path in find_targets(upstream, config.model, config.model.placements[config.placement.name]):
        upstream.set_submodule(path, record(upstream.get_submodule(path)))


def record(head: nn.Module) -> fx.GraphModule:
    """A head as a module of PyTorch.

    Raises:
        ConfigError: If its backend is none of ``RECORDED``.
    """
    backends = {module.backend for module in head.modules() if isinstance(module, KANLayer)}
    if not backends <= set(RECORDED):
        raise ConfigError(
            f"backend={', '.join(sorted(backends))}: files for other programs need heads with backend={' or '.join(RECORDED)}"
        )
    graph = trace(head)
    for node in graph.nodes:
        # Annotations of our files are strings, which scripts do not resolve; an argument that may be left out needs one.
        node.type = Optional[Tensor] if node.op == "placeholder" and node.args == (None,) else None  # noqa: UP045 - a type's name
    recorded = fx.GraphModule(head, graph, class_name=f"{type(head).__name__}Recording")
    for name in KEPT_ATTRIBUTES:
        if hasattr(head, name):
            setattr(recorded, name, getattr(head, name))
    return recorded.eval()


def trace(head: nn.Module) -> fx.Graph:
    """Record what a head does: our modules are looked into, upstream's own are recorded as calls."""

    # Within a function, because a recording remembers the class of its tracer unless that is local, and would need kanmlip for it.
    class HeadTracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return not type(m).__module__.startswith("kanmlip")

    return HeadTracer().trace(head)


def depends_on_kanmlip(module: nn.Module) -> list[str]:
    """Paths of modules whose class is one of ours; empty after :func:`record_heads`."""
    return [path for path, inner in module.named_modules() if type(inner).__module__.startswith("kanmlip")]


def freeze(module: nn.Module) -> Any:
    """Evaluation mode, no gradients by weights: what a file for inference should hold."""
    return module.eval().requires_grad_(False).to(torch.device("cpu"))
