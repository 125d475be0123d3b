"""A small set of tensors that needs no download: rattled rock salt with charges and a dielectric tensor from closed formulas.

Not physics, but of the same kind: the tensors turn with the structure, depend on neighbours in pairs and triples, are not symmetric,
and the charges keep the sum rule. What a model should be able to learn here, it can be held to.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.build import bulk
from numpy.typing import NDArray
from pydantic import Field

from kanmlip.data.made import DECIMALS, MadeDataset

Array = NDArray[np.float64]
CUTOFF = 4.0  # Å, of the formulas
CHARGES = {12: 1.9, 8: -1.9}  # e; what an atom has without neighbours, before the sum rule
PAIR = {12: 0.3, 8: 0.4}  # e, weight of the term in pairs, by the species of the centre
TRIPLE = {12: 1.2, 8: 1.8}  # e, weight of the term in triples
REFERENCE = 2.105  # Å, the bond of the perfect crystal
MEDIUM, SHORT, LONG = 0.7, 0.4, 2.0  # Å, ranges of pairs and of the two legs of a triple; that the legs differ breaks the symmetry


class ToyBEC(MadeDataset):
    """Strained and rattled 8-atom MgO cells, made on first use and kept in the cache.

    Attributes:
        amplitude: Standard deviation of the displacements, Å.
        strain: Standard deviation of the components of a symmetric strain.
        n_frames: Structures.
        structure_seed: Seed of displacements and strains.
    """

    recipe_version: ClassVar[int] = 1
    recipe_fields: ClassVar[frozenset[str]] = frozenset({"amplitude", "strain", "n_frames", "structure_seed"})

    amplitude: float = Field(0.15, gt=0)
    strain: float = Field(0.02, ge=0)
    n_frames: int = Field(360, ge=6, le=10**6)
    structure_seed: int = Field(7, ge=0)

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"born_effective_charges", "dielectric_tensor"})

    @property
    def title(self) -> str:
        """See :attr:`MadeDataset.title`."""
        return "8-atom rattled MgO, synthetic tensors"

    @property
    def order_seed(self) -> int:
        """See :attr:`MadeDataset.order_seed`."""
        return self.structure_seed

    def make(self) -> list[Atoms]:
        """See :meth:`MadeDataset.make`; charges are written as nine numbers an atom."""
        random = np.random.default_rng(self.structure_seed)
        frames = []
        for _ in range(self.n_frames):
            atoms = bulk("MgO", "rocksalt", a=4.21, cubic=True)
            noise = self.strain * random.normal(size=(3, 3))
            atoms.set_cell(np.round(atoms.cell[:] @ (np.eye(3) + (noise + noise.T) / 2), DECIMALS), scale_atoms=True)
            atoms.positions = np.round(atoms.positions + self.amplitude * random.normal(size=atoms.positions.shape), DECIMALS)
            atoms.info["dielectric_tensor"] = synthetic_dielectric(atoms)
            atoms.new_array("born_effective_charges", synthetic_charges(atoms).reshape(-1, 9))
            frames.append(atoms)
        return frames


def synthetic_charges(atoms: Atoms) -> Array:
    """Z_i = q_i 1 + p_i Σ_j f(r_ij) e_ij⊗e_ij + t_i Σ_{j≠k} s(r_ij) l(r_ik) (e_ij·e_ik) e_ij⊗e_ik, less the mean over atoms.

    Args:
        atoms: Magnesium and oxygen.

    Returns:
        [N, 3, 3] in e. e_ij is the unit vector to neighbour j; f, s and l fall to zero at :data:`CUTOFF`.
    """
    centre, units, lengths = _neighbours(atoms)
    numbers = atoms.numbers
    charges: Array = np.array([CHARGES[z] for z in numbers])[:, None, None] * np.eye(3)
    charges += np.array([PAIR[z] for z in numbers])[:, None, None] * _pairs(len(atoms), centre, units, lengths)
    short, long = _decay(lengths, SHORT), _decay(lengths, LONG)
    # Σ_jk s_j l_k (e_j·e_k) e_j⊗e_k is (Σ_j s_j e_j⊗e_j)(Σ_k l_k e_k⊗e_k), a product of symmetric matrices that do not commute.
    dyads = units[:, :, None] * units[:, None, :]
    left, right, same = np.zeros((3, len(atoms), 3, 3))
    np.add.at(left, centre, short[:, None, None] * dyads)
    np.add.at(right, centre, long[:, None, None] * dyads)
    np.add.at(same, centre, (short * long)[:, None, None] * dyads)
    charges += np.array([TRIPLE[z] for z in numbers])[:, None, None] * (left @ right - same)
    balanced: Array = charges - charges.mean(0)
    return balanced


def synthetic_dielectric(atoms: Atoms) -> Array:
    """[3, 3], 2 · 1 plus half the mean over atoms of the term in pairs: symmetric."""
    centre, units, lengths = _neighbours(atoms)
    tensor: Array = 2 * np.eye(3) + 0.5 * _pairs(len(atoms), centre, units, lengths).mean(0)
    return tensor


def _neighbours(atoms: Atoms) -> tuple[NDArray[np.int64], Array, Array]:
    from kanmlip.data.neighbours import neighbour_edges

    (centre, neighbour), shift = neighbour_edges(atoms, CUTOFF)
    vectors = atoms.positions[neighbour] - atoms.positions[centre] + shift @ np.asarray(atoms.cell)
    lengths = np.linalg.norm(vectors, axis=1)
    return centre, vectors / lengths[:, None], lengths


def _pairs(count: int, centre: NDArray[np.int64], units: Array, lengths: Array) -> Array:
    sums = np.zeros((count, 3, 3))
    weights = _decay(lengths, MEDIUM)
    np.add.at(sums, centre, weights[:, None, None] * units[:, :, None] * units[:, None, :])
    return sums


def _decay(lengths: Array, reach: float) -> Array:
    """exp(-(r - r₀)/reach) · ½(1 + cos(πr/r_c))."""
    values: Array = np.exp(-(lengths - REFERENCE) / reach) * 0.5 * (1 + np.cos(np.pi * lengths / CUTOFF))
    return values
