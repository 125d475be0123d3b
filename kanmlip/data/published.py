"""Published datasets that lie under the data root as files with known checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ase import Atoms

from kanmlip.data.base import DatasetConfig, Splits
from kanmlip.data.checksum import file_sha256, recall, remember, remember_verified, verified_before
from kanmlip.data.faults import CHECKS_VERSION
from kanmlip.data.labels import LabelKeys
from kanmlip.data.readable import is_file
from kanmlip.data.selection import load_selected
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError

# Settings that do not decide which structures belong to which split.
_DRAW_FIELDS = frozenset({"n_train", "n_val", "n_test", "subset_seed", "max_force", "on_bad_frame", "title"})
ORIGIN_FIELDS = ("doi", "licence", "address", "note")


@dataclass(frozen=True)
class Sources:
    """A set's files, cut into splits.

    Attributes:
        frames: Split → file and its frames as text.
        available: Split → indices that belong to it.
        title: In place of the set's own.
        stand_in: In place of the set's own.
    """

    frames: Mapping[str, tuple[Path, list[str]]]
    available: Mapping[str, list[int]]
    title: str | None = None
    stand_in: bool | None = None


class PublishedDataset(DatasetConfig):
    """Split → file in ``<data root>/<folder>``; the splits are the files as they are.

    Attributes:
        folder: Folder under the data root.
        files: Split → file name.
        sha256: Split → checksum of the file.
        verify: Refuse files with another checksum.
        title: What tables call the data.
        stand_in: Labels or split are not the paper's.
        doi: Where the data come from.
        licence: Under what terms.
        address: Direct address of a file with these bytes, if there is one.
        note: What a user should know.
    """

    path_fields: ClassVar[frozenset[str]] = frozenset({"folder", "files", "sha256", "verify", *ORIGIN_FIELDS})

    folder: str
    files: Mapping[str, str]
    sha256: Mapping[str, str]
    verify: bool = True
    title: str
    stand_in: bool
    doi: str
    licence: str
    address: str | None = None
    note: str = ""

    @property
    def provides(self) -> frozenset[str]:
        """See :attr:`DatasetConfig.provides`."""
        return frozenset({"energy", "forces", "stress"})

    @property
    def keys(self) -> LabelKeys:
        """Names of the labels in the files."""
        return LabelKeys()

    def paths(self, root: Path) -> dict[str, Path]:
        """Split → file.

        Raises:
            DataError: If one is missing; says both ways to get it.
        """
        paths = {split: root / self.folder / name for split, name in self.files.items()}
        missing = [str(path) for path in paths.values() if not is_file(path, f"dataset={self.name}")]
        if missing:
            raise DataError(
                f"dataset={self.name} is not under the data root {root} (missing: {', '.join(missing)}); "
                f"point KANMLIP_DATA at a folder that has it, or get it from doi {self.doi} (kanmlip-data info {self.name}); "
                f"dataset=toy needs no files"
            )
        return paths

    def fingerprint(self, root: Path) -> str:
        """See :meth:`DatasetConfig.fingerprint`: over the checksums of all files, which are verified."""
        checksums = {split: self.verified(path, self.sha256.get(split)) for split, path in self.paths(root).items()}
        return hashlib.sha256("".join(f"{split}:{found};" for split, found in sorted(checksums.items())).encode()).hexdigest()

    def verified(self, path: Path, expected: str | None) -> str:
        """Checksum of a file.

        Raises:
            DataError: If it is not the expected one and ``verify`` is on, or the file cannot be read.
        """
        found = file_sha256(path, f"dataset={self.name}")
        if self.verify and found != expected:
            raise DataError(
                f"{path} has sha256 {found}, not {expected}: another version of dataset={self.name}; "
                f"replace the file, or use it as it is with dataset.verify=false"
            )
        return found

    def check(self, root: Path) -> None:
        """See :meth:`DatasetConfig.check`; files that need not be the known ones are read as a run would, unless they were before."""
        super().check(root)
        identity = f"{CHECKS_VERSION}|{self.fingerprint(root)}|{self.model_dump_json(exclude=set(self.path_fields))}"
        if not self.verify and not verified_before("checked", identity):
            self.load(root)
            remember_verified("checked", identity)

    def split_sizes(self, root: Path) -> dict[str, int]:
        """See :meth:`DatasetConfig.split_sizes`; counted once, since the files may be large."""
        identity = f"{self.fingerprint(root)}|{self.model_dump_json(exclude=set(self.path_fields | _DRAW_FIELDS))}"
        with suppress(ValueError):  # nothing is known, or what is written is not whole
            return {split: int(size) for split, size in json.loads(recall("split_sizes", identity) or "").items()}
        sizes = {split: len(members) for split, members in self.sources(root).available.items()}
        remember("split_sizes", identity, json.dumps(sizes))
        return sizes

    def sources(self, root: Path) -> Sources:
        """Read the files and cut them into splits; here each file is one.

        Raises:
            DataError: If a file is missing, unreadable or cannot be cut so.
        """
        frames = {split: (path, read_frames(path)) for split, path in self.paths(root).items()}
        return Sources(frames, {split: list(range(len(texts))) for split, (_, texts) in frames.items()})

    def load(self, root: Path) -> Splits:
        """See :meth:`DatasetConfig.load`: draws, parses and checks."""
        sources = self.sources(root)
        chosen: dict[str, list[Atoms]] = {}
        indices: dict[str, list[int]] = {}
        counts: list[str] = []
        for split, total in self.wanted.items():
            if split not in sources.frames:
                chosen[split], indices[split] = [], []
                continue
            available = sources.available[split]
            drawn = self.draw(available, total, split)
            path, texts = sources.frames[split]
            labels = sorted(self.provides)
            chosen[split], indices[split] = load_selected(path, texts, drawn, self.keys, labels, self.max_force, self.on_bad_frame)
            if drawn:
                counts.append(f"{len(indices[split])} of {len(available)} {split}")
        subset = f"{', '.join(counts)} frames (drawn with seed {self.subset_seed})"
        return Splits(
            **chosen,
            label=f"{sources.title or self.title}; {subset}",
            stand_in=self.stand_in if sources.stand_in is None else sources.stand_in,
            sha256=self.fingerprint(root),
            subset=subset,
            indices=indices,
        )
