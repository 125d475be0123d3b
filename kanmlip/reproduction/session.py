"""One call of ``kanmlip-reproduce``: runs, benchmarks, tables, and what became of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from kanmlip.errors import ConfigError
from kanmlip.experiment.folders import results_root, sweep_path
from kanmlip.experiment.stop import GO_ON, stop_requested, stoppable
from kanmlip.experiment.summary import exit_code, format_summary, outcomes, write_summary
from kanmlip.reproduction.benchmarks import MDBenchmark
from kanmlip.reproduction.estimate import Estimate
from kanmlip.reproduction.execution import execute
from kanmlip.reproduction.expansion import Step
from kanmlip.reproduction.listing import available_cores
from kanmlip.reproduction.progress import Standing
from kanmlip.reproduction.wandb_report import log_report


def choose_jobs(asked: int | None, estimates: Sequence[Estimate]) -> int:
    """Runs at a time: one a GPU, as ``trainer.gpu_slots`` has it, else one a core; never more than the memory that is free holds.

    Args:
        asked: What the user wants, none to leave it to us.
        estimates: Of all runs.

    Raises:
        ConfigError: If fewer than one was asked for.
    """
    if asked is not None:
        if asked < 1:
            raise ConfigError(f"--jobs={asked} must be 1 or more")
        return asked
    import torch

    jobs = torch.cuda.device_count() or available_cores()
    largest = max((estimate.memory_MB for estimate in estimates), default=1.0)
    return max(1, min(jobs, int(_free_memory_mb() / largest)))


def run_all(
    left: Sequence[tuple[Standing, Estimate]],
    wanted: Sequence[Step],
    benchmark: MDBenchmark | None,
    jobs: int,
    reproduction: Path | None,
    arguments: list[str],
) -> int:
    """Run what is left, then the benchmarks, then make tables and report of all records.

    Args:
        left: Runs to make, with their cost.
        wanted: All runs, made before or not: whether and where the report is logged is a setting of theirs.
        benchmark: Of molecular dynamics; none to leave it out.
        jobs: Runs at a time.
        reproduction: File of the form of conf/reproduction.yaml that the tables are of; none for that one.
        arguments: Of the command, for the summary.

    Returns:
        The exit code of the command.
    """
    steps = [standing.step for standing, _ in left]
    with stoppable(None):
        execute([standing for standing, _ in left], [estimate.seconds for _, estimate in left], jobs)
        stopped = stop_requested() != GO_ON
    rows = outcomes([step.planned for step in steps])
    if rows:
        print(f"\n{format_summary(rows)}", flush=True)
        write_summary(sweep_path(datetime.now(UTC).strftime("%Y%m%dT%H%M%S") + f"-{os.getpid()}"), rows, arguments)
    if stopped:
        sys.stderr.write("kanmlip-reproduce: interrupted; the same command goes on\n")
        return 130
    measured = benchmark is None or benchmark.run()
    if benchmark is not None and not measured:
        cells = ", ".join(map(str, benchmark.missing()))
        sys.stderr.write(f"kanmlip-reproduce: no MD benchmark of {cells} atoms was made; again: {' '.join(benchmark.command())}\n")
    made = make_tables(reproduction)
    settings = next((step.planned.config for step in wanted if step.planned.config.logger.wandb), None)
    if made and settings is not None:
        log_report(settings.logger, results_root(), settings.budget.name)
    return 0 if measured and made and (not rows or exit_code(rows, stopped) == 0) else 1


def make_tables(reproduction: Path | None) -> bool:
    """Call ``kanmlip-tables`` for all records; its Markdown is in the files that it writes. Says whether it went well."""
    of = [] if reproduction is None else ["--reproduction", str(reproduction)]
    done = subprocess.run([sys.executable, "-m", "kanmlip.cli.tables", *of], capture_output=True, text=True, check=False)
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        root = results_root()
        report = root / "REPORT.md"
        print(f"tables: {root / 'tables'}" + (f"; report: {report}" if report.is_file() else ""), flush=True)
    return done.returncode == 0


def _free_memory_mb() -> float:
    """What new processes can have, caches included; no limit where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("MemAvailable:")), float("inf"))
