"""What is wrong with a labelled frame: why it must not be trained on, and what of it no model can learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kanmlip.data.labels import LABELS, Array
from kanmlip.data.plausibility import fault_of_structure

if TYPE_CHECKING:
    from ase import Atoms

# Born charges add up to zero over the atoms of a neutral cell (acoustic sum rule). Linear response on finite meshes misses that by
# some 0.002 e an atom (our own run of alpha-quartz); ten times as much is a cell that is not whole, or not converged.
SUM_RULE_TOLERANCE = 0.02


def fault(atoms: Atoms, labels: Mapping[str, Array], expected: Sequence[str], max_force: float) -> str | None:
    """Why a frame must not be trained on, or none.

    Args:
        atoms: The frame.
        labels: Its labels, as :func:`kanmlip.data.labels.extract` found them.
        expected: Labels that it must have.
        max_force: Limit on force components, eV/Å.
    """
    return fault_of_structure(atoms) or fault_of_labels(labels, expected, max_force)


def fault_of_labels(labels: Mapping[str, Array], expected: Sequence[str], max_force: float) -> str | None:
    """Why the labels of a frame must not be trained on, or none; see :func:`fault`."""
    for name in expected:
        if name not in labels:
            return f"it has no {name}"
        if not np.isfinite(labels[name]).all():
            return f"its {name} is not finite"
    if "forces" in labels and (largest := float(np.abs(labels["forces"]).max())) > max_force:
        return f"it has a force of {largest:.4g} eV/Å, beyond dataset.max_force={max_force:g}"
    for name, values in labels.items():
        label, largest = LABELS[name], float(np.abs(values).max())
        if largest > label.limit:
            return f"its {name} reach {largest:.4g}, beyond the plausible {label.limit:g} {label.unit}".rstrip() + "; check the unit"
    return None


def imbalance(labels: Mapping[str, Array]) -> float:
    """How far Born charges miss the acoustic sum rule: largest component of their mean over atoms, e; 0 without them."""
    charges = labels.get("born_effective_charges")
    return 0.0 if charges is None else float(np.abs(charges.mean(0)).max())


def remark_on_sum_rule(imbalances: Mapping[int, float]) -> str | None:
    """What to say of the frames that miss the sum rule, or none.

    Args:
        imbalances: Index of a frame → its :func:`imbalance`.
    """
    beyond = {index: value for index, value in imbalances.items() if value > SUM_RULE_TOLERANCE}
    if not beyond:
        return None
    worst = max(beyond, key=lambda index: beyond[index])
    return (
        f"in {len(beyond)} of {len(imbalances)} frames the Born effective charges do not add up to zero (worst: frame {worst}, by "
        f"{beyond[worst]:.3g} e an atom; up to {SUM_RULE_TOLERANCE:g} is usual); a model that keeps the sum rule cannot learn that part"
    )
