"""The physics report: one table of a run beside its MLP, verdicts where there is a bar, JSON and Markdown."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kanmlip.experiment.atomic import write_json, write_text
from kanmlip.physics.cutoff import LARGEST_JUMP_EV
from kanmlip.physics.examination import PARTS, Examination
from kanmlip.physics.nve import DRIFT_MEV_PER_ATOM_PS, DRIFT_RATIO

TITLES = {
    "equation_of_state": "Equation of state",
    "elastic_constants": "Elastic constants",
    "phonons": "Phonons",
    "nve": "NVE",
    "cutoff": "A neighbour crosses the cutoff",
    "consistency": "Forces and stress against differences of the energy",
}


def verdicts(run: Examination, mlp: Examination | None) -> list[dict[str, Any]]:
    """The bars that there are: text, verdict and numbers; a drift is judged only where twice its standard error leaves no doubt."""
    jump = run.parts["cutoff"].values.get("largest_jump_eV")
    found: list[dict[str, Any]] = [
        {
            "text": f"no energy jump above {LARGEST_JUMP_EV:g} eV at the cutoff",
            "verdict": judge(jump, 0.0, LARGEST_JUMP_EV),
            "value": jump,
            "limit": LARGEST_JUMP_EV,
        }
    ]
    drift = run.parts["nve"].values.get("drift_meV_per_atom_ps")
    error = run.parts["nve"].values.get("drift_error_meV_per_atom_ps", 0.0)
    other = None if mlp is None else mlp.parts["nve"].values.get("drift_meV_per_atom_ps")
    limit = max(DRIFT_MEV_PER_ATOM_PS, DRIFT_RATIO * abs(other or 0.0))
    found.append(
        {
            "text": f"NVE drift at most {DRIFT_MEV_PER_ATOM_PS:g} meV/atom/ps, or {DRIFT_RATIO:g} × the MLP's",
            "verdict": judge(drift, 2 * error, limit),
            "value": drift,
            "limit": limit,
        }
    )
    return found


def judge(value: float | None, doubt: float, limit: float) -> str:
    """``met`` or ``missed`` where the doubt allows it, else ``undecided``; ``not measured`` without a finite value."""
    if value is None or not math.isfinite(value):
        return "not measured"
    if abs(value) + doubt <= limit:
        return "met"
    return "missed" if abs(value) - doubt > limit else "undecided"


def render(run: Examination, mlp: Examination | None, reference: Examination | None = None, named: bool = False) -> str:
    """The report as Markdown; ``reference`` is what computed the labels, ``named`` says that a user chose the MLP."""
    columns = [run, *(column for column in (mlp, reference) if column is not None)]
    lines = [f"# Physics of {run.name}", ""]
    if mlp is not None:
        what = f"{mlp.name}, named by --mlp" if named else f"the MLP of the same settings and seed, {mlp.name}"
        lines += [f"Beside it {what}. Everything in float64.", ""]
    if reference is not None:
        lines += [f"{reference.head} is what computed the labels of the data: what a potential without errors would show.", ""]
    lines += ["| | " + " | ".join(column.head for column in columns) + " |", "|---|" + "---:|" * len(columns)]
    notes = []
    for part in PARTS:
        lines.append(f"| **{TITLES[part]}** |" + " |" * len(columns))
        for key in dict.fromkeys(key for column in columns for key in column.parts[part].values):
            cells = [_cell(column.parts[part].values.get(key)) for column in columns]
            lines.append(f"| {_words(key)} | " + " | ".join(cells) + " |")
        notes += [
            f"* {column.head}: {TITLES[part]}: none, {column.parts[part].missing}" for column in columns if column.parts[part].missing
        ]
    lines += ["", *(_verdict(verdict) for verdict in verdicts(run, mlp))]
    return "\n".join([*lines, *(["", *notes] if notes else []), "", "![curves](physics.png)"]) + "\n"


def write_report(
    run: Examination, mlp: Examination | None, reference: Examination | None, note: str | None, folder: Path, named: bool = False
) -> str:
    """Write physics.md and physics.json; returns the Markdown.

    Args:
        run: The run.
        mlp: The MLP's; none for a run that is one, or where it is missing.
        reference: Of what computed the labels; none where that is no potential at hand.
        note: Why the MLP is missing.
        folder: Where to.
        named: Whether the MLP was chosen by a user, who may compare what differs in more than the head.
    """
    text = render(run, mlp, reference, named) + (f"\n{note}\n" if note else "")
    write_text(folder / "physics.md", text)
    write_json(
        folder / "physics.json",
        {
            "run": run.to_plain(),
            "mlp": mlp.to_plain() if mlp else None,
            "mlp_missing": note,
            "labels": reference.to_plain() if reference else None,
            "bars": verdicts(run, mlp),
        },
    )
    return text


def _verdict(verdict: dict[str, Any]) -> str:
    value = "" if verdict["value"] is None else f" ({verdict['value']:.2g}, limit {verdict['limit']:.2g})"
    hint = "; a longer NVE run would tell: --nve-steps" if verdict["verdict"] == "undecided" else ""
    return f"* {verdict['text']}: **{verdict['verdict']}**{value}{hint}"


def _words(key: str) -> str:
    """``bulk_modulus_GPa`` as ``bulk modulus (GPa)``."""
    for unit, written in UNITS.items():
        if key.endswith(f"_{unit}"):
            return f"{key.removesuffix(f'_{unit}').replace('_', ' ')} ({written})"
    return key.replace("_", " ")


# Longer ones first where one is the end of another.
UNITS = {
    "meV_per_atom_ps": "meV/atom/ps",
    "meV_per_atom": "meV/atom",
    "eV_per_atom": "eV/atom",
    "meV_per_A3": "meV/Å³",
    "eV_per_A": "eV/Å",
    "A3_per_atom": "Å³/atom",
    "GPa": "GPa",
    "THz": "THz",
    "eV": "eV",
    "ps": "ps",
    "A": "Å",
    "K": "K",
}


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
