"""GAP-17 amorphous carbon: the paper's split where its training frames are at hand, else a stand-in made of its test set.

All frames that could be had are the paper's 450 test frames. Of those, ``standin_train_400`` and ``standin_val_50`` are a
stratified split; a test set that training never saw is held out of them here.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from kanmlip.data.base import Splits
from kanmlip.data.published import PublishedDataset
from kanmlip.data.xyz_file import read_frames

CONFIG_TYPE = re.compile(r"\bconfig_type=(\S+)")


class CarbonStandIn(PublishedDataset):
    """Three disjoint parts of the paper's test set, stratified by ``config_type``.

    Attributes:
        n_held_out: Frames taken out of the stand-in training set to be the test set.
        held_out_seed: Seed of that draw.
    """

    n_held_out: int = Field(90, ge=1)
    held_out_seed: int = Field(17, ge=0)

    def load(self, root: Path) -> Splits:
        """See :meth:`DatasetConfig.load`."""
        paths = self.paths(root)
        train, val = read_frames(paths["train"]), read_frames(paths["val"])
        test = self.held_out(train)
        rest = sorted(set(range(len(train))) - set(test))
        frames = {"train": (paths["train"], train), "val": (paths["val"], val), "test": (paths["train"], train)}
        return self.select(root, frames, {"train": rest, "val": list(range(len(val))), "test": test})

    def held_out(self, frames: Sequence[str]) -> list[int]:
        """Indices of the test set: of each ``config_type`` the same share, by largest remainders."""
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
