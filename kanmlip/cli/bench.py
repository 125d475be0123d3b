"""``kanmlip-bench``: what KANs cost against MLPs, as a layer and in whole models; Markdown and JSON under results/benchmarks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kanmlip.cli import answer, bench_kan, bench_md, bench_step


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for wrong input."""
    options = parser().parse_args(arguments)
    return answer("kanmlip-bench", lambda: options.run(options))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="kanmlip-bench", description="Measure KANs against MLPs: interleaved, one thread, ratios in rounds.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    kan = commands.add_parser("kan", help="layers: three passes, peak memory, least time possible")
    bench_kan.add_options(kan)
    step = commands.add_parser("step", help="whole models: training step, MD step, our trainer against the upstream one")
    bench_step.add_options(step)
    md = commands.add_parser("md", help="molecular dynamics of 71, 568 and 4,544 atoms: time of a step and memory (Table 4)")
    bench_md.add_options(md)
    for command in (kan, step, md):
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        command.add_argument(
            "--rounds", type=int, default=25 if command is md else 21, help="turns of each contender (default %(default)s)"
        )
        command.add_argument("--output", type=Path, default=None, help="folder (default: benchmarks in the results root)")
    return top


if __name__ == "__main__":
    sys.exit(main())
