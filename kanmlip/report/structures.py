"""From errors by structure, as records hold them, to sums that a bootstrap resamples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kanmlip.evaluation.structure_errors import unpack
from kanmlip.report.bootstrap import Sums
from kanmlip.report.records import Record

Array = NDArray[np.float64]
Columns = Mapping[str, Array]

# Metric without its split → numerator and denominator by structure, and whether the metric is the root of their sums' ratio.
_PARTS: dict[str, tuple[Callable[[Columns], Array], Callable[[Columns], Array], bool]] = {
    "energy_mae_eV_per_cell": (lambda c: np.abs(c["energy_error_eV"]), lambda c: np.ones_like(c["num_atoms"]), False),
    "energy_mae_eV_per_atom": (lambda c: np.abs(c["energy_error_eV"]) / c["num_atoms"], lambda c: np.ones_like(c["num_atoms"]), False),
    "energy_rmse_meV_per_atom": (lambda c: (c["energy_error_eV"] / c["num_atoms"]) ** 2, lambda c: np.ones_like(c["num_atoms"]), True),
    "force_mae_eV_per_A": (lambda c: c["force_abs_eV_per_A"], lambda c: 3 * c["num_atoms"], False),
    "force_rmse_meV_per_A": (lambda c: c["force_square_eV2_per_A2"], lambda c: 3 * c["num_atoms"], True),
    "stress_mae_meV_per_A3": (lambda c: c["stress_abs_eV_per_A3"], lambda c: np.full_like(c["num_atoms"], 9), False),
    "stress_rmse_meV_per_A3": (lambda c: c["stress_square_eV2_per_A6"], lambda c: np.full_like(c["num_atoms"], 9), True),
    "bec_mae_e": (lambda c: c["bec_abs_e"], lambda c: 9 * c["num_atoms"], False),
    "bec_rmse_e": (lambda c: c["bec_square_e2"], lambda c: 9 * c["num_atoms"], True),
    "bec_mae_free_e": (lambda c: c["bec_free_abs_e"], lambda c: c["bec_free_count"], False),
}


class IncomparableError(Exception):
    """Runs that cannot be compared as asked, with the reason in words; it ends in a report and nowhere else."""


def structure_sums(metric: str, rows: Sequence[Sequence[Record]]) -> tuple[Sums, ...]:
    """Sums by structure of several rows of runs, all over the same structures.

    Args:
        metric: With its split, such as ``val/force_mae_eV_per_A``.
        rows: For each row its runs, by seed.

    Returns:
        One :class:`Sums` a row, up to a common factor of the unit.

    Raises:
        IncomparableError: If a run keeps no errors by structure, or those of other structures than the rest.
    """
    split, _, name = metric.partition("/")
    if name not in _PARTS:
        raise IncomparableError("this quantity is not kept by structure")
    numerator, denominator, root = _PARTS[name]
    columns = [[_columns(record, split) for record in records] for records in rows]
    if len({tuple(of_run["frame"]) for of_row in columns for of_run in of_row}) != 1:
        raise IncomparableError("the runs were measured on different structures")
    try:
        found = tuple(Sums(np.array([numerator(c) for c in row]), np.array([denominator(c) for c in row]), root) for row in columns)
    except KeyError as error:
        raise IncomparableError(f"a record keeps no {error.args[0]} by structure") from error
    if not all(np.isfinite(sums.numerator).all() for sums in found):
        raise IncomparableError("an error by structure is not finite")
    return found


def _columns(record: Record, split: str) -> dict[str, Array]:
    packed = (record.structures or {}).get(split)
    if packed is None:
        raise IncomparableError("older records do not keep errors by structure")
    try:
        columns = {name: unpack(text) for name, text in packed.items()}
    except ValueError as error:
        raise IncomparableError(f"the errors by structure of `{record.run_id}` are not readable") from error
    if "frame" not in columns or len({len(values) for values in columns.values()}) != 1:
        raise IncomparableError(f"the errors by structure of `{record.run_id}` are not whole")
    return columns
