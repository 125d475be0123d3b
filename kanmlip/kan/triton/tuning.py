"""Tile sizes of the kernels: a committed table, and what measures a new one."""

from __future__ import annotations

import copy
import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kanmlip.kan.expansion import Expansion

Kernel = Literal["output", "input", "weight"]
KERNELS: tuple[Kernel, ...] = ("output", "input", "weight")
# Least sizes of ``tl.dot``; with fewer outputs sums are taken element by element.
DOT_LEAST = 16


class Tiles(NamedTuple):
    """How a kernel is cut into programs; all sizes are powers of two.

    Attributes:
        rows: Rows of a tile.
        inputs: Inputs of a tile.
        outputs: Outputs of a tile.
        warps: Warps a program.
        stages: Depth of the software pipeline.
        precision: ``input_precision`` of float32 products: ``ieee``; ``tf32x3`` three tensor core products, nearly float32;
            ``tf32`` one, with errors of 1e-3.
    """

    rows: int
    inputs: int
    outputs: int
    warps: int = 4
    stages: int = 2
    precision: str = "ieee"


Bucket = tuple[Kernel, str, str, str]

# Untuned: chosen by reasoning, not yet measured on a GPU. Compiled for sm_90 (triton 3.9) they spill at most eight words a
# thread; the stack of ``wave`` is that of libdevice's range reduction. Inputs do not matter here; ``tune`` tells them apart.
_DEFAULTS: dict[tuple[Kernel, str, str], Tiles] = {
    ("output", "float32", "few"): Tiles(32, 32, 8),
    ("output", "float32", "64"): Tiles(64, 16, 64),
    ("output", "float32", "more"): Tiles(128, 16, 64, warps=8),
    ("input", "float32", "few"): Tiles(32, 32, 8),
    ("input", "float32", "64"): Tiles(64, 16, 64),
    ("input", "float32", "more"): Tiles(64, 16, 64),
    ("weight", "float32", "few"): Tiles(32, 32, 8),
    ("weight", "float32", "64"): Tiles(32, 32, 64),
    ("weight", "float32", "more"): Tiles(32, 32, 64),
    ("output", "float64", "few"): Tiles(32, 16, 4),
    ("output", "float64", "64"): Tiles(32, 16, 32),
    ("output", "float64", "more"): Tiles(32, 16, 32),
    ("input", "float64", "few"): Tiles(32, 16, 4),
    ("input", "float64", "64"): Tiles(32, 16, 32),
    ("input", "float64", "more"): Tiles(32, 16, 32),
    ("weight", "float64", "few"): Tiles(32, 16, 4),
    ("weight", "float64", "64"): Tiles(64, 16, 32),
    ("weight", "float64", "more"): Tiles(64, 16, 32),
}
# Measured by ``tune``; device, date and commit belong beside the rows.
TABLE: dict[Bucket, Tiles] = {}


def bucket(kernel: Kernel, dtype: torch.dtype, inputs: int, outputs: int) -> Bucket:
    """Row of the table for a layer: kernel, dtype, inputs up to 32, up to 128 or more, outputs below 16, up to 64 or more."""
    wide = "32" if inputs <= 32 else "128" if inputs <= 128 else "more"
    out = "few" if outputs < DOT_LEAST else "64" if outputs <= 64 else "more"
    return kernel, str(dtype).removeprefix("torch."), wide, out


def choose(kernel: Kernel, dtype: torch.dtype, inputs: int, outputs: int) -> Tiles:
    """Tiles for a layer: the table's, or else the defaults."""
    key = bucket(kernel, dtype, inputs, outputs)
    return TABLE[key] if key in TABLE else _DEFAULTS[key[0], key[1], key[3]]


def candidates(kernel: Kernel, dtype: torch.dtype, outputs: int) -> Iterator[Tiles]:
    """What ``tune`` tries: sizes whose tiles fit the registers, and for float32 products both exact precisions."""
    few = outputs < DOT_LEAST
    limit = (4096 if dtype == torch.float32 else 2048) // (2 if few else 1)
    tops = (4, 8) if few else (16, 32, 64, 128)
    for rows, inputs, out, warps, stages in itertools.product((16, 32, 64, 128), (16, 32, 64), tops, (4, 8), (2, 3)):
        accumulator = {"output": rows * out, "input": rows * inputs, "weight": inputs * out}[kernel]
        largest = rows * inputs * out if few else max(rows * inputs, accumulator)
        if largest > limit * (4 if few else 1) * warps // 4 or (few and stages == 3) or rows * inputs < 512:
            continue
        for precision in ("ieee", "tf32x3") if dtype == torch.float32 and not few else ("ieee",):
            yield Tiles(rows, inputs, out, warps, stages, precision)


