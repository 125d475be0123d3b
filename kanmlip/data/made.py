"""Sets that need no download: made on first use by a recipe, kept in the cache, cut into train, validation and test."""

from __future__ import annotations

import hashlib
import io
import json
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from kanmlip.data.base import DatasetConfig, Splits
from kanmlip.data.labels import LabelKeys
from kanmlip.data.root import cache_root
from kanmlip.data.selection import load_selected
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError
from kanmlip.experiment.atomic import write_text

if TYPE_CHECKING:
    from ase import Atoms

DECIMALS = 8  # as positions are written, so that labels belong to what is read back


class MadeDataset(DatasetConfig):
    """A recipe, and the file that was made by it.

    A subclass names the fields of its recipe, the field with its number of frames being ``n_frames``, and makes the frames.
    """

    recipe_version: ClassVar[int]
    recipe_fields: ClassVar[frozenset[str]]

    n_frames: int

    @property
    @abstractmethod
    def title(self) -> str:
        """What tables call the data."""

    @property
    @abstractmethod
    def order_seed(self) -> int:
        """Seed of the order in which frames go to the splits."""

    @abstractmethod
    def make(self) -> list[Atoms]:
        """All frames, their labels as extended XYZ can hold them."""

    def fingerprint(self, root: Path) -> str:
        """sha256 of the recipe, not of the file: rounding that differs between machines must not rename a run."""
        recipe: dict[str, Any] = {"version": self.recipe_version, **self.model_dump(include=set(self.recipe_fields))}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()

    def load(self, root: Path) -> Splits:
        """See :meth:`DatasetConfig.load`; the frames are cut 4:1:1 in a random order."""
        path = cache_root() / self.name / f"{self.fingerprint(root)[:16]}.extxyz"
        frames = self.cached(path)
        if frames is None:
            print(f"making dataset={self.name}: {self.n_frames} frames of {self.title}", flush=True)
            write_frames(path, self.make())
            frames = read_frames(path)
        chosen, indices, counts = {}, {}, []
        for split, available in self.parts().items():
            drawn = self.draw(available, self.wanted[split], split)
            labels = sorted(self.provides)
            chosen[split], indices[split] = load_selected(path, frames, drawn, LabelKeys(), labels, self.max_force, self.on_bad_frame)
            counts.append(f"{len(indices[split])} of {len(available)} {split}")
        subset = f"{', '.join(counts)} frames (drawn with seed {self.subset_seed})"
        return Splits(
            **chosen,
            label=f"{self.name}: {self.title}; {subset}",
            stand_in=True,
            sha256=self.fingerprint(root),
            subset=subset,
            indices=indices,
        )

    def parts(self) -> dict[str, list[int]]:
        """Split → indices of its frames, ascending."""
        order = np.random.default_rng(self.order_seed).permutation(self.n_frames).tolist()
        train, val = int(len(order) * 2 / 3), int(len(order) * 5 / 6)
        return {"train": sorted(order[:train]), "val": sorted(order[train:val]), "test": sorted(order[val:])}

    def split_sizes(self, root: Path) -> dict[str, int]:
        """See :meth:`DatasetConfig.split_sizes`."""
        return {split: len(members) for split, members in self.parts().items()}

    def cached(self, path: Path) -> list[str] | None:
        """The frames of an earlier run; none if there is no whole file of them."""
        try:
            frames = read_frames(path) if path.is_file() else []
        except DataError:
            frames = []
        return frames if len(frames) == self.n_frames else None


def write_frames(path: Path, frames: list[Atoms]) -> None:
    """Write an extended-XYZ file in one piece.

    Raises:
        DataError: If the folder cannot be written to.
    """
    import ase.io

    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; let KANMLIP_CACHE name a folder that can be") from error
