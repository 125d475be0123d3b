"""A table of NVE runs of several models, placements and bases: drifts and jumps at the cutoff, judged beside the MLP of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kanmlip.benchmark.report import table
from kanmlip.physics.cutoff import LARGEST_JUMP_EV
from kanmlip.physics.nve import DRIFT_MEV_PER_ATOM_PS, DRIFT_RATIO
from kanmlip.physics.report import judge

Row = Mapping[str, Any]


def judged(row: Row, rows: Sequence[Row]) -> Row:
    """The bars of a row: its MLP's drift, the limit that follows, and both verdicts.

    Args:
        row: One run: ``model``, ``placement``, ``basis`` (none for the MLP), ``status`` (``done``, ``unstable`` or ``failed``), and where
            they are known ``drift`` (slope and standard error in meV/atom/ps) and ``largest_jump_eV``.
        rows: Every run there is; the MLP of the same model is looked for among them.

    Returns:
        The MLP's drift and the limit in meV/atom/ps, the limit of a jump in eV, and a verdict on each as by
        :func:`kanmlip.physics.report.judge`; a run whose atoms flew apart misses the bar of the drift.
    """
    mlp = next((other for other in rows if other["model"] == row["model"] and other["basis"] is None and other.get("drift")), None)
    beside = mlp["drift"]["slope_meV_per_atom_ps"] if mlp is not None and row["basis"] is not None else None
    limit = max(DRIFT_MEV_PER_ATOM_PS, DRIFT_RATIO * abs(beside or 0.0))
    drift = row.get("drift") or {}
    doubt = 2 * drift.get("error_meV_per_atom_ps", 0.0)
    return {
        "mlp_drift_meV_per_atom_ps": beside,
        "drift_limit_meV_per_atom_ps": limit,
        "drift_verdict": "missed" if row["status"] == "unstable" else judge(drift.get("slope_meV_per_atom_ps"), doubt, limit),
        "jump_limit_eV": LARGEST_JUMP_EV,
        "jump_verdict": judge(row.get("largest_jump_eV"), 0.0, LARGEST_JUMP_EV),
    }


def nve_markdown(rows: Sequence[Row], settings: Row, expected: int, command: str) -> str:
    """The rows as Markdown.

    Args:
        rows: As of :func:`judged`, with what else a run is described by.
        settings: Of all runs: ``size``, ``frames``, ``epochs`` and ``seed`` of training, ``equilibration`` (steps of 1 fs) and
            ``temperature_K`` of the simulation.
        expected: How many rows there will be.
        command: What makes them.
    """
    commits = sorted({f"{row['commit']}{' with changes' if row['changed'] else ''}" for row in rows if row.get("commit")})
    hardware = sorted({row["hardware"] for row in rows if row.get("hardware")})
    lines = [
        "# NVE with every model, placement and basis\n",
        f"`{command}`: {len(rows)} of {expected} cases. {', '.join(hardware) or 'Unknown machine'}; commit "
        f"{', '.join(commits) or 'unknown'}.\n",
        f"71 silver atoms with a vacancy (`dataset=toy`), float64, velocity Verlet, 1 fs, after {settings['equilibration']} Langevin "
        f"steps at {settings['temperature_K']:g} K from a frame of a hotter trajectory. Models of budget={settings['size']}, "
        f"{settings['frames']} training frames, {settings['epochs']} epochs, seed {settings['seed']}. The drift is the slope of the total "
        "energy with its standard error; span is the largest less the smallest total energy, which velocity Verlet alone makes as large "
        "as the time step squared. The jump is the largest when a neighbour crosses the cutoff in a dimer, a trimer and a frame of the "
        "data.\n",
        "Bars: drift at most 0.02 meV/atom/ps or 1.5 times the MLP's of the same model, judged where twice the error leaves no doubt; no "
        "jump above 1e-6 eV.\n",
        table(
            ("model", "placement", "basis", "ps", "force MAE, meV/Å", "T, K", "drift, meV/atom/ps", "the MLP's", "limit", "drift bar",
             "span, meV/atom", "jump, eV", "jump bar"),
            [_line(row, judged(row, rows)) for row in rows],
        ),
    ]  # fmt: skip
    notes = [f"* {row['case']}: {row['reason']}" for row in rows if row.get("reason")]
    notes += [f"* {row['case']} was simulated with --force-rough: {row['rough']}" for row in rows if row.get("rough")]
    return "\n".join([*lines, *notes]) + ("\n" if notes else "")


def _line(row: Row, bars: Row) -> list[str]:
    drift = row.get("drift")
    slope = f"{drift['slope_meV_per_atom_ps']:+.1e} ± {drift['error_meV_per_atom_ps']:.0e}" if drift else "–"
    basis = (row["basis"] or "MLP") + (" (rough)" if row.get("rough") else "")
    return [
        row["model"], row["placement"], basis, _number(row.get("duration_ps"), "g"), _number(row.get("force_mae_eV_per_A"), ".1f", 1000),
        _number(row.get("temperature_K"), ".0f"), slope, _number(bars["mlp_drift_meV_per_atom_ps"], "+.1e"),
        _number(bars["drift_limit_meV_per_atom_ps"], ".3g"), row["status"] if row["status"] == "failed" else bars["drift_verdict"],
        _number(row.get("energy_span_meV_per_atom"), ".4f"), _number(row.get("largest_jump_eV"), ".1e"), bars["jump_verdict"],
    ]  # fmt: skip


def _number(value: float | None, form: str, factor: float = 1) -> str:
    return "–" if value is None else f"{factor * value:{form}}"
