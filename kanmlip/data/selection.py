"""From the frames of a file to checked structures with labels; what is wrong with a frame is said with its index."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ase import Atoms

from kanmlip.data.faults import fault, imbalance, remark_on_sum_rule
from kanmlip.data.labels import LABELS, LabelKeys, attach, extract
from kanmlip.data.xyz_file import parse_frame
from kanmlip.errors import DataError

MOST_LISTED = 10


def load_selected(
    path: Path,
    frames: Sequence[str],
    indices: Sequence[int],
    keys: LabelKeys,
    expected: Sequence[str],
    max_force: float,
    on_bad_frame: Literal["error", "drop"],
) -> tuple[list[Atoms], list[int]]:
    """Parse, check and label the chosen frames.

    Args:
        path: Where they come from, for messages.
        frames: The file's frames as text.
        indices: Which to take.
        keys: Names of the labels in the file.
        expected: Labels that each must have.
        max_force: Limit on force components in eV/Å.
        on_bad_frame: What to do about a bad one.

    Returns:
        Structures and the index of each.

    Raises:
        DataError: Naming every bad frame by its index (the first ten) if they are not to be dropped, or if none is left; or if a
            frame has a label that is not expected, which would go unused.
    """
    good: list[Atoms] = []
    kept: list[int] = []
    bad: list[str] = []
    lacking: set[str] = set()
    imbalances: dict[int, float] = {}
    for index in indices:
        atoms = parse_frame(frames[index], path, index)
        try:
            labels = extract(atoms, keys)
            reason = fault(atoms, labels, expected, max_force)
            lacking |= set(expected) - set(labels) - {"energy"}
        except DataError as error:
            labels, reason = {}, str(error)
        _refuse_unused(path, index, sorted(set(labels) - set(expected)))
        if reason is not None:
            bad.append(f"frame {index}: {reason}")
            continue
        good.append(attach(atoms, {name: labels[name] for name in expected}))
        kept.append(index)
        imbalances[index] = imbalance(labels)
    if bad:
        listed = "; ".join(bad[:MOST_LISTED]) + (f"; and {len(bad) - MOST_LISTED} more" if len(bad) > MOST_LISTED else "")
        if on_bad_frame == "error":
            raise DataError(f"{path}: {listed}. {_ways_out(lacking)}")
        sys.stderr.write(f"{path}: dropped {len(bad)} of {len(indices)} frames: {listed}\n")
    if remark := remark_on_sum_rule(imbalances):
        sys.stderr.write(f"{path}: {remark}\n")
    if indices and not good:
        raise DataError(f"{path}: no usable frame is left of {len(indices)}")
    return good, kept


def _refuse_unused(path: Path, index: int, unused: Sequence[str]) -> None:
    if unused:
        raise DataError(
            f"{path}: frame {index} has {unused[0]}, but the first training frame has none, so that it would not be used; "
            f"add it there, or leave it out everywhere: dataset.{LABELS[unused[0]].setting}_key=null"
        )


def _ways_out(lacking: set[str]) -> str:
    settings = " ".join(f"dataset.{LABELS[name].setting}_key=null" for name in sorted(lacking))
    without = f", or without what some frames lack: {settings}" if settings else ""
    return f"Correct the file, or go on without these frames: dataset.on_bad_frame=drop{without}"
