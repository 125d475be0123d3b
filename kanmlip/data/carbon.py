"""GAP-17 amorphous carbon: the paper's split where its training frames are at hand, else a stand-in made of its test set.

Stand-in: all frames that could be had are the paper's 450 test frames, cut by others into ``standin_train_400`` and
``standin_val_50``. A test set that training and validation never see is held out of the 400 here, so that 310, 50 and 90 frames
are disjoint parts of those 450.

The paper's: ``train.extxyz[.xz]`` with its 4,080 frames (energy, forces and stress under these names) beside
``test_450.extxyz.xz`` in the same folder. The 450 are the test set then; the validation set, of which the paper says nothing, is
held out of the 4,080.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from kanmlip.data.checksum import file_sha256
from kanmlip.data.published import PublishedDataset, Sources
from kanmlip.data.readable import is_file
from kanmlip.data.xyz_file import read_frames
from kanmlip.errors import DataError

CONFIG_TYPE = re.compile(r"\bconfig_type=(\S+)")
PAPER_TRAIN = ("train.extxyz.xz", "train.extxyz")
PAPER_TRAIN_FRAMES = 4080
PAPER_TEST = "test_450.extxyz.xz"
PAPER_TEST_SHA256 = "c5314f65ead3323f13fed66aad94924ec9cb757d7653b639414389b5b5eefeb0"
PAPER_TITLE = "carbon, GAP-17 LDA (the paper's 4,080 training and 450 test frames; validation frames held out of the training frames)"


class CarbonStandIn(PublishedDataset):
    """Three disjoint parts, of the paper's test set or, where its training frames are at hand, of all its frames.

    Attributes:
        n_held_out: Frames taken out of the training file, stratified by ``config_type``: the test set of the stand-in, the
            validation set with the paper's files.
        held_out_seed: Seed of that draw.
    """

    n_held_out: int = Field(90, ge=1)
    held_out_seed: int = Field(17, ge=0)

    def paper_files(self, root: Path) -> tuple[Path, Path] | None:
        """The paper's training and test file if the training file is there.

        Raises:
            DataError: If the test file is missing beside it.
        """
        folder = root / self.folder
        train = next((folder / name for name in PAPER_TRAIN if is_file(folder / name, f"dataset={self.name}")), None)
        if train is None:
            return None
        if not is_file(folder / PAPER_TEST, f"dataset={self.name}"):
            raise DataError(f"dataset={self.name}: {train} is there, but the paper's test set {folder / PAPER_TEST} is missing; add it")
        return train, folder / PAPER_TEST

    def fingerprint(self, root: Path) -> str:
        """See :meth:`DatasetConfig.fingerprint`."""
        files = self.paper_files(root)
        if files is None:
            return super().fingerprint(root)
        # The checksum of the training file as a user may convert it is not known; its number of frames is checked on loading.
        parts = (file_sha256(files[0], f"dataset={self.name}"), self.verified(files[1], PAPER_TEST_SHA256))
        return hashlib.sha256("|".join(("paper", *parts)).encode()).hexdigest()

    def sources(self, root: Path) -> Sources:
        """See :meth:`PublishedDataset.sources`."""
        files = self.paper_files(root)
        if files is not None:
            return self._papers(*files)
        paths = self.paths(root)
        train, val = read_frames(paths["train"]), read_frames(paths["val"])
        test = self.held_out(train)
        rest = sorted(set(range(len(train))) - set(test))
        frames = {"train": (paths["train"], train), "val": (paths["val"], val), "test": (paths["train"], train)}
        return Sources(frames, {"train": rest, "val": list(range(len(val))), "test": test})

    def _papers(self, train_path: Path, test_path: Path) -> Sources:
        train, test = read_frames(train_path), read_frames(test_path)
        if len(train) != PAPER_TRAIN_FRAMES and self.verify:
            raise DataError(
                f"{train_path} has {len(train)} frames, not the paper's {PAPER_TRAIN_FRAMES}; replace it, rename it to use the stand-in "
                f"split, or use it as it is with dataset.verify=false"
            )
        val = self.held_out(train)
        rest = sorted(set(range(len(train))) - set(val))
        frames = {"train": (train_path, train), "val": (train_path, train), "test": (test_path, test)}
        available = {"train": rest, "val": val, "test": list(range(len(test)))}
        return Sources(frames, available, PAPER_TITLE, stand_in=False)

    def held_out(self, frames: Sequence[str]) -> list[int]:
        """Indices of ``n_held_out`` frames: of each ``config_type`` the same share, by largest remainders.

        Raises:
            DataError: If no frame would be left.
        """
        if self.n_held_out >= len(frames):
            raise DataError(f"dataset.n_held_out={self.n_held_out} leaves no training frame of {len(frames)}; choose fewer")
        strata: dict[str, list[int]] = defaultdict(list)
        for index, text in enumerate(frames):
            match = CONFIG_TYPE.search(text.split("\n", 2)[1])
            strata[match.group(1) if match else ""].append(index)
        random = np.random.default_rng(self.held_out_seed)
        shares = {name: self.n_held_out * len(members) / len(frames) for name, members in strata.items()}
        counts = {name: int(share) for name, share in shares.items()}
        for name in sorted(shares, key=lambda name: shares[name] - counts[name], reverse=True)[: self.n_held_out - sum(counts.values())]:
            counts[name] += 1
        chosen = [random.permutation(strata[name])[: counts[name]] for name in sorted(strata)]
        return sorted(int(index) for part in chosen for index in part)
