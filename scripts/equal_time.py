"""How much wider an MLP is than a KAN of equal time: the ``cost_ratio`` of the presets table*_control_time.

    python scripts/equal_time.py                  # the readout of Allegro's budget `small`: 15,000 edges, 64 -> 32 -> 1

A force-training step (energy, forces, gradient of both by the weights) of the KAN is timed beside that of MLPs of growing width, in
turns in one process. The ratio printed is that of multiplications, MLP over MLP of the KAN's widths, at which the two take equally
long, by interpolation between the widths on either side. One thread, float32, on the device there is.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kanmlip.benchmark.contenders import parse_basis
from kanmlip.kan import KAN
from kanmlip.placement.dense import DenseHead
from kanmlip.placement.widths import dense_weights

FACTORS = (1, 2, 3, 4, 6, 8, 12, 16)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=15_000, help="edges or atoms of a batch")
    parser.add_argument("--widths", default="64,32,1", help="of the KAN, input first")
    parser.add_argument("--bases", default="gaussian,bspline", help="names of conf/basis, such as bspline:grid=3")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    widths = tuple(int(width) for width in options.widths.split(","))
    x = torch.randn(options.rows, widths[0], device=device)
    mlps = {factor: DenseHead((widths[0], *(factor * w for w in widths[1:-1]), widths[-1])).to(device) for factor in FACTORS}
    for name in options.bases.split(","):
        networks: dict[int, nn.Module] = {0: KAN(widths, parse_basis(name)).to(device), **mlps}
        times = time_in_turns({key: step(network, x) for key, network in networks.items()}, options.rounds)
        ratios = {factor: statistics.median(m / k for m, k in zip(times[factor], times[0], strict=True)) for factor in FACTORS}
        work = {factor: dense_weights(mlp.widths) / dense_weights(widths) for factor, mlp in mlps.items()}
        print(f"{name}, {options.rows} rows, {options.widths}, {device}: MLP time / KAN time by width:", end=" ")
        print(", ".join(f"x{factor}: {ratio:.2f}" for factor, ratio in ratios.items()))
        print(f"  cost_ratio {crossing(work, ratios):.1f}")


def step(network: nn.Module, x: Tensor) -> Callable[[], None]:
    """A force-training step of a network alone."""

    def run() -> None:
        position = x.clone().requires_grad_(True)
        (force,) = torch.autograd.grad(network(position).sum(), position, create_graph=True)
        force.square().sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def time_in_turns(steps: dict[int, Callable[[], None]], rounds: int) -> dict[int, list[float]]:
    """Seconds of each step by round, the order turned about from round to round; two rounds go before."""
    times: dict[int, list[float]] = {key: [] for key in steps}
    for index in range(rounds + 2):
        for key in sorted(steps, reverse=bool(index % 2)):
            start = time.perf_counter()
            steps[key]()
            if index >= 2:
                times[key].append(time.perf_counter() - start)
    return times


def crossing(work: dict[int, float], ratios: dict[int, float]) -> float:
    """The work at which the ratio of times is one, linear in the logarithms between the two nearest widths."""
    above = next((factor for factor in FACTORS if ratios[factor] >= 1), FACTORS[-1])
    below = max((factor for factor in FACTORS if factor < above), default=above)
    if below == above:
        return work[above]
    share = -math.log(ratios[below]) / (math.log(ratios[above]) - math.log(ratios[below]))
    return math.exp(math.log(work[below]) + share * (math.log(work[above]) - math.log(work[below])))


if __name__ == "__main__":
    main()
