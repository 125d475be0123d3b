"""``kanmlip-reproduce``: every run behind the paper's tables and our controls, then the tables."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from kanmlip.cli import answer

BUDGETS = ("smoke", "small", "gpu", "paper")
# Three are the paper's; a smoke test has one, and what the paper prints by seed besides.
SEEDS = {"smoke": "1111"}
DEFAULT_SEEDS = "1111,2222,3333"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; exit codes: 0 all done, 1 something failed, 2 wrong input and nothing started, 130 interrupted and resumable."""
    parser = argparse.ArgumentParser(
        prog="kanmlip-reproduce",
        description="Train what the paper's tables and our controls need, the most telling comparisons first, then make tables and report. "
        "What is done is skipped, what was interrupted is resumed, what failed is run again.",
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="such as logger=wandb or trainer.device=cpu, for every run")
    parser.add_argument("--budget", choices=BUDGETS, default="smoke", help="(default %(default)s)")
    parser.add_argument("--seeds", default=None, help=f"such as 1,2,3 (default {DEFAULT_SEEDS}; smoke: {SEEDS['smoke']})")
    parser.add_argument("--dry-run", action="store_true", help="list the runs with their estimated cost, and start nothing")
    parser.add_argument("--jobs", type=int, default=None, help="runs at a time (default: one a GPU, else one a core)")
    parser.add_argument("--stages", default="", help="only these stages of conf/reproduction.yaml, such as headline,controls")
    parser.add_argument("--tables", default="", help="only what these tables need, such as 3,5")
    parser.add_argument("--renew", action="store_true", help="make runs again whose records are of an older form")
    parser.add_argument("--reproduction", type=Path, default=None, help="a file of the form of conf/reproduction.yaml")
    parser.add_argument("--config-dir", type=Path, default=None, help="a folder of your own with configuration groups")
    options = parser.parse_intermixed_args(arguments)
    # Workers and the commands at the end inherit it.
    os.environ["KANMLIP_RESULTS"] = str(Path(os.environ.get("KANMLIP_RESULTS") or "results").absolute())
    return answer("kanmlip-reproduce", lambda: reproduce(options))


def reproduce(options: argparse.Namespace) -> int:
    """Plan, list, run and report.

    Raises:
        KanmlipError: For wrong input; nothing was started then.
    """
    from kanmlip.experiment.composition import Sources
    from kanmlip.experiment.devices import check_here
    from kanmlip.experiment.folders import conf_dir, results_root
    from kanmlip.report.records import read_evidence
    from kanmlip.report.study import default_study_path, load_study
    from kanmlip.reproduction.benchmarks import md_benchmark
    from kanmlip.reproduction.estimate import Estimator
    from kanmlip.reproduction.expansion import Expansion
    from kanmlip.reproduction.listing import list_runs
    from kanmlip.reproduction.progress import standing
    from kanmlip.reproduction.session import choose_jobs, run_all
    from kanmlip.reproduction.spec import load_runs

    seeds = parse_seeds(options.seeds or SEEDS.get(options.budget, DEFAULT_SEEDS))
    runs = load_runs(options.reproduction or default_study_path())
    load_study(options.reproduction)  # what the tables would refuse at the end
    stages, with_benchmarks = runs.chosen(_names(options.stages), _names(options.tables))
    results, evidence = results_root(), read_evidence(results_root())
    steps = Expansion(Sources(main=conf_dir(), extra=options.config_dir), options.budget, options.overrides).steps(stages, seeds)
    estimator = Estimator(runs.costs, evidence.records)
    standings = [standing(step, evidence) for step in steps]
    estimates = [estimator.estimate(step.planned.config) for step in steps]
    benchmark = md_benchmark(runs.benchmarks, options.budget, results) if with_benchmarks else None
    jobs = choose_jobs(options.jobs, estimates)
    print(list_runs(standings, estimates, benchmark, jobs, options.renew, results), flush=True)
    if options.dry_run:
        return 0
    left = [(s, e) for s, e in zip(standings, estimates, strict=True) if s.is_to_be_run(options.renew)]
    check_here(one.step.planned for one, _ in left)
    return run_all(left, steps, benchmark, jobs, options.reproduction, sys.argv[1:])


def parse_seeds(text: str) -> list[int]:
    """``1,2,3`` as numbers.

    Raises:
        ConfigError: If one is no whole number from 0 up.
    """
    from kanmlip.errors import ConfigError

    seeds = _names(text)
    wrong = [seed for seed in seeds if not (seed.isascii() and seed.isdigit())]
    if wrong or not seeds:
        raise ConfigError(f"--seeds={text}: '{wrong[0] if wrong else ''}' is no seed; write whole numbers from 0 up, such as --seeds 1,2,3")
    return list(dict.fromkeys(int(seed) for seed in seeds))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    sys.exit(main())
