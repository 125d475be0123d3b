"""What every dataset is to the rest of kanmlip: typed settings that load three lists of labelled structures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from kanmlip.errors import DataError
from kanmlip.schema import Schema

if TYPE_CHECKING:
    from ase import Atoms
    from ase.calculators.calculator import Calculator


@dataclass(frozen=True)
class Splits:
    """The structures of a run.

    Attributes:
        train: Training set; labels are in each structure's ``SinglePointCalculator`` (eV, eV/Å, eV/Å³ with ASE's sign, e).
        val: Validation set.
        test: Test set, possibly empty.
        label: What tables print for the data.
        stand_in: The labels or the split are not the paper's.
        sha256: Checksum of the content, as in the run id.
        subset: How many of how many structures, and how they were drawn.
        indices: Split → index of each structure in its source.
    """

    train: list[Atoms]
    val: list[Atoms]
    test: list[Atoms]
    label: str
    stand_in: bool
    sha256: str
    subset: str
    indices: dict[str, list[int]] = field(default_factory=dict)


class DatasetConfig(Schema, ABC):
    """Settings of a dataset and the code that loads it, in one immutable object.

    Attributes:
        name: The dataset's name in run ids and tables.
        n_train: Training structures to use, drawn at random by ``subset_seed``; all without it.
        n_val: Validation structures to use.
        n_test: Test structures to use.
        subset_seed: Seed of the draw. It is not the run's seed: runs of several seeds see the same structures.
        max_force: Structures with a force component beyond this (eV/Å) are bad.
        on_bad_frame: ``error`` names every bad structure and stops; ``drop`` goes on without them.
    """

    # Settings that only say where files are: their content enters a run's hash as a checksum.
    path_fields: ClassVar[frozenset[str]] = frozenset()
    # Settings that came after runs had been recorded: left out of the hash at their defaults.
    newer_fields: ClassVar[frozenset[str]] = frozenset()

    name: str
    n_train: int | None = Field(None, ge=1)
    n_val: int | None = Field(None, ge=1)
    n_test: int | None = Field(None, ge=0)
    subset_seed: int = Field(0, ge=0)
    max_force: float = Field(150.0, gt=0)
    on_bad_frame: Literal["error", "drop"] = "error"

    @property
    @abstractmethod
    def provides(self) -> frozenset[str]:
        """Labels that every structure has."""

    @abstractmethod
    def load(self, root: Path) -> Splits:
        """Read the structures.

        Args:
            root: Data root.

        Raises:
            DataError: If something is missing, unreadable or must not be trained on.
        """

    @abstractmethod
    def fingerprint(self, root: Path) -> str:
        """sha256 of the content, without parsing it."""

    def label_source(self) -> Calculator | None:
        """A new calculator of what computed the labels, for sets whose labels are of a potential that ASE brings; none for others."""
        return None

    def check(self, root: Path) -> None:
        """Cheap checks before anything is built: files that are missing are named, and more structures than there are.

        Raises:
            DataError: With the key, the path and the ways out.
        """
        self.fingerprint(root)
        if any(self.wanted.values()):
            for split, size in self.split_sizes(root).items():
                self._require(size, self.wanted[split], split)

    @property
    def wanted(self) -> dict[str, int | None]:
        """Split → structures to use; none for all."""
        return {"train": self.n_train, "val": self.n_val, "test": self.n_test}

    def split_sizes(self, root: Path) -> Mapping[str, int]:
        """Split → structures to draw from, as far as they can be counted without loading them.

        Raises:
            DataError: If the files cannot be cut as the settings say.
        """
        return {}

    def draw(self, available: Sequence[int], wanted: int | None, split: str) -> list[int]:
        """``wanted`` of the ``available`` indices in ascending order, the same for every run with this ``subset_seed``.

        Raises:
            DataError: If there are not so many.
        """
        if wanted is None or wanted == len(available):
            return list(available)
        self._require(len(available), wanted, split)
        chosen = np.random.default_rng(self.subset_seed).permutation(len(available))[:wanted]
        return [available[i] for i in sorted(chosen)]

    def _require(self, size: int, wanted: int | None, split: str) -> None:
        if wanted is not None and wanted > size:
            raise DataError(f"dataset.n_{split}={wanted}, but {self.name} has {size} {split} structures; choose at most that many")
