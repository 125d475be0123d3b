"""Do energies, forces and stress belong together? Between two frames that are alike, the energy changes by the work that forces and
stress do.

By the trapezoidal rule ΔE = -½(F₁ + F₂)·Δr + ½(V₁σ₁ + V₂σ₂):ε up to third order, so that a regression of ΔE on the two terms gives
1 and 1 where units, signs and the order of the stress components are right, and says by what factor they are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import TYPE_CHECKING

import numpy as np

from kanmlip.data.closed_cell import closed_cell
from kanmlip.data.labels import Array
from kanmlip.data.units import name_energy_factor, name_stress_factor

if TYPE_CHECKING:
    from ase import Atoms

LARGEST_STEP = 0.6  # Å, root mean square over atoms, between frames that are alike
LARGEST_STRAIN = 0.12
FEWEST_PAIRS = 12
OUTLIER = 15.0  # times the median deviation
MOST_PAIRS = 2000
# What a regression must explain to be believed, and by what factor it must miss 1 to be a wrong unit and not a curvature: frames of a
# trajectory explain all, frames that were displaced at random by some 0.1 Å leave terms of third order and a factor near 0.6.
EXPLAINED, TOLERANCE = 0.6, 4.0
WELL_EXPLAINED, TIGHT_TOLERANCE = 0.97, 1.3
SIGNIFICANT = 3.0  # standard errors
# How much better another order of the components must explain the energies.
CLEARLY_BETTER = 3.0
FEWEST_FOR_ORDER = 20  # one of six orders fits a dozen pairs by chance
ORDER_EXPLAINED = 0.9
USUAL = (0, 1, 2)


@dataclass(frozen=True)
class Balance:
    """Energy differences and the work done.

    Attributes:
        energy: ΔE of each pair of frames, eV, [P].
        force_work: -F̄·Δr, eV, [P].
        stress_work: Vσ̄ and ε of each pair, for either the product of which is summed, eV, [P, 9] and [P, 9]; none without stress.
        volume: Mean volume of the cells, Å³.
    """

    energy: Array
    force_work: Array
    stress_work: tuple[Array, Array] | None
    volume: float


def balance(structures: Sequence[Atoms], labelled: Sequence[Mapping[str, Array]]) -> Balance | None:
    """Every frame against the next one, where the two are alike; none if too few are, or energies or forces are missing.

    Args:
        structures: Without those that have a :func:`kanmlip.data.plausibility.fault_of_structure`.
        labelled: Labels of each.
    """
    rows: list[tuple[float, float, Array, Array, float]] = []
    for (one, a), (two, b) in pairwise(zip(structures, labelled, strict=True)):
        if len(rows) < MOST_PAIRS and (row := _row(one, a, two, b)) is not None:
            rows.append(row)
    if len(rows) < FEWEST_PAIRS:
        return None
    # A single wrong energy, which is named elsewhere, must not hide what the others say.
    differences = np.array([row[0] for row in rows])
    deviation = np.abs(differences - np.median(differences))
    rows = [row for row, far in zip(rows, deviation > OUTLIER * np.median(deviation), strict=True) if not far]
    energy, work, stress, strain, volume = (np.array(column) for column in zip(*rows, strict=True))
    strained = np.isfinite(stress).all() and np.abs(strain).max() > 1e-4
    return Balance(energy, work, (stress, strain) if strained else None, float(volume.mean()))


def _row(one: Atoms, a: Mapping[str, Array], two: Atoms, b: Mapping[str, Array]) -> tuple[float, float, Array, Array, float] | None:
    if any(name not in labels or not np.isfinite(labels[name]).all() for labels in (a, b) for name in ("energy", "forces")):
        return None
    if not np.array_equal(one.numbers, two.numbers) or not np.array_equal(one.pbc, two.pbc) or not len(one):
        return None
    first, second = closed_cell(one), closed_cell(two)
    deformation = np.linalg.solve(first, second) - np.eye(3)
    strain = 0.5 * (deformation + deformation.T)
    if np.abs(strain).max() > LARGEST_STRAIN:
        return None
    step = two.positions @ np.linalg.inv(second) - one.positions @ np.linalg.inv(first)
    step -= np.where(one.pbc, np.round(step), 0.0)
    moved = step @ (0.5 * (first + second))
    if not all(one.pbc):
        strain = np.zeros((3, 3))
    if not 0 < np.sqrt((moved**2).sum(1).mean()) < LARGEST_STEP:
        return None
    work = -0.5 * float(((a["forces"] + b["forces"]) * moved).sum())
    stress = np.full((3, 3), np.nan)
    if "stress" in a and "stress" in b and all(one.pbc):
        stress = 0.5 * (one.get_volume() * a["stress"] + two.get_volume() * b["stress"])
    return float(b["energy"] - a["energy"]), work, stress.ravel(), strain.ravel(), float(one.get_volume() if all(one.pbc) else 1.0)


def judge(found: Balance) -> tuple[list[str], list[str]]:
    """What the regression says.

    Returns:
        Lines to print, and problems.
    """
    orders = {order: _regress(found, order) for order in permutations(USUAL)} if found.stress_work is not None else {}
    factors, explained, errors = orders.get(USUAL) or _regress(found, USUAL)
    pairs = len(found.energy)
    line = f"energy differences of {pairs} pairs of frames: {factors[0]:.3g} times the work of the forces"
    if len(factors) > 1:
        line += f" and {factors[1]:.3g} times that of the stress"
    lines, problems = [f"{line} (1 is right; r² {explained:.3f})"], []
    best = max(orders, key=lambda order: orders[order][1], default=USUAL)
    better = pairs >= FEWEST_FOR_ORDER and orders and orders[best][1] > ORDER_EXPLAINED
    if best != USUAL and better and 1 - explained > CLEARLY_BETTER * (1 - orders[best][1]):
        given = " ".join(np.array(["yz", "xz", "xy"])[list(best)])
        problems.append(
            f"stress: the energies fit if its last three components are in the order {given} and not yz xz xy (r² {orders[best][1]:.3f} "
            f"instead of {explained:.3f}); write them in Voigt's order, or all nine"
        )
        factors, explained, errors = orders[best]
    if explained < EXPLAINED:
        return [f"{lines[0]}; too little is explained to say more"], problems
    tolerance = TIGHT_TOLERANCE if explained > WELL_EXPLAINED else TOLERANCE
    wrong = [_wrong(factor, error, tolerance) for factor, error in zip(factors, errors, strict=True)]
    if wrong[0]:
        problems.append(
            f"units: energies change by {factors[0]:.4g} times the work of the forces ({pairs} pairs of frames, r² {explained:.3f}); "
            f"{name_energy_factor(float(factors[0]), tolerance)}"
        )
    # Where energies are in another unit, the stress is as wrong as the forces and not wrong by itself.
    if any(wrong[1:]) and not (wrong[0] and not _wrong(factors[1] / factors[0], 0.0, tolerance)):
        scale = float(factors[1])
        problems.append(
            f"stress: energies change by {factors[1]:.4g} times its work ({pairs} pairs of frames, r² {explained:.3f}); "
            f"{name_stress_factor(scale, found.volume, tolerance)}"
        )
    return lines, problems


def _wrong(factor: float, error: float, tolerance: float) -> bool:
    return abs(factor) > SIGNIFICANT * error and not 1 / tolerance < factor < tolerance


def _regress(found: Balance, order: Sequence[int]) -> tuple[Array, float, Array]:
    """Factors of the works, the share of ΔE² that they explain, and the factors' standard errors."""
    columns = [found.force_work]
    if found.stress_work is not None:
        stress, strain = found.stress_work
        columns.append((_reordered(stress, order) * strain).sum(1))
    design = np.stack(columns, axis=1)
    scale = np.sqrt((design**2).mean(0)) + 1e-300
    factors, *_ = np.linalg.lstsq(design / scale, found.energy, rcond=1e-10)
    residual = found.energy - design / scale @ factors
    total = float((found.energy**2).sum())
    spread = float((residual**2).sum()) / max(len(residual) - len(factors), 1)
    errors = np.sqrt(spread * np.diag(np.linalg.pinv((design / scale).T @ (design / scale)))) / scale
    return factors / scale, 1 - float((residual**2).sum()) / total if total > 0 else 0.0, errors


def _reordered(stress: Array, order: Sequence[int]) -> Array:
    """The stresses, [P, 9], if what stands under yz, xz and xy were in truth those three in another order."""
    places = np.array([[1, 2], [0, 2], [0, 1]])
    tensor = stress.reshape(-1, 3, 3).copy()
    given = [tensor[:, row, column].copy() for row, column in places]
    for target, values in zip(order, given, strict=True):
        row, column = places[target]
        tensor[:, row, column] = tensor[:, column, row] = values
    return tensor.reshape(-1, 9)
