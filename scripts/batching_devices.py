"""Structures a second of several processes: batches filled by size over those of a fixed number of structures (issue 7's bar: 1.3).

    python scripts/batching_devices.py                                   # MACE on carbon, small, two processes of one thread
    python scripts/batching_devices.py --device cuda --size gpu --batch-size 32

A batch of a few structures of 4 to 216 atoms cannot be divided evenly, and every update waits for the process that got most. Whole runs
of ``kanmlip-train`` take turns (A/B/B/A). The limits by size are the atoms and edges of the largest batch of the fixed kind that there can
be, so that each process holds no more at a time than it may then; peak memory is compared all the same. ``scripts/batching_speed.py``
is the comparison within one process. Writes ``batching_<model>_<size>_fixed<batch size>_<devices>devices.md`` and ``.json``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np


def main() -> int:
    """Measure, write, print."""
    from kanmlip.benchmark.bars import Bar
    from kanmlip.benchmark.batching import BY_SIZE, FIXED, GAIN, Contest, filled, prepare, rule
    from kanmlip.benchmark.interleave import paired
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.report import bars_table, environment_lines, table, write
    from kanmlip.benchmark.whole_runs import Trained, train
    from kanmlip.data.batching import Limits, Sizes
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment import results_root
    from kanmlip.experiment.environment import describe

    options = parse()
    contest = Contest(options.model, options.size, options.dataset, None, options.batch_size, options.device, options.rounds)
    watch = Watch()
    try:
        sizes = Sizes.of(prepare(contest).graphs)
        fixed = Limits(options.batch_size)
        limits = {FIXED: fixed, BY_SIZE: filled(sizes, fixed)}
        found: dict[str, list[Trained]] = {FIXED: [], BY_SIZE: []}
        for turn in range(options.rounds):
            for name in limits if turn % 2 == 0 else reversed(limits):
                found[name].append(train([*common(options), *settings(limits[name], options.devices)]))
                print(f"{name}: {found[name][-1].metrics['time/per_epoch_s']:.3f} s an epoch", file=sys.stderr, flush=True)
    except KanmlipError as error:
        print(f"batching_devices: {error}", file=sys.stderr)
        return error.exit_code
    quietness, environment = watch.stop(), describe(options.device, 1, options.dataset)
    seconds = {name: np.array([run.metrics["time/per_epoch_s"] for run in runs]) for name, runs in found.items()}
    peaks = {name: max(run.peak_mib for run in runs) for name, runs in found.items()}
    gain = paired(seconds[FIXED], seconds[BY_SIZE])
    fair = peaks[BY_SIZE] <= 1.01 * peaks[FIXED]
    bar = Bar(f"structures a second of {options.devices} processes: by size / fixed", GAIN, gain if fair else None, at_least=True)
    count = len(sizes.edges)
    rows = [
        (f"{name}: {rule(each)}", f"{peaks[name]:.0f}", f"{np.median(seconds[name]):.3f}", f"{count / np.median(seconds[name]):.2f}")
        for name, each in limits.items()
    ]
    markdown = (
        f"# Batches filled by size, {options.devices} processes\n\n{environment_lines(environment, options.rounds, quietness)}\n"
        f"{options.model}, size {options.size}, MLPs; {count} training structures of {options.dataset}; whole runs of {options.epochs} "
        f"epochs in turns (A/B/B/A), one thread or one GPU a process. The limits are the atoms and edges of the largest fixed batch that "
        f"there can be; peak memory is the resident set of the largest process, libraries included.\n\n"
        + table(("batches", "peak memory of a process, MiB", "seconds an epoch", "structures a second"), rows)
        + f"\nBy size / fixed: {gain} times as many structures a second.\n\n{bars_table([bar])}"
    )
    plain = {
        "environment": environment, "machine": asdict(quietness), "options": {k: str(v) for k, v in vars(options).items()},
        "limits": {name: asdict(each) for name, each in limits.items()}, "seconds": {name: list(s) for name, s in seconds.items()},
        "peaks_mib": {name: [run.peak_mib for run in runs] for name, runs in found.items()}, "gain": asdict(gain), "bars": [bar.to_dict()],
    }  # fmt: skip
    name = f"batching_{options.model}_{options.size}_fixed{options.batch_size}_{options.devices}devices"
    write(options.output or results_root() / "benchmarks", name, markdown, plain)
    print(markdown)
    return 0


def common(options: argparse.Namespace) -> list[str]:
    """What both kinds of runs share: the budget's training set, and as little evaluation as there can be, a structure at a time."""
    return [
        f"model={options.model}", f"dataset={options.dataset}", "budget=small", f"budget.size={options.size}", "placement=none",
        f"trainer.device={options.device}", f"trainer.max_epochs={options.epochs}", "trainer.eval_batch_size=1", *options.set,
    ]  # fmt: skip


def settings(limits: object, devices: int) -> list[str]:
    """Of batches of one kind."""
    given = {"batch_size": "structures", "batch_atoms": "atoms", "batch_edges": "edges"}
    values = {key: getattr(limits, name) for key, name in given.items()}
    return [f"trainer.devices={devices}", *(f"trainer.{key}={value}" for key, value in values.items() if value is not None)]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace")
    parser.add_argument("--size", default="small", help="column of the sizes in conf/model (default %(default)s)")
    parser.add_argument("--dataset", default="carbon")
    parser.add_argument("--devices", type=int, default=2, help="processes of each run (default %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch-size", type=int, default=2, help="structures of a fixed batch on all processes (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=5, help="of each run (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default %(default)s)")
    parser.add_argument(
        "--set", nargs="*", default=["dataset.n_val=4", "dataset.n_test=4"], metavar="KEY=VALUE",
        help="further settings (default %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=None, help="folder (default: benchmarks in the results root)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
