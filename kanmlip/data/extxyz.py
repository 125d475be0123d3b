"""A user's own extended-XYZ files."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from ase import Atoms
from pydantic import Field

from kanmlip.data.base import DatasetConfig, Splits
from kanmlip.data.checksum import file_sha256, remember_verified, verified_before
from kanmlip.data.faults import CHECKS_VERSION
from kanmlip.data.labels import LABELS, LabelKeys, available, extract, require_key, tensors_in
from kanmlip.data.readable import is_file, unreadable
from kanmlip.data.same_structure import first_of_each, outline
from kanmlip.data.selection import load_selected
from kanmlip.data.xyz_file import iterate_frames, parse_frame, read_frames
from kanmlip.errors import DataError, describe_choice

DEFAULT_KEYS = LabelKeys()
ALL_LABELS = frozenset(LABELS)


class ExtXYZ(DatasetConfig):
    """Training, validation and test structures from files, or from shares of the training file.

    Labels are what the first training frame has under the keys; every other frame must have the same ones. A set has energies, or
    tensors, or both.

    Attributes:
        train: Path of the training file.
        val: Path of the validation file, or the share of the training file to hold out.
        test: Path of the test file, or a share; none without it.
        energy_key: Name of the total energy, eV.
        forces_key: Name of the forces, eV/Å.
        stress_key: Name of the stress, eV/Å³, ASE's sign.
        virial_key: Name of a virial, eV, to use as -virial/V where there is no stress.
        born_key: Name of Born effective charges, e, nine numbers an atom: Z[direction of the field][direction of the force].
        dielectric_key: Name of a dielectric tensor.
        split_seed: Seed of the shares.
        allow_shared: Go on although training, validation or test set have structures in common.
    """

    path_fields: ClassVar[frozenset[str]] = frozenset({"train", "val", "test"})
    newer_fields: ClassVar[frozenset[str]] = frozenset({"born_key", "dielectric_key", "allow_shared"})

    train: str
    val: float | str = 0.1
    test: float | str | None = None
    energy_key: str = "energy"
    forces_key: str | None = "forces"
    stress_key: str | None = "stress"
    virial_key: str | None = None
    born_key: str | None = DEFAULT_KEYS.born
    dielectric_key: str | None = DEFAULT_KEYS.dielectric
    split_seed: int = Field(0, ge=0)
    allow_shared: bool = False

    @property
    def keys(self) -> LabelKeys:
        """The names of the labels."""
        return LabelKeys(
            energy=self.energy_key,
            forces=self.forces_key,
            stress=self.stress_key,
            virial=self.virial_key,
            born=self.born_key,
            dielectric=self.dielectric_key,
        )

    @property
    def provides(self) -> frozenset[str]:
        """Labels of the first training frame; all of them while the file is not there to look into."""
        path = Path(self.train)
        if not is_file(path, "dataset.train"):
            return ALL_LABELS
        return _labels_of_first_frame(path, path.stat().st_mtime_ns, self.keys)

    def check(self, root: Path) -> None:
        """See :meth:`DatasetConfig.check`; every frame that is asked for is read and checked, unless it was before."""
        self._check_settings()
        content = self.model_dump_json(exclude=set(self.path_fields))
        identity = f"{CHECKS_VERSION}|{self.fingerprint(root)}|{content}"
        if not verified_before("checked", identity):
            self._read(root)
            remember_verified("checked", identity)

    def _check_settings(self) -> None:
        for key in ("train", "val", "test"):
            value = getattr(self, key)
            if isinstance(value, str):
                _require_file(f"dataset.{key}", Path(value))
            elif value is not None and not 0 < value < 1:
                raise DataError(f"dataset.{key}={value} must be a path or a share of the training file between 0 and 1")
        path = Path(self.train)
        first = parse_frame(next(iterate_frames(path), "") or _no_frames(path), path, 0)
        # A name that a user gave must be there; the usual names may be.
        for name, default in DEFAULT_KEYS.model_dump().items():
            chosen = getattr(self, f"{name}_key")
            if chosen is not None and chosen != default:
                require_key(first, chosen, name, f"dataset.{name}_key", self.train)
        if not tensors_in(extract(first, self.keys)) and self.energy_key not in available(first):
            raise DataError(
                f"{self.train} has no energy under that key: {describe_choice('dataset.energy_key', self.energy_key, available(first))} "
                f"If it has tensors instead, name them: dataset.born_key or dataset.dielectric_key"
            )

    def fingerprint(self, root: Path) -> str:
        """See :meth:`DatasetConfig.fingerprint`: the bytes of the files, and the shares."""
        parts = []
        for key in ("train", "val", "test"):
            value = getattr(self, key)
            setting = f"dataset.{key}"
            parts.append(file_sha256(_require_file(setting, Path(value)), setting) if isinstance(value, str) else str(value))
        return hashlib.sha256("|".join(parts).encode()).hexdigest()

    def load(self, root: Path) -> Splits:
        """See :meth:`DatasetConfig.load`."""
        self._check_settings()
        return self._read(root)

    def _read(self, root: Path) -> Splits:
        sources = {"train": Path(self.train)}
        sources |= {key: Path(value) for key in ("val", "test") if isinstance(value := getattr(self, key), str)}
        frames = {split: read_frames(path) for split, path in sources.items()}
        parts = {split: list(range(len(texts))) for split, texts in frames.items()}
        order = np.random.default_rng(self.split_seed).permutation(len(frames["train"])).tolist()
        for key in ("val", "test"):
            share = getattr(self, key)
            if isinstance(share, float):
                count = max(1, round(share * len(frames["train"])))
                parts[key], order = sorted(order[:count]), order[count:]
                sources[key], frames[key] = sources["train"], frames["train"]
        parts["train"] = sorted(order)
        if not parts["train"]:
            raise DataError(
                f"dataset.train={self.train} has {len(frames['train'])} frames: none is left to train on; make the shares smaller"
            )
        chosen: dict[str, list[Atoms]] = {}
        indices: dict[str, list[int]] = {}
        counts: list[str] = []
        for split in ("train", "val", "test"):
            if split not in parts:
                chosen[split], indices[split] = [], []
                continue
            drawn = self.draw(parts[split], self.wanted[split], split)
            labels = sorted(self.provides)
            chosen[split], indices[split] = load_selected(
                sources[split], frames[split], drawn, self.keys, labels, self.max_force, self.on_bad_frame
            )
            counts.append(f"{len(indices[split])} {split}")
        _require_known_species(chosen)
        if not self.allow_shared:
            _refuse_shared(chosen, indices)
        subset = f"{', '.join(counts)} frames"
        label = f"{sources['train'].name}; {subset}"
        return Splits(**chosen, label=label, stand_in=False, sha256=self.fingerprint(root), subset=subset, indices=indices)


@lru_cache(maxsize=8)
def _labels_of_first_frame(path: Path, modified_ns: int, keys: LabelKeys) -> frozenset[str]:
    first = parse_frame(next(iterate_frames(path), "") or _no_frames(path), path, 0)
    # A file without any is for check() to refuse, which can say what is there; until then it is not known to lack something.
    return frozenset(extract(first, keys)) or ALL_LABELS


def _require_known_species(chosen: Mapping[str, Sequence[Atoms]]) -> None:
    known = {symbol for atoms in chosen["train"] for symbol in atoms.symbols}
    for split in ("val", "test"):
        unknown = sorted({symbol for atoms in chosen[split] for symbol in atoms.symbols} - known)
        if unknown:
            raise DataError(
                f"the {split} structures contain {', '.join(unknown)}, which no training structure has ({', '.join(sorted(known))}); add "
                f"some to dataset.train, or leave them out of dataset.{split}"
            )


def _refuse_shared(chosen: Mapping[str, Sequence[Atoms]], indices: Mapping[str, Sequence[int]]) -> None:
    places = [(split, index) for split in ("train", "val", "test") for index in indices[split]]
    outlines = [outline(atoms) for split in ("train", "val", "test") for atoms in chosen[split]]
    for (split, index), first in zip(places, first_of_each(outlines), strict=True):
        of, place = places[first]
        if of != split:
            raise DataError(
                f"frame {index} of dataset.{split} has the structure of frame {place} of dataset.{of}, which makes errors look "
                f"small (kanmlip-data check names all such frames); remove one, or go on with dataset.allow_shared=true"
            )


def _no_frames(path: Path) -> str:
    raise DataError(f"{path} has no frames")


def _require_file(key: str, path: Path) -> Path:
    if is_file(path, key):
        return path
    folder = path.parent
    if not folder.is_dir():
        raise DataError(f"{key}={path}: there is no folder {folder}")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file() and "xyz" in entry.name)
    except OSError as error:
        raise unreadable(folder, key, error) from error
    nearest = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{folder / nearest[0]}'?" if nearest else ""
    raise DataError(f"{key}={path}: there is no such file; extended-XYZ files in {folder}: {', '.join(names) or '(none)'}.{hint}")
