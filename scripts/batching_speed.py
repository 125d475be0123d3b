"""Structures a second of batches filled by size over those of a fixed number of structures, at equal peak memory (issue 7's bar: 1.3).

    python scripts/batching_speed.py                              # MACE on carbon, small, CPU, one thread: some ten minutes
    python scripts/batching_speed.py --device cuda --size gpu --batch-size 16

Writes ``batching_<model>_<size>_fixed<batch size>.md`` and ``.json`` into the results root's ``benchmarks``. Run it on an otherwise
idle machine.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path


def main() -> int:
    """Measure, write, print."""
    options = parse()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before torch is loaded
    from kanmlip.benchmark.batching import Contest, compare, plain, report
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.report import environment_lines, write
    from kanmlip.errors import KanmlipError
    from kanmlip.experiment import results_root
    from kanmlip.experiment.environment import describe

    contest = Contest(
        options.model, options.size, options.dataset, options.frames or None, options.batch_size, options.device, options.rounds,
        options.threads,
    )  # fmt: skip
    watch = Watch()
    try:
        outcome = compare(contest, lambda text: print(text, file=sys.stderr, flush=True))
    except KanmlipError as error:
        print(f"batching_speed: {error}", file=sys.stderr)
        return error.exit_code
    quietness, environment = watch.stop(), describe(contest.device, contest.threads, contest.dataset)
    markdown = report(contest, outcome, environment_lines(environment, contest.rounds, quietness))
    threads = f"_{contest.threads}threads" if contest.threads > 1 else ""
    name = f"batching_{contest.model}_{contest.size}_fixed{contest.batch_size}{threads}"
    write(options.output or results_root() / "benchmarks", name, markdown, plain(contest, outcome, environment, asdict(quietness)))
    print(markdown)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mace")
    parser.add_argument("--size", default="small", help="column of the sizes in conf/model (default %(default)s)")
    parser.add_argument("--dataset", default="carbon")
    parser.add_argument(
        "--frames", type=int, default=0, help="training structures, the first so many; 0 for all 100 of the budget's (default %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, default=5, help="of the fixed batches (default %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="epochs of each (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of the process (default %(default)s)")
    parser.add_argument("--output", type=Path, default=None, help="folder (default: benchmarks in the results root)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
