"""Born effective charges along molecular dynamics of 72-atom alpha-quartz at 300 and 600 K (Falletta et al. 2025).

Unlike in the SiO2 set, no symmetry is left: every component of every atom has a value of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from kanmlip.data.published import PublishedDataset, Sources
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError

TRAIN_SHARE, VAL_SHARE = 0.6, 0.2


class AlphaQuartzBEC(PublishedDataset):
    """One file with the two runs behind one another, in the order of time.

    Attributes:
        n_cold: Frames of the 300 K run, which comes first; the energies of the others lie some 9 eV higher.
        split: ``contiguous`` cuts each run into stretches of 6:2:2 for train, validation and test, so that neighbours in time lie on
            both sides of a border only at the borders. ``temperature`` trains and validates on 300 K (8:2 stretches) and tests on
            600 K.
    """

    n_cold: int = Field(101, ge=1)
    split: Literal["contiguous", "temperature"] = "contiguous"

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"born_effective_charges"})

    def sources(self, root: Path) -> Sources:
        """See :meth:`PublishedDataset.sources`."""
        (path,) = self.paths(root).values()
        texts = read_frames(path)
        parts = self.parts(len(texts))
        return Sources(dict.fromkeys(parts, (path, texts)), parts, f"{self.title}, split {self.split}")

    def parts(self, frames: int) -> dict[str, list[int]]:
        """Split → indices of its frames.

        Args:
            frames: In the file.

        Raises:
            DataError: If the file does not reach into the 600 K run.
        """
        if self.n_cold >= frames:
            raise DataError(f"dataset.n_cold={self.n_cold}, but {self.name} has {frames} frames; choose fewer")
        cold, hot = range(self.n_cold), range(self.n_cold, frames)
        if self.split == "temperature":
            border = int((TRAIN_SHARE + VAL_SHARE) * len(cold))
            return {"train": list(cold[:border]), "val": list(cold[border:]), "test": list(hot)}
        pieces = [_stretches(run) for run in (cold, hot)]
        return {split: [index for piece in pieces for index in piece[split]] for split in ("train", "val", "test")}


def _stretches(run: Sequence[int]) -> dict[str, Sequence[int]]:
    train, val = int(TRAIN_SHARE * len(run)), int(VAL_SHARE * len(run))
    return {"train": run[:train], "val": run[train : train + val], "test": run[train + val :]}
