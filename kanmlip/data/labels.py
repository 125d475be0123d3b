"""Labels of a structure: which there are, where a file keeps them, whether they can be right, and where ASE keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from kanmlip.errors import DataError, describe_choice
from kanmlip.schema import Schema

if TYPE_CHECKING:
    from ase import Atoms

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Label:
    """A quantity that a structure, or each of its atoms, can have.

    Attributes:
        name: Its name in ``Graph.labels``, in a potential's output, in ``provides`` and ``predicts``, and as a loss weight.
        per: ``atom`` or ``structure``: what the first axis of a batch counts.
        rank: Number of Cartesian axes, each of length 3.
        unit: For messages; empty for a pure number.
        setting: Stem of the dataset's setting that names it in a file, ``dataset.<setting>_key``.
        metric: Stem of its metric keys.
        metric_unit: What ends those keys.
        limit: Components beyond this are not plausible in that unit.
    """

    name: str
    per: Literal["atom", "structure"]
    rank: int
    unit: str
    setting: str
    metric: str
    metric_unit: str
    limit: float = float("inf")

    def shape(self, atoms: int) -> tuple[int, ...]:
        """Shape of the label of one structure: [N, 3, …] per atom, [3, …] per structure."""
        return ((atoms,) if self.per == "atom" else ()) + (3,) * self.rank

    def key(self, statistic: str) -> str:
        """Metric key of a tensor's error, unit included: ``key("mae")`` of Born charges is ``bec_mae_e``."""
        return f"{self.metric}_{statistic}{self.metric_unit}"


# Derived quantities of an energy: force fields learn these, with losses and metrics of their own.
ENERGY_LABELS = (
    Label("energy", "structure", 0, "eV", "energy", "energy", "_eV"),
    Label("forces", "atom", 1, "eV/Å", "forces", "force", "_eV_per_A"),
    # Diamond has been compressed to 31 eV/Å³ (5 TPa; Smith et al., Nature 511, 330, 2014); GAP-17 carbon reaches 1.4.
    Label("stress", "structure", 2, "eV/Å³", "stress", "stress", "_eV_per_A3", limit=100.0),
)
# Tensors that a model predicts as such. One line here, a weight in LossConfig, a key in LabelKeys and ExtXYZ make another one,
# of any rank. Born charges are row-major, Z[direction of the field][direction of the force]; the largest known in insulators are
# near 10 e (perovskites), while near a metal they diverge, which nothing here could learn.
TENSOR_LABELS = (
    Label("born_effective_charges", "atom", 2, "e", "born", "bec", "_e", limit=50.0),
    Label("dielectric_tensor", "structure", 2, "", "dielectric", "dielectric", "", limit=1e4),
)
LABELS: dict[str, Label] = {label.name: label for label in (*ENERGY_LABELS, *TENSOR_LABELS)}


class LabelKeys(Schema):
    """Names of the labels in a file; ASE's own names are moved to a calculator on reading, which makes no difference here.

    Attributes:
        energy: Total energy, eV.
        forces: Forces, eV/Å.
        stress: Stress, eV/Å³, ASE's sign; nine or six (Voigt) numbers.
        virial: Virial, eV, used as stress = -virial/V where there is no stress.
        born: Born effective charges, e; nine numbers an atom, row-major Z[direction of the field][direction of the force].
        dielectric: Electronic dielectric tensor, nine numbers.
    """

    energy: str = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    virial: str | None = None
    born: str | None = "born_effective_charges"
    dielectric: str | None = "dielectric_tensor"


def available(atoms: Atoms) -> dict[str, Any]:
    """Everything a frame carries beside its geometry, by name."""
    found: dict[str, Any] = {**atoms.info, **{k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}}
    return found | (dict(atoms.calc.results) if atoms.calc is not None else {})


