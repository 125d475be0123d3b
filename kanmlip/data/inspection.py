"""A look at an extended-XYZ file before training on it: what it holds, and what looks wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms

from kanmlip.data.duplicates import duplicates
from kanmlip.data.faults import fault_of_labels, imbalance, remark_on_sum_rule
from kanmlip.data.labels import LABELS, TENSOR_LABELS, Array, Label, LabelKeys, available, extract
from kanmlip.data.plausibility import fault_of_structure
from kanmlip.data.same_structure import Outline, outline
from kanmlip.data.work import Balance, balance, judge
from kanmlip.data.xyz_file import iterate_frames, parse_frame
from kanmlip.errors import DataError

# Outside of these a file is probably not in eV and Å: no bonded solid or liquid has forces so small or so large.
PLAUSIBLE_FORCE_RMS = (1e-3, 50.0)
# An energy so many robust standard deviations from the median is worth a look; it need not be wrong.
OUTLIER_DEVIATIONS = 10.0
MOST_LISTED = 10


@dataclass
class Inspection:
    """Findings of a file.

    Attributes:
        frames: Number of frames.
        atoms: Smallest and largest number of atoms.
        species: Symbols present.
        keys: Everything that the first frame carries.
        labels: Label → number of frames that have it.
        lines: Statistics, ready to print.
        problems: What should not be trained on as it is.
        structures: What to find the structure of each frame in another file by; none for a frame whose structure has a fault.
        energies: Index of a frame → its energy, eV/atom.
        forces: Norm of the force on each atom of the file, eV/Å.
        work: Energy differences and works of frames that are alike; none where there are too few.
    """

    frames: int
    atoms: tuple[int, int]
    species: list[str]
    keys: list[str]
    labels: dict[str, int]
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    structures: list[Outline | None] = field(default_factory=list)
    energies: dict[int, float] = field(default_factory=dict)
    forces: Array = field(default_factory=lambda: np.zeros(0))
    work: Balance | None = None


def inspect(path: Path, keys: LabelKeys, max_force: float) -> Inspection:
    """Read every frame of a file.

    Raises:
        DataError: If the file cannot be read at all.
    """
    structures = [parse_frame(text, path, index) for index, text in enumerate(iterate_frames(path))]
    if not structures:
        raise DataError(f"{path} has no frames")
    labelled, malformed = _extract_all(structures, keys)
    broken = {index: reason for index, atoms in enumerate(structures) if (reason := fault_of_structure(atoms)) is not None}
    counts = {name: sum(name in labels for labels in labelled) for name in LABELS}
    sizes = [len(atoms) for atoms in structures]
    report = Inspection(
        frames=len(structures),
        atoms=(min(sizes), max(sizes)),
        species=sorted({symbol for atoms in structures for symbol in set(atoms.get_chemical_symbols())}),
        keys=sorted(available(structures[0])),
        labels=counts,
        structures=[None if index in broken else outline(atoms) for index, atoms in enumerate(structures)],
    )
    expected = [name for name, count in counts.items() if count]
    if not any(counts[name] for name in ("energy", *(label.name for label in TENSOR_LABELS))):
        wanted = f"an energy under '{keys.energy}' or Born effective charges under '{keys.born}'"
        report.problems.append(f"no frame has {wanted}; the first has: {', '.join(report.keys) or '(nothing)'}")
    for index, (atoms, labels) in enumerate(zip(structures, labelled, strict=True)):
        if reason := malformed.get(index) or broken.get(index) or fault_of_labels(atoms, labels, expected, max_force):
            report.problems.append(f"frame {index}: {reason}")
    report.problems += duplicates(report.structures)
    sound = [index for index in range(len(structures)) if index not in broken]
    with np.errstate(over="ignore", invalid="ignore"):  # absurd labels, which are named by frame
        _statistics(report, structures, labelled)
        report.work = balance([structures[index] for index in sound], [labelled[index] for index in sound])
    _compare(report)
    return report


def _compare(report: Inspection) -> None:
    if report.work is not None:
        lines, problems = judge(report.work)
        report.lines += lines
        report.problems += problems
    elif report.labels["energy"] and report.labels["forces"]:
        report.lines.append("energies against forces: no frames that follow one another are alike enough to compare them")
    if report.labels["stress"] and (report.work is None or report.work.stress_work is None):
        reason = "no frames are compared" if report.work is None else "the cell is the same in all frames that are compared"
        report.lines.append(
            f"stress: its sign and unit could not be checked, since {reason}; add a dozen frames that differ by a strain of about 1 %"
        )


def _extract_all(structures: list[Atoms], keys: LabelKeys) -> tuple[list[dict[str, np.ndarray]], dict[int, str]]:
    labelled: list[dict[str, np.ndarray]] = []
    malformed: dict[int, str] = {}
    for index, atoms in enumerate(structures):
        try:
            labelled.append(extract(atoms, keys))
        except DataError as error:
            labelled.append({})
            malformed[index] = str(error)
    return labelled, malformed


def _statistics(report: Inspection, structures: list[Atoms], labelled: list[dict[str, np.ndarray]]) -> None:
    pairs = enumerate(zip(structures, labelled, strict=True))
    report.energies = {i: float(labels["energy"]) / len(atoms) for i, (atoms, labels) in pairs if "energy" in labels}
    per_atom = np.array(list(report.energies.values()))
    if len(per_atom):
        report.lines.append(f"energy: {per_atom.mean():.4f} eV/atom on average, standard deviation {1e3 * per_atom.std():.2f} meV/atom")
        report.lines += energy_outliers(structures, labelled)
    forces = [labels["forces"].ravel() for labels in labelled if "forces" in labels]
    if forces:
        flat = np.concatenate(forces)
        report.forces = np.linalg.norm(flat.reshape(-1, 3), axis=1)
        rms = float(np.sqrt(np.mean(flat**2)))
        report.lines.append(f"forces: root mean square {rms:.4f} eV/Å, largest component {np.abs(flat).max():.3f} eV/Å")
        low, high = PLAUSIBLE_FORCE_RMS
        if not low < rms < high:
            report.problems.append(f"the forces' root mean square of {rms:.3g} is not plausible in eV/Å; check the unit")
    stresses = [labels["stress"].ravel() for labels in labelled if "stress" in labels]
    if stresses:
        rms = float(np.sqrt(np.mean(np.concatenate(stresses) ** 2)))
        report.lines.append(f"stress: root mean square {1e3 * rms:.2f} meV/Å³, which is also what predicting zero scores")
    _tensor_statistics(report, structures, labelled)


def _tensor_statistics(report: Inspection, structures: list[Atoms], labelled: list[dict[str, np.ndarray]]) -> None:
    for label in TENSOR_LABELS:
        found = {index: labels[label.name] for index, labels in enumerate(labelled) if label.name in labels}
        if not found:
            continue
        flat = np.concatenate([values.ravel() for values in found.values()])
        rms, largest = float(np.sqrt(np.mean(flat**2))), np.abs(flat).max()
        report.lines.append(f"{label.name}: root mean square {rms:.4f}, largest component {largest:.3f} {label.unit}".rstrip())
        if label.per == "atom":
            report.lines += _by_species(label, structures, found)
    charged = {index: imbalance(labels) for index, labels in enumerate(labelled) if "born_effective_charges" in labels}
    if charged:
        report.lines.append(f"acoustic sum rule: missed by {max(charged.values()):.2g} e an atom at most")
    if remark := remark_on_sum_rule(charged):
        report.problems.append(remark)


def _by_species(label: Label, structures: list[Atoms], found: Mapping[int, np.ndarray]) -> list[str]:
    """For each species the mean of a third of the trace, which says at a glance whether charges are in order."""
    if label.rank != 2:
        return []
    symbols = np.concatenate([structures[index].get_chemical_symbols() for index in found])
    thirds = np.concatenate([np.trace(values, axis1=1, axis2=2) / 3 for values in found.values()])
    means = {symbol: thirds[symbols == symbol].mean() for symbol in sorted(set(symbols))}
    return [f"{label.name}: a third of the trace is {mean:+.3f} {label.unit} on average for {symbol}" for symbol, mean in means.items()]


def energy_outliers(structures: list[Atoms], labelled: list[dict[str, np.ndarray]]) -> list[str]:
    """Frames whose energy per atom, less what composition explains, is far from the median."""
    indices = [i for i, labels in enumerate(labelled) if "energy" in labels and np.isfinite(labels["energy"])]
    if len(indices) < 3:
        return []
    species = sorted({int(z) for i in indices for z in structures[i].numbers})
    composition = np.array([[(structures[i].numbers == z).sum() for z in species] for i in indices], dtype=np.float64)
    energies = np.array([float(labelled[i]["energy"]) for i in indices])
    sizes = composition.sum(1)
    fractions = composition / sizes[:, None]
    residual = energies / sizes - fractions @ np.linalg.lstsq(fractions, energies / sizes, rcond=None)[0]
    deviation = np.abs(residual - np.median(residual))
    # 1.4826 turns the median absolute deviation of a normal distribution into its standard deviation.
    scale = 1.4826 * np.median(deviation)
    found = [indices[i] for i in np.flatnonzero(deviation > OUTLIER_DEVIATIONS * scale)] if scale > 0 else []
    if not found:
        return []
    listed = ", ".join(map(str, found[:MOST_LISTED])) + (f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else "")
    return [f"energy: frames {listed} lie more than {OUTLIER_DEVIATIONS:g} robust standard deviations from the median; have a look"]