def tune(
    expansion: Expansion,
    shapes: Iterable[tuple[int, int, int]] = ((100_000, 128, 32), (100_000, 32, 1), (100_000, 256, 128)),
    dtypes: Iterable[torch.dtype] = (torch.float32,),
    order: int = 1,
    seconds: float = 300.0,
) -> dict[Bucket, Tiles]:
    """Measure candidates with ``triton.testing.do_bench`` on CUDA and print the rows of ``TABLE`` to commit.

    A candidate must agree with the defaults to 1e-6 of the largest entry in float32, 1e-12 in float64, so that ``tf32x3`` is taken
    only where it is exact enough. What is not measured when the time is up keeps its default.

    Args:
        expansion: Functions; a B-spline's have the most registers.
        shapes: Rows, inputs and outputs.
        dtypes: Of the tensors.
        order: Order of differentiation.
        seconds: Time in all.

    Raises:
        ValueError: Without a CUDA device.
    """
    if not torch.cuda.is_available():
        raise ValueError("device=cuda is not there, and tiles measured elsewhere mean nothing; run tune on a machine with a GPU")
    end = time.perf_counter() + seconds
    jobs = list(itertools.product(dtypes, shapes, KERNELS))
    found: dict[Bucket, Tiles] = {}
    for number, (dtype, (rows, inputs, outputs), kernel) in enumerate(jobs):
        share = time.perf_counter() + (end - time.perf_counter()) / (len(jobs) - number)
        run = _job(kernel, copy.deepcopy(expansion).to(device="cuda", dtype=dtype), (rows, inputs, outputs), dtype, order)
        best = _fastest(run, candidates(kernel, dtype, outputs), choose(kernel, dtype, inputs, outputs), share)
        if best is not None:
            key = bucket(kernel, dtype, inputs, outputs)
            found[key] = best[0]
            sys.stdout.write(f"    {key!r}: {best[0]!r},  # {best[1] * 1e3:.0f} µs at {rows} × {inputs} × {outputs}\n")
    return found


def _job(kernel: Kernel, expansion: Expansion, shape: tuple[int, int, int], dtype: torch.dtype, order: int) -> Callable[[Tiles], Tensor]:
    """One contraction of random tensors, as a function of the tiles."""
    from kanmlip.kan.triton import launch

    rows, inputs, outputs = shape
    generator = torch.Generator("cuda").manual_seed(0)

    def random(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=dtype, device="cuda")

    x, v, g = random(rows, inputs), random(rows, inputs), random(rows, outputs)
    weight = random(outputs, expansion.columns, inputs)
    if kernel == "output":
        return lambda tiles: launch.launch_output(expansion, x, v, weight, None, order, tiles)
    if kernel == "input":
        return lambda tiles: launch.launch_input(expansion, x, g, weight, None, order, tiles)
    return lambda tiles: launch.launch_weight(expansion, x, v, g, None, order, tiles)


def _fastest(run: Callable[[Tiles], Tensor], tries: Iterator[Tiles], start: Tiles, end: float) -> tuple[Tiles, float] | None:
    """The candidate of the least median time, ms; None if not even the first could run."""
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    best: tuple[Tiles, float] | None = None
    reference = run(start)
    bar = (1e-6 if reference.dtype == torch.float32 else 1e-12) * float(reference.abs().max())
    for tiles in itertools.chain([start], tries):
        if best is not None and time.perf_counter() > end:
            break
        try:
            error = float((run(tiles) - reference).abs().max())
        except OutOfResources:  # shared memory; a smaller candidate will do
            continue
        if error <= bar:
            median = float(do_bench(lambda tiles=tiles: run(tiles), warmup=5, rep=20, return_mode="median"))
            best = (tiles, median) if best is None or median < best[1] else best
    return best
