"""The processes that train one model together, each with its part of every batch.

On plain ``torch.distributed``, not on DistributedDataParallel (Lightning's strategy for it included): that averages the processes'
gradients with equal weight, wants every process to have structures and every parameter a gradient, and cuts them into buckets. Here each
process computes its part of the loss of the whole batch, of which every process knows the size, and gradients are summed, which is one
process's gradient up to the order of a sum. They are a few MB: one message.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kanmlip.errors import LostProcessError
from kanmlip.experiment.death import is_out_of_memory

# Processes may wait for the first one to validate or write; that one is dead is known otherwise (kanmlip.experiment.companions).
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run. Every method is called by all of them, in the same order.

    Attributes:
        rank: Number of this process; 0 is the one that reports and writes files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def share(self, data: Any, device: torch.device | str = "cpu") -> Any:
        """The first process's data on all of them.

        Args:
            data: Tensors and plain data, as ``torch.load(weights_only=True)`` reads them; ignored but on the first process.
            device: Where tensors go.
        """
        if self.size == 1:
            return data
        content = _pack(data) if self.leads else torch.empty(0, dtype=torch.uint8)
        length = torch.tensor([len(content)])
        with _connected():
            dist.broadcast(length, 0)
            if not self.leads:
                content = torch.empty(int(length), dtype=torch.uint8)
            dist.broadcast(content, 0)
        return _unpack(content, device)

    def gather(self, data: Any) -> list[Any]:
        """Every process's data, in the order of ranks, on all of them; plain data and tensors, which arrive on the CPU."""
        if self.size == 1:
            return [data]
        content = _pack(data)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with _connected():
            dist.all_gather(lengths, torch.tensor([len(content)]))
            longest = max(int(length) for length in lengths)
            contents = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(contents, nn.functional.pad(content, (0, longest - len(content))))
        return [_unpack(content[: int(length)], "cpu") for content, length in zip(contents, lengths, strict=True)]

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace every gradient by its sum over the processes; a parameter that has none anywhere keeps none.

        One that only some processes' structures reach (none, where a process has no structure) counts as zero on the others.
        """
        if self.size == 1:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        with _connected():
            dist.all_reduce(present, dist.ReduceOp.MAX)
            reached = [p for p, there in zip(parameters, present.tolist(), strict=True) if there]
            for dtype in dict.fromkeys(p.dtype for p in reached):
                group = [p for p in reached if p.dtype == dtype]
                flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in group])
                dist.all_reduce(flat)
                for p, piece in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
                    p.grad = piece.view(p.shape)

    def check_equal(self, module: nn.Module, when: str) -> None:
        """Check that all processes have the same parameters and buffers, to the last bit.

        Raises:
            RuntimeError: If not: a fault of kanmlip or of the machine.
        """
        if self.size == 1:
            return
        sums = self.gather(torch.tensor([_checksum(tensor) for _, tensor in _named_tensors(module)]))
        for rank, other in enumerate(sums):
            if not torch.equal(other, sums[0]):
                names = [name for name, _ in _named_tensors(module)]
                name = names[int((other != sums[0]).nonzero()[0])] if other.shape == sums[0].shape else "the number of tensors"
                raise RuntimeError(f"{when}, processes 0 and {rank} of this run differ in {name}; please report this")


ALONE = Ranks()


@contextmanager
def joined(rank: int, size: int, meeting: Path, gpu: int | None = None) -> Iterator[Ranks]:
    """Meet the other processes of a run on this machine; returns when all are there.

    Args:
        rank: Of this process.
        size: How many there are.
        meeting: A file in a folder of this run alone; none of the processes listens for strangers.
        gpu: Which one this process has to itself; none on the CPU.

    Raises:
        LostProcessError: Out of any exchange, if another process is gone.
    """
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # everything stays on this machine
    if gpu is not None:
        torch.cuda.set_device(gpu)
    backend = "gloo" if gpu is None else "cpu:gloo,cuda:nccl"
    with _connected():
        dist.init_process_group(backend, init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=PATIENCE)
    yield Ranks(rank, size)
    # Not after an exception, when others may be gone and would be waited for: this process ends then.
    dist.destroy_process_group()


@contextmanager
def _connected() -> Iterator[None]:
    """Errors of an exchange as one of ours; that memory runs out in one is nobody's disappearance."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise LostProcessError("another process of this run is gone; the same command resumes it") from error


def _pack(data: Any) -> Tensor:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def _unpack(content: Tensor, device: torch.device | str) -> Any:
    return torch.load(io.BytesIO(content.numpy().tobytes()), map_location=device, weights_only=True)


def _named_tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _checksum(tensor: Tensor) -> int:
    """Of every bit, and of where it is."""
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).to(torch.int64)
    return int((flat * (torch.arange(len(flat)) % 65521 + 1)).sum()) if len(flat) else 0
