"""A layer's functions as a text that operators can carry and any process can read."""

from __future__ import annotations

import functools
import importlib
import json
from typing import Any, Literal, cast, get_args

from kanmlip.kan.basis import Basis

Backend = Literal["auto", "reference", "inductor", "torch", "cpu", "triton", "native"]
BACKENDS: tuple[str, ...] = get_args(Backend)
# Those whose every operation is one of PyTorch's own, so that files with them need nothing else.
PLAIN = ("reference", "inductor")
# Those that can be recorded into a file for a program without Python; ``native`` for files that are linked with the kernels.
RECORDED = (*PLAIN, "native")

_CLASSES: dict[str, type[Basis]] = {}


def check_backend(backend: str) -> None:
    """Refuse an unknown backend.

    Raises:
        ValueError: If ``backend`` is not one of ``BACKENDS``.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend} is not known; choose from: {', '.join(BACKENDS)}")


def write_spec(basis: Basis, base: bool, zero_preserving: bool, backend: str) -> str:
    """Text for an expansion in a basis that kernels evaluate, and the backend to do it."""
    own = name = f"{type(basis).__module__}:{type(basis).__qualname__}"
    # A class that is defined again, as a cell of a notebook does, is another one: layers of the first keep theirs.
    number = 1
    while _CLASSES.setdefault(name, type(basis)) is not type(basis):
        number += 1
        name = f"{own}#{number}"
    settings = {"base": base, "zero_preserving": zero_preserving, "columns": basis.num_basis + int(base), "backend": backend}
    return json.dumps({"basis": name, "arguments": basis.arguments(), **settings}, sort_keys=True)


@functools.lru_cache(maxsize=1024)
def read_settings(spec: str) -> dict[str, Any]:
    """What ``write_spec`` wrote: basis (class), arguments, base, zero_preserving, columns, backend."""
    settings = cast("dict[str, Any]", json.loads(spec))
    return {**settings, "basis": _class(settings["basis"])}


def _class(name: str) -> type[Basis]:
    if name not in _CLASSES:
        module, _, path = name.partition(":")
        _CLASSES[name] = functools.reduce(getattr, path.split("."), cast("Any", importlib.import_module(module)))
    return _CLASSES[name]
