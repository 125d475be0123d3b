"""A training epoch in several processes over one in one process, one thread or one GPU each (issue 7's bar: 1.5 with two).

    python scripts/device_speed.py                                         # MACE on carbon, small, two processes of one thread
    python scripts/device_speed.py --devices 1,2,4 --device cuda --size gpu --set trainer.batch_size=32

Whole runs of ``kanmlip-train`` in turns (A/B/B/A), each in a results root of its own that is removed afterwards. Compared are the
medians of their epochs (``time/per_epoch_s``, validation not counted) and, since a run is the same run however many processes make
it, their metrics. Writes ``devices_<model>_<size>.md`` and ``.json`` into the results root's ``benchmarks``. Run it on an otherwise
idle machine.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

BAR = 1.5  # DESIGN's correction: on two cores, which the two processes also share with the system
METRICS = ("val/force_mae_eV_per_A", "val/energy_mae_eV_per_atom", "test/force_mae_eV_per_A")


def main() -> int:
    """Measure, write, print."""
    from kanmlip.benchmark.bars import Bar
    from kanmlip.benchmark.interleave import Ratio, paired
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.report import bars_table, environment_lines, table, write
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment import results_root
    from kanmlip.experiment.environment import describe

    options = parse()
    counts = [int(count) for count in options.devices.split(",")]
    if counts[0] != 1 or len(counts) < 2:
        print("device_speed: --devices must begin with 1, which the others are compared with, such as 1,2", file=sys.stderr)
        return 2
    watch = Watch()
    seconds: dict[int, list[float]] = {count: [] for count in counts}
    metrics: dict[int, dict[str, Any]] = {}
    for turn in range(options.rounds):
        for count in counts if turn % 2 == 0 else reversed(counts):
            try:
                metrics[count] = run(options, count)
            except KanmlipError as error:
                print(f"device_speed: {error}", file=sys.stderr)
                return error.exit_code
            seconds[count].append(metrics[count]["time/per_epoch_s"])
            print(f"{count} process(es): {seconds[count][-1]:.3f} s an epoch", file=sys.stderr, flush=True)
    quietness, environment = watch.stop(), describe(options.device, 1, options.dataset)
    times = {count: np.array(values) for count, values in seconds.items()}
    speedups: dict[int, Ratio] = {count: paired(times[1], times[count]) for count in counts}
    bars = [Bar("an epoch in 1 process / in 2", BAR, speedups[2], at_least=True)] if 2 in counts else []
    rows = []
    for count in counts:
        found = (f"{metrics[count].get(key, float('nan')):.10g}" for key in METRICS)
        rows.append((str(count), f"{np.median(times[count]):.3f}", str(speedups[count]), *found))
    markdown = (
        f"# Processes that divide each batch\n\n{environment_lines(environment, options.rounds, quietness)}\n{options.model}, size "
        f"{options.size}, {options.dataset}, {' '.join(options.set)}; {options.epochs} epochs a run, one thread or one GPU each.\n\n"
        + table(("processes", "seconds an epoch", "times as fast as one", *METRICS), rows)
        + (f"\n{bars_table(bars)}" if bars else "")
    )
    plain = {
        "environment": environment, "machine": asdict(quietness), "options": {k: str(v) for k, v in vars(options).items()},
        "seconds": seconds, "speedups": {count: vars(ratio) for count, ratio in speedups.items()}, "metrics": metrics,
        "bars": [bar.to_dict() for bar in bars],
    }  # fmt: skip
    write(options.output or results_root() / "benchmarks", f"devices_{options.model}_{options.size}", markdown, plain)
    print(markdown)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace")
    parser.add_argument("--size", default="small", help="column of the sizes in conf/model (default %(default)s)")
    parser.add_argument("--dataset", default="carbon")
    parser.add_argument("--devices", default="1,2", help="numbers of processes, 1 first (default %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--epochs", type=int, default=5, help="of each run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default %(default)s)")
    # Two structures of 4 to 216 atoms cannot be divided evenly; batches of some hundred atoms can.
    parser.add_argument(
        "--set", nargs="*", default=["trainer.batch_atoms=864", "dataset.n_train=60", "dataset.n_val=4", "dataset.n_test=4"],
        metavar="KEY=VALUE", help="further settings (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=None, help="folder (default: benchmarks in the results root)")
    return parser.parse_args()


def run(options: argparse.Namespace, devices: int) -> dict[str, Any]:
    """Metrics of one run."""
    from kanmlip.benchmark.whole_runs import train

    arguments = [
        f"model={options.model}", f"dataset={options.dataset}", "budget=small", f"budget.size={options.size}", "placement=none",
        f"trainer.device={options.device}", f"trainer.devices={devices}", f"trainer.max_epochs={options.epochs}", *options.set,
    ]  # fmt: skip
    return train(arguments).metrics


if __name__ == "__main__":
    sys.exit(main())
