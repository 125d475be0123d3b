"""The loss: a weighted sum over energy per atom and the components of forces, stress and other tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kanmlip.data.graph import Graph
from kanmlip.data.labels import LABELS
from kanmlip.errors import ConfigError
from kanmlip.training.config import LossConfig
from kanmlip.training.order import Part

TERMS = tuple(LABELS)


def check_labels(config: LossConfig, splits: Mapping[str, Sequence[Graph]]) -> None:
    """Check that every structure has the labels that the loss needs.

    Raises:
        ConfigError: Naming the weight, the split and the way out.
    """
    wanted = [term for term in TERMS if getattr(config, term) > 0]
    if not wanted:
        raise ConfigError(f"trainer.loss has no term: {', '.join(TERMS)} all have weight 0; set at least one above 0")
    for split, graphs in splits.items():
        for graph in graphs:
            for term in wanted:
                if term not in graph.labels:
                    frame = int(graph.frame[0])
                    raise ConfigError(
                        f"trainer.loss.{term}={getattr(config, term)}, but frame {frame} of the {split} set has no {term}; "
                        f"set trainer.loss.{term}=0 or give the label"
                    )


def loss_terms(config: LossConfig, output: Mapping[str, Tensor], graph: Graph) -> dict[str, Tensor]:
    """The terms of positive weight, unweighted.

    Args:
        config: Weights and the function of the residuals.
        output: A potential's output.
        graph: The batch with its labels.

    Returns:
        Mean over structures (energy per atom), or over all components of all atoms or structures (the others), each a scalar.
    """
    terms = {}
    for term in TERMS:
        if getattr(config, term) == 0:
            continue
        residual = output[term] - graph.labels[term]
        if term == "energy":
            residual = residual / graph.num_atoms
        terms[term] = _mean(config, residual)
    return terms


def terms_of_whole(terms: Mapping[str, Tensor], part: Part) -> dict[str, Tensor]:
    """What a part of a batch brings to the terms of the whole batch: summed over the parts, they are the batch's means."""
    if part.of_structures == 1.0:
        return dict(terms)
    shares = {"structure": part.of_structures, "atom": part.of_atoms}
    return {name: shares[LABELS[name].per] * value for name, value in terms.items()}


def total_loss(config: LossConfig, terms: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the terms."""
    return torch.stack([getattr(config, term) * value for term, value in terms.items()]).sum()


def _mean(config: LossConfig, residual: Tensor) -> Tensor:
    zero = torch.zeros_like(residual)
    if config.kind == "mse":
        return torch.nn.functional.mse_loss(residual, zero)
    if config.kind == "mae":
        return torch.nn.functional.l1_loss(residual, zero)
    return torch.nn.functional.huber_loss(residual, zero, delta=config.huber_delta)
