"""The same structure twice: within a file it is waste, across training and test data it makes errors look small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from kanmlip.data.same_structure import Outline, first_of_each


def duplicates(structures: Sequence[Outline | None]) -> list[str]:
    """Pairs of frames with the same atoms at the same positions in the same cell.

    Args:
        structures: Outlines of the frames; none for one that is not to be compared.
    """
    pairs = enumerate(first_of_each(structures))
    return [f"frame {index} has the structure of frame {first}" for index, first in pairs if first != index]


def shared(structures: Mapping[Path, Sequence[Outline | None]]) -> list[str]:
    """Pairs of files with structures in common, which must not be training and validation data of one run."""
    first = iter(first_of_each([each for frames in structures.values() for each in frames]))
    groups = {path: [next(first) for _ in frames] for path, frames in structures.items()}
    found = []
    for one, other in combinations(groups, 2):
        common = set(groups[one]) & set(groups[other])
        if common:
            place = next(i for i, group in enumerate(groups[other]) if group in common)
            found.append(f"{one} and {other} have {len(common)} structures in common (the first: frame {place} of the second)")
    return found