def extract(atoms: Atoms, keys: LabelKeys) -> dict[str, Array]:
    """The labels a frame has, each of its :meth:`Label.shape`; stress and dielectric tensor only where all directions are periodic.

    Raises:
        DataError: If what stands under a key is not so many numbers.
    """
    values = available(atoms)
    labels: dict[str, Array] = {}
    if keys.energy in values:
        labels["energy"] = _numbers(values, keys.energy, (1,)).reshape(())
    if keys.forces is not None and keys.forces in values:
        labels["forces"] = _numbers(values, keys.forces, (3 * len(atoms),)).reshape(len(atoms), 3)
    for label in TENSOR_LABELS:
        key = getattr(keys, label.setting)
        if key is not None and key in values and (label.per == "atom" or all(atoms.pbc)):
            shape = label.shape(len(atoms))
            labels[label.name] = _numbers(values, key, (int(np.prod(shape)),)).reshape(shape)
    if not all(atoms.pbc):
        return labels
    if keys.stress is not None and keys.stress in values:
        labels["stress"] = full_stress(_numbers(values, keys.stress, (6, 9)))
    elif keys.virial is not None and keys.virial in values and has_volume(atoms):
        labels["stress"] = -full_stress(_numbers(values, keys.virial, (6, 9))) / atoms.get_volume()
    return labels


def _numbers(values: Mapping[str, Any], key: str, sizes: Sequence[int]) -> Array:
    try:
        given = np.asarray(values[key])
        if given.dtype == bool:  # as ASE reads T and F
            raise TypeError
        numbers = given.astype(np.float64)
    except (TypeError, ValueError):
        raise DataError(f"what it has under '{key}' is not numeric: {str(values[key])[:40]!r}") from None
    if numbers.size not in sizes:
        raise DataError(f"it has {numbers.size} numbers under '{key}', not {' or '.join(map(str, sizes))}")
    return numbers


def full_stress(values: Array) -> Array:
    """[3, 3] from nine numbers, or from six in Voigt order xx, yy, zz, yz, xz, xy."""
    if values.size == 6:
        xx, yy, zz, yz, xz, xy = values.ravel()
        return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return values.reshape(3, 3)


def has_volume(atoms: Atoms) -> bool:
    """Whether the lattice vectors of the periodic directions are there and independent."""
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not len(vectors) or not lengths.all():
        return not len(vectors)
    # Of long vectors that depend on one another rounding leaves some volume, of short ones that do not little: both must have some.
    units = vectors / lengths
    return bool(np.linalg.det(vectors @ vectors.T) > 1e-12 and np.linalg.det(units @ units.T) > 1e-12)


def require_key(atoms: Atoms, key: str, name: str, setting: str, source: str) -> None:
    """Check that a frame has what a key names.

    Raises:
        DataError: Listing the keys in the file and the nearest one.
    """
    values = available(atoms)
    if key not in values:
        raise DataError(f"{source} has no {name} under that key: " + describe_choice(setting, key, values))


def attach(atoms: Atoms, labels: Mapping[str, Array]) -> Atoms:
    """The bare structure with its labels in a ``SinglePointCalculator``."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    results: dict[str, Any] = {name: value for name, value in labels.items() if name != "energy"}
    if "energy" in labels:
        results["energy"] = float(labels["energy"])
    if "stress" in results:
        s = results["stress"]
        results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    bare.calc = SinglePointCalculator(bare, **results)
    return bare


def attached(atoms: Atoms) -> dict[str, Array]:
    """The labels that a structure's calculator holds for its present positions, as a graph of one structure has them.

    Returns:
        Name → [N, 3, …] for a label per atom, [1, 3, …] for one per structure; stress as [1, 3, 3].
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    found: dict[str, Array] = {}
    for name, label in LABELS.items() if atoms.calc is not None else ():
        try:
            value = atoms.calc.get_property(name, atoms, allow_calculation=False)
        except PropertyNotImplementedError:
            continue
        if value is not None:
            numbers = np.array(value, dtype=np.float64)
            numbers = full_stress(numbers) if name == "stress" else numbers.reshape(label.shape(len(atoms)))
            found[name] = numbers if label.per == "atom" else numbers[None]
    return found


def tensors_in(labels: Iterable[str]) -> list[Label]:
    """Those of the labels that are tensors a model predicts as such, in the order of the registry."""
    names = set(labels)
    return [label for label in TENSOR_LABELS if label.name in names]
