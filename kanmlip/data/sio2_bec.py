"""Born effective charges of 3,992 hypothetical SiO2 crystals of 6 atoms (Zhong et al. 2023), the paper's Table 9.

All have space group I-42d, so that three numbers (a, c, x of oxygen) fix a structure, and 44 % of the components are zero by
symmetry; tables print what a polynomial in the three scores.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from kanmlip.data.labels import LabelKeys
from kanmlip.data.published import PublishedDataset, Sources
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError, MissingDependencyError

LATTICE = re.compile(r'\bLattice="([^"]*)"')
TRAIN_SHARE, VAL_SHARE = 0.6, 0.2


class SiO2BEC(PublishedDataset):
    """One file, cut 6:2:2 into 2,395, 798 and 799 structures.

    Attributes:
        split: ``random`` is the order of ``RandomState(split_seed).permutation``, as in the published run of the model's authors.
            ``volume_extrapolation`` holds out the fifth with the largest volume an atom as the test set; train and validation are
            drawn from the rest in that random order, so that nothing but the test asks for extrapolation, the choice of the best
            epoch included.
        split_seed: Seed of that order.
    """

    split: Literal["random", "volume_extrapolation"] = "random"
    split_seed: int = Field(42, ge=0, lt=2**32)

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"born_effective_charges", "dielectric_tensor"})

    @property
    def keys(self) -> LabelKeys:
        """Names of the labels in the file."""
        return LabelKeys(dielectric="dielectric")

    def check(self, root: Path) -> None:
        """See :meth:`DatasetConfig.check`; every run on this set also fits the polynomials that its table prints.

        Raises:
            MissingDependencyError: If scikit-learn is not installed.
        """
        super().check(root)
        if importlib.util.find_spec("sklearn") is None:
            raise MissingDependencyError(
                f"dataset={self.name} needs scikit-learn, which is not installed, for the baselines of its table; run: "
                f"pip install scikit-learn"
            )

    def sources(self, root: Path) -> Sources:
        """See :meth:`PublishedDataset.sources`."""
        (path,) = self.paths(root).values()
        texts = read_frames(path)
        parts = self.parts(texts)
        title = self.title if self.split == "random" else f"{self.title}, largest volumes held out"
        return Sources(dict.fromkeys(parts, (path, texts)), parts, title)

    def parts(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """Split → indices of its frames, ascending.

        Args:
            texts: The frames as text.

        Raises:
            DataError: If there are too few to cut.
        """
        train, val = int(TRAIN_SHARE * len(texts)), int(VAL_SHARE * len(texts))
        if not val:
            raise DataError(f"dataset={self.name} has {len(texts)} frames, too few to be cut 6:2:2; use the whole file")
        order = np.random.RandomState(self.split_seed).permutation(len(texts))
        if self.split == "volume_extrapolation":
            volumes = np.array([volume_per_atom(text) for text in texts])
            held_out = np.argsort(volumes, kind="stable")[train + val :]
            order = np.concatenate([order[~np.isin(order, held_out)], held_out])
        cut = {"train": order[:train], "val": order[train : train + val], "test": order[train + val :]}
        return {split: sorted(map(int, members)) for split, members in cut.items()}


def volume_per_atom(text: str) -> float:
    """Å³, from the text of a frame.

    Raises:
        DataError: If it has no lattice.
    """
    count, header = text.split("\n", 2)[:2]
    match = LATTICE.search(header)
    vectors = np.array(match.group(1).split(), dtype=np.float64) if match else np.empty(0)
    if vectors.size != 9:
        raise DataError(f"a frame has no Lattice of nine numbers, which the split by volume needs: {header[:60]!r}")
    return float(abs(np.linalg.det(vectors.reshape(3, 3)))) / int(count)
