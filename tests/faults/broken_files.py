"""Extended-XYZ files that must not be trained on, each wrong in one way."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from hypothesis import strategies as st

FRAMES = 6
Damage = Callable[[Path, np.random.Generator], None]


def frame(random: np.random.Generator) -> Atoms:
    """Four silver atoms in a box, with labels."""
    grid = np.array([[0, 0, 0], [0, 2, 2], [2, 0, 2], [2, 2, 0]], dtype=float)
    atoms = Atoms("Ag4", positions=grid + 0.1 * random.normal(size=(4, 3)), cell=[4.0, 4.1, 4.2], pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=-10 + random.normal(), forces=random.normal(size=(4, 3)), stress=0.01 * random.normal(size=6)
    )
    return atoms


def write(path: Path, frames: list[Atoms]) -> None:
    ase.io.write(path, frames, format="extxyz")


def frames_of(path: Path) -> list[Atoms]:
    found = ase.io.read(path, index=":", format="extxyz")
    return found if isinstance(found, list) else [found]


def changed(change: Callable[[Atoms, np.random.Generator], None]) -> Damage:
    """Change one frame, any but the first, of which more is asked anyway."""

    def damage(path: Path, random: np.random.Generator) -> None:
        frames = frames_of(path)
        change(frames[int(random.integers(1, len(frames)))], random)
        write(path, frames)

    return damage


def replaced(old: str, new: str) -> Damage:
    """Replace the last occurrence in the text."""

    def damage(path: Path, random: np.random.Generator) -> None:
        before, found, after = path.read_text().rpartition(old)
        if not found:
            raise ValueError(f"{old!r} is not in the file")
        path.write_text(before + new + after)

    return damage


def content(make: Callable[[bytes, np.random.Generator], bytes]) -> Damage:
    return lambda path, random: _discard(path.write_bytes(make(path.read_bytes(), random)))


def _discard(_: int) -> None:
    return None


def _set_position(value: float) -> Callable[[Atoms, np.random.Generator], None]:
    def change(atoms: Atoms, random: np.random.Generator) -> None:
        atoms.positions[int(random.integers(4)), int(random.integers(3))] = value

    return change


def _overlap(atoms: Atoms, random: np.random.Generator) -> None:
    one, two = random.permutation(4)[:2]
    atoms.positions[one] = atoms.positions[two] + random.integers(-1, 2, 3) @ np.asarray(atoms.cell) + 0.02 * random.normal(size=3)


def _cell(make: Callable[[np.ndarray], np.ndarray]) -> Callable[[Atoms, np.random.Generator], None]:
    return lambda atoms, random: atoms.set_cell(make(np.asarray(atoms.cell).copy()))


def _singular(cell: np.ndarray) -> np.ndarray:
    cell[2] = 2 * cell[0] - cell[1]
    return cell


def _result(name: str, value: object) -> Callable[[Atoms, np.random.Generator], None]:
    def change(atoms: Atoms, random: np.random.Generator) -> None:
        results = dict(atoms.calc.results)
        if value is None:
            del results[name]
        else:
            results[name] = np.full_like(np.asarray(results[name], dtype=float), value)
        atoms.calc = SinglePointCalculator(atoms, **{k: float(v) if k == "energy" else v for k, v in results.items()})

    return change


def _archive(old: bytes, random: np.random.Generator) -> bytes:
    """A zip whose member would land outside of the folder that it is unpacked in."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../escaped.xyz", old)
    return buffer.getvalue()


BROKEN: dict[str, Damage] = {
    "empty": content(lambda old, random: b""),
    "blank": content(lambda old, random: b"\n \n\n"),
    "bytes": content(lambda old, random: random.bytes(500)),
    "zip with a path outside": content(_archive),
    "gzip bytes under a plain name": content(lambda old, random: gzip.compress(old)),
    "cut off": content(lambda old, random: old[: -int(random.integers(30, 200))]),
    "not utf-8": content(lambda old, random: old.replace(b"Ag", b"\xff\xfe", 1)),
    "zero atoms": replaced("\n4\n", "\n0\n"),
    "negative atoms": replaced("\n4\n", "\n-4\n"),
    "one atom too many": replaced("\n4\n", "\n5\n"),
    "one atom too few": replaced("\n4\n", "\n3\n"),
    "endless atoms": replaced("\n4\n", "\n400000000000\n"),
    "no number of atoms": replaced("\n4\n", "\nfour\n"),
    "no cell with pbc": replaced("Lattice=", "Lattuce="),
    "text in the cell": replaced('Lattice="4.0', 'Lattice="four'),
    "eight numbers in the cell": replaced(' 4.2"', '"'),
    "unknown element": replaced("\nAg ", "\nXy "),
    "no element": replaced("\nAg ", "\nX "),
    "text in a position": replaced("\nAg ", "\nAg one "),
    "no properties": replaced("Properties=species:S:1:pos:R:3:forces:R:3", "Properties=species:S:1"),
    "odd properties": replaced("pos:R:3", "pos:Q:3"),
    "text as energy": replaced(" energy=", " energy=low"),
    "no energy": replaced(" energy=", " enrgy="),
    "singular cell": changed(_cell(_singular)),
    "cell without a vector": changed(_cell(lambda cell: cell * np.array([[1.0], [1.0], [0.0]]))),
    "cell in nm": changed(_cell(lambda cell: cell / 10)),
    "huge cell": changed(_cell(lambda cell: cell * 1e7)),
    "nan cell": changed(_cell(lambda cell: cell * np.nan)),
    "nan position": changed(_set_position(np.nan)),
    "infinite position": changed(_set_position(np.inf)),
    "far position": changed(_set_position(1e12)),
    "overlapping atoms": changed(_overlap),
    "nan energy": changed(_result("energy", np.nan)),
    "nan force": changed(_result("forces", np.nan)),
    "huge force": changed(_result("forces", 1e5)),
    "no forces": changed(_result("forces", None)),
    "no stress": changed(_result("stress", None)),
    "infinite stress": changed(_result("stress", np.inf)),
    "absurd stress": changed(_result("stress", 1e5)),
    "absurd energy": changed(_result("energy", 1e300)),
}


def broken() -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(BROKEN))
