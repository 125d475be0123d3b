"""How fast a conserved energy drifts: a straight line through it, and an error that knows that neighbouring values are alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_POINTS = 8


@dataclass(frozen=True)
class Drift:
    """A straight line through the energy per atom.

    Attributes:
        slope_meV_per_atom_ps: Of the line.
        error_meV_per_atom_ps: Standard error of the slope.
        fluctuation_meV_per_atom: Root mean square of what the line leaves.
        excursion_meV_per_atom: Largest distance from the first value.
        duration_ps: Time between the first and the last value.
        points: Values.
    """

    slope_meV_per_atom_ps: float  # noqa: N815 - the unit's own case
    error_meV_per_atom_ps: float  # noqa: N815
    fluctuation_meV_per_atom: float  # noqa: N815
    excursion_meV_per_atom: float  # noqa: N815
    duration_ps: float
    points: int

    def __str__(self) -> str:
        return f"{self.slope_meV_per_atom_ps:+.2g} ± {self.error_meV_per_atom_ps:.1g} meV/atom/ps over {self.duration_ps:g} ps"


def fit_drift(time_ps: NDArray[np.float64], energy_eV: NDArray[np.float64], num_atoms: int) -> Drift | None:  # noqa: N803 - the unit
    """Fit E(t)/N by least squares.

    The error of the slope is that of Newey and West (Econometrica 55, 703 (1987)), with a window of three correlation times: values of
    an energy a few steps apart are not independent, and the textbook error would be too small several times over.

    Args:
        time_ps: [M], ps.
        energy_eV: [M], eV of the whole cell.
        num_atoms: N.

    Returns:
        None for fewer than eight values, or values that are not all finite.
    """
    if len(time_ps) < FEWEST_POINTS or not np.isfinite(energy_eV).all() or np.ptp(time_ps) == 0:
        return None
    values = 1000 * (energy_eV - energy_eV[0]) / num_atoms
    centred = time_ps - time_ps.mean()
    square = float(centred @ centred)
    slope = float(centred @ values) / square
    residual = values - values.mean() - slope * centred
    return Drift(
        slope_meV_per_atom_ps=slope,
        error_meV_per_atom_ps=_slope_error(centred, residual, square),
        fluctuation_meV_per_atom=float(np.sqrt(np.mean(residual**2))),
        excursion_meV_per_atom=float(np.abs(values).max()),
        duration_ps=float(np.ptp(time_ps)),
        points=len(values),
    )


def _slope_error(centred: NDArray[np.float64], residual: NDArray[np.float64], square: float) -> float:
    number = len(residual)
    parts = centred * residual
    variance = float(parts @ parts)
    window = _window(residual)
    for lag in range(1, window + 1):
        variance += 2 * (1 - lag / (window + 1)) * float(parts[:-lag] @ parts[lag:])
    return float(np.sqrt(max(variance, 0.0) * number / (number - 2))) / square


def _window(residual: NDArray[np.float64]) -> int:
    """Three integrated correlation times, at least the cube root of the number of values, at most a quarter of them."""
    number = len(residual)
    norm = float(residual @ residual)
    least = int(np.ceil(number ** (1 / 3)))
    if norm == 0:
        return least
    time = 1.0
    for lag in range(1, number // 4):
        correlation = float(residual[:-lag] @ residual[lag:]) / norm
        if correlation <= 0:
            break
        time += 2 * correlation
    return int(min(max(np.ceil(3 * time), least), max(number // 4, 1)))
