"""``kanmlip-bench step``: whole models with KANs against the same with MLPs, and our trainer against the upstream ones."""

from __future__ import annotations

import argparse
from typing import Any

from kanmlip.cli.bench_options import BASES, MODELS, choices, finish, folder, matches, names, say, start


def add_options(step: argparse.ArgumentParser) -> None:
    """Options of ``step``."""
    step.add_argument("--models", default="allegro", help=f"of {', '.join(MODELS)} (default %(default)s)")
    step.add_argument("--size", default="gpu", help="column of the sizes in conf/model (default %(default)s)")
    step.add_argument("--placements", default="", help="such as output,all (default: all that a model has)")
    step.add_argument("--bases", default=BASES, help="(default %(default)s)")
    step.add_argument("--backend", default="auto", help="of every KAN (default %(default)s)")
    step.add_argument("--match", choices=("widths", "parameters", "both"), default="both", help="(default %(default)s)")
    step.add_argument("--what", choices=("training", "md", "both"), default="both", help="(default %(default)s)")
    step.add_argument(
        "--part", choices=("kan", "trainer", "all"), default="kan", help="trainer: ours against upstream's (default %(default)s)"
    )
    step.add_argument("--frames", type=int, default=4, help="structures in an epoch, two a batch (default %(default)s)")
    step.set_defaults(run=bench_step)


def bench_step(options: argparse.Namespace) -> int:
    """Measure whole models, write ``step_<model>_<size>.md`` and ``.json``, print the Markdown."""
    start(options)
    from kanmlip.benchmark.contenders import parse_basis
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.report import step_json, step_markdown, write
    from kanmlip.benchmark.step import StepPlan, kan_against_mlp, measured_bars, ours_against_upstream
    from kanmlip.errors import ConfigError
    from kanmlip.experiment.environment import describe
    from kanmlip.kan.spec import BACKENDS

    if options.frames < 1:
        raise ConfigError(f"--frames={options.frames} must be 1 or more")
    choices("--backend", options.backend, BACKENDS)
    for basis in names(options.bases):
        parse_basis(basis)
    what = ("training", "md") if options.what == "both" else (options.what,)
    for model in choices("--models", options.models, MODELS):
        plan = StepPlan(
            model, options.size, names(options.placements), names(options.bases), matches(options.match), what, options.backend,
            options.device, options.rounds, options.frames,
        )  # fmt: skip
        watch = Watch()
        part: dict[str, Any] = {}
        if options.part != "trainer":
            part["kan"] = kan_against_mlp(plan, say)
        if options.part != "kan":
            part["trainer"] = ours_against_upstream(plan)
        bars = measured_bars(plan, part.get("kan", {}))
        content = plan, part, bars, describe(plan.device, 1, "toy"), watch.stop()
        markdown = step_markdown(*content)
        finish(markdown, write(folder(options), f"step_{model}_{options.size}", markdown, step_json(*content)))
    return 0
