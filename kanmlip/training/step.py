"""One update of the weights, of which every process of a run computes its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kanmlip.training.loss import loss_terms, terms_of_whole, total_loss
from kanmlip.training.order import Part
from kanmlip.training.ranks import ALONE, Ranks
from kanmlip.training.session import Session

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def training_step(session: Session, part: Part, fabric: Fabric, ranks: Ranks = ALONE) -> dict[str, Tensor]:
    """One update by a batch; returns the detached loss and its terms, or what this process's part brings to them."""
    config = session.config
    session.optimizer.zero_grad(set_to_none=True)
    terms = compute_gradients(session, part, fabric)
    ranks.sum_gradients(session.average.parameters)
    if config.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(session.average.parameters, config.gradient_clip, foreach=True)
    session.optimizer.step()
    session.average.update()
    session.updates += 1
    return terms


def compute_gradients(session: Session, part: Part, fabric: Fabric) -> dict[str, Tensor]:
    """Add the gradient of a part's loss to the parameters; returns the detached loss and its terms."""
    if part.graph is None:
        return {}
    weights = session.config.loss
    output = session.potential(part.graph, compute_stress=weights.stress > 0)
    terms = terms_of_whole(loss_terms(weights, output, part.graph), part)
    loss = total_loss(weights, terms)
    # Positions require gradients, for the forces; the loss's gradient by them is nobody's: do not compute it.
    fabric.backward(loss, inputs=session.average.parameters)
    return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}
