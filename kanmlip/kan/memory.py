"""Memory on the CPU that is used again: the system's is handed out page by page, which takes longer than filling it once."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

# Elements that a thread may hold on to between calls; who wants more gets new memory each time.
_HELD = 1 << 22
# Pieces of one size that wait for their next use.
_SPARE = 12


class _Scratch(threading.local):
    """One piece a thread."""

    def __init__(self) -> None:
        self.held: dict[torch.dtype, Tensor] = {}

    def take(self, like: Tensor, size: int) -> Tensor:
        held = self.held.get(like.dtype)
        if held is None or held.numel() < size:
            held = _new(like, size)
            if size <= _HELD:
                self.held[like.dtype] = held
        return held[:size]


class Pool:
    """Pieces that are lent and given back."""

    def __init__(self) -> None:
        self._spare: dict[tuple[torch.dtype, int], list[Tensor]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, like: Tensor, size: int) -> Tensor:
        """At least ``size`` elements of the dtype of ``like``."""
        size = 1 << (size - 1).bit_length()
        with self._lock:
            spare = self._spare[like.dtype, size]
            if spare:
                return spare.pop()
        return _new(like, size)

    @contextmanager
    def lend(self, like: Tensor, sizes: Sequence[int]) -> Iterator[list[Tensor]]:
        """One piece of exactly each size, on the device and in the dtype of ``like``, until the block ends."""
        if like.is_cuda:
            yield [like.new_empty(size) for size in sizes]
            return
        pieces = [self.take(like, size) for size in sizes]
        try:
            yield [piece[:size] for piece, size in zip(pieces, sizes, strict=True)]
        finally:
            for piece in pieces:
                self.give(piece)

    def give(self, memory: Tensor) -> None:
        """Take back what nobody reads any more."""
        with self._lock:
            spare = self._spare[memory.dtype, memory.numel()]
            if len(spare) < _SPARE:
                spare.append(memory)

    def __len__(self) -> int:
        """Pieces that wait."""
        return sum(len(spare) for spare in self._spare.values())


_scratch = _Scratch()
pool = Pool()


def scratch(like: Tensor, size: int) -> Tensor:
    """``size`` elements on the device and in the dtype of ``like``, to be used up before this thread asks for more."""
    return like.new_empty(size) if like.is_cuda else _scratch.take(like, size)


def _new(like: Tensor, size: int) -> Tensor:
    with torch.inference_mode(False):
        return torch.empty(size, dtype=like.dtype)
