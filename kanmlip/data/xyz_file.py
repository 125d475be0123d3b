"""Extended-XYZ files: frames cut apart as text, so that a few of many thousand can be parsed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import warnings
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
from ase import Atoms

from kanmlip.errors import DataError

# A number beyond is a misread line, and not one to reserve memory for.
MOST_ATOMS = 10_000_000
OPENERS: dict[str, Callable[..., IO[str]]] = {
    ".xz": cast("Callable[..., IO[str]]", lzma.open),
    ".gz": cast("Callable[..., IO[str]]", gzip.open),
    ".bz2": cast("Callable[..., IO[str]]", bz2.open),
}


def iterate_frames(path: Path) -> Iterator[str]:
    """The text of each frame of an extended-XYZ file, which may be compressed.

    Raises:
        DataError: If the file is not of that form; names the frame.
    """
    opener = OPENERS.get(path.suffix, open)
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            index = 0
            while header := file.readline():
                if not header.strip():
                    continue
                try:
                    atoms = int(header)
                except ValueError:
                    raise DataError(
                        f"{path}: frame {index} starts with {header.strip()[:40]!r} where its number of atoms should stand"
                    ) from None
                if atoms < 1:
                    raise DataError(f"{path}: frame {index} has {atoms} atoms; remove it")
                if atoms > MOST_ATOMS:
                    raise DataError(f"{path}: frame {index} claims {atoms} atoms, more than {MOST_ATOMS}; correct its first line")
                body = list(islice(file, atoms + 1))
                if len(body) < atoms + 1:
                    raise DataError(f"{path}: frame {index} ends after {max(len(body) - 1, 0)} of {atoms} atoms; the file is cut off")
                yield header + "".join(body)
                index += 1
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path} cannot be read as text: {error}; give an extended-XYZ file, plain or as .xz, .gz or .bz2") from error


def read_frames(path: Path) -> list[str]:
    """All frames of a file as text.

    Raises:
        DataError: If there are none, or the file is not extended XYZ.
    """
    frames = list(iterate_frames(path))
    if not frames:
        raise DataError(f"{path} has no frames")
    return frames


def parse_frame(text: str, path: Path, index: int) -> Atoms:
    """One frame as ASE reads it.

    Raises:
        DataError: If ASE cannot.
    """
    import ase.io

    try:
        # ASE and numpy warn of what the checks that follow name with the frame's index.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = cast("Atoms", ase.io.read(io.StringIO(text), index=0, format="extxyz"))
            return _with_whole_stress(atoms, text.split("\n", 2)[1])
    except Exception as error:  # ASE raises many kinds on malformed lines
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: frame {index} cannot be parsed ({reason}); correct it, or remove it") from error


def _with_whole_stress(atoms: Atoms, header: str) -> Atoms:
    """The frame with all nine numbers of its stress, of which ASE keeps six without a look at the others."""
    from ase.io.extxyz import key_val_str_to_dict

    if atoms.calc is not None and "stress" in atoms.calc.results:
        given = key_val_str_to_dict(header)["stress"]
        if np.shape(given) == (3, 3):
            atoms.calc.results["stress"] = np.array(given).T  # ASE reads columns first
    return atoms
