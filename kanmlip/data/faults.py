"""What is wrong with a labelled frame: why it must not be trained on, and what of it no model can learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kanmlip.data.labels import LABELS, Array
from kanmlip.data.plausibility import fault_of_structure

if TYPE_CHECKING:
    from ase import Atoms

CHECKS_VERSION = 2  # of this and the checks that compare frames; raise it when one becomes stricter
# Born charges add up to zero over the atoms of a neutral cell (acoustic sum rule). Linear response on finite meshes misses that by
# some 0.002 e an atom (our own run of alpha-quartz); ten times as much is a cell that is not whole, or not converged.
SUM_RULE_TOLERANCE = 0.02
# What a stress that was computed or printed roughly may lack in symmetry: a share of its largest component, and eV/Å³.
ASYMMETRY_SHARE, ASYMMETRY = 0.02, 1e-5
# eV an atom. With pseudopotentials no element reaches it. With all electrons heavy ones do: their energy is about that of the Thomas-Fermi
# atom, 0.7687 Z^(7/3) hartree, to some 20 %.
LARGEST_ENERGY, THOMAS_FERMI = 1e5, 20.92


def fault(atoms: Atoms, labels: Mapping[str, Array], expected: Sequence[str], max_force: float) -> str | None:
    """Why a frame must not be trained on, or none.

    Args:
        atoms: The frame.
        labels: Its labels, as :func:`kanmlip.data.labels.extract` found them.
        expected: Labels that it must have.
        max_force: Limit on force components, eV/Å.
    """
    return fault_of_structure(atoms) or fault_of_labels(atoms, labels, expected, max_force)


def fault_of_labels(atoms: Atoms, labels: Mapping[str, Array], expected: Sequence[str], max_force: float) -> str | None:
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
            found = f"a component of its {name} is {largest:.4g}"
            return f"{found}, beyond the plausible {label.limit:g} {label.unit}".rstrip() + "; check the unit"
    return _asymmetry(labels) or _absurd_energy(atoms, labels)


def _asymmetry(labels: Mapping[str, Array]) -> str | None:
    stress = labels.get("stress")
    if stress is None:
        return None
    difference = np.abs(stress - stress.T)
    if not difference.max() > ASYMMETRY_SHARE * np.abs(stress).max() + ASYMMETRY:
        return None
    i, j = np.unravel_index(int(difference.argmax()), difference.shape)
    one, other = "xyz"[i] + "xyz"[j], "xyz"[j] + "xyz"[i]
    return (
        f"its stress is not symmetric ({one} is {stress[i, j]:.4g}, {other} {stress[j, i]:.4g} eV/Å³); write its nine numbers as xx xy "
        f"xz yx yy yz zx zy zz"
    )


def _absurd_energy(atoms: Atoms, labels: Mapping[str, Array]) -> str | None:
    if "energy" not in labels:
        return None
    energy = float(labels["energy"]) / len(atoms)
    limit = max(LARGEST_ENERGY, 2 * THOMAS_FERMI * float(np.mean(atoms.numbers ** (7 / 3))))
    if not abs(energy) > limit:
        return None
    return f"its energy is {energy:.4g} eV an atom, beyond the plausible {limit:.3g}; give that of the whole cell in eV"


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
