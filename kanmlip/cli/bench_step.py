"""``kanmlip-bench step``: whole models with KANs against the same with MLPs, and our trainer against the upstream ones."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kanmlip.cli.bench_options import MODELS, add_contenders, choices, finish, folder, matches, names, say, start

if TYPE_CHECKING:
    from kanmlip.benchmark.step import StepPlan

TENSOR_MODELS = ("etgnn",)  # without forces, and of no upstream package


def add_options(step: argparse.ArgumentParser) -> None:
    """Options of ``step``."""
    add_contenders(step, (*MODELS, *TENSOR_MODELS), "gpu")
    step.add_argument("--what", choices=("training", "md", "both"), default="both", help="of etgnn training alone (default %(default)s)")
    step.add_argument(
        "--part", choices=("kan", "trainer", "all"), default="kan", help="trainer: ours against upstream's (default %(default)s)"
    )
    step.add_argument("--dataset", default="", help="name in conf/dataset (default: toy; of etgnn sio2_bec)")
    step.add_argument("--frames", type=int, default=None, help="structures in an epoch (default: of toy 4, two a batch; else one batch)")
    step.set_defaults(run=bench_step)


def bench_step(options: argparse.Namespace) -> int:
    """Measure whole models, write ``step_<model>_<size>.md`` and ``.json``, print the Markdown."""
    start(options)
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.report import step_json, step_markdown, write
    from kanmlip.benchmark.step import check, kan_against_mlp, measured_bars, ours_against_upstream
    from kanmlip.experiment.environment import describe

    plans = plans_of(options)
    for plan in plans:
        check(plan)  # a wrong name in the last plan is found before the first is measured
    for plan in plans:
        watch = Watch()
        part: dict[str, Any] = {}
        if options.part != "trainer":
            part["kan"] = kan_against_mlp(plan, say)
        if options.part != "kan" and plan.model not in TENSOR_MODELS:
            part["trainer"] = ours_against_upstream(plan)
        bars = measured_bars(plan, part.get("kan", {}))
        content = plan, part, bars, describe(plan.device, 1, plan.dataset), watch.stop()
        markdown = step_markdown(*content)
        finish(markdown, write(folder(options), file_name(plan), markdown, step_json(*content)))
    return 0


def plans_of(options: argparse.Namespace) -> list[StepPlan]:
    """What to measure, a plan a model.

    Raises:
        ConfigError: If an option is wrong by itself, or a model cannot be measured that way.
    """
    from kanmlip.benchmark.contenders import parse_basis
    from kanmlip.benchmark.step import DATASETS, TOY, StepPlan, default_frames
    from kanmlip.errors import ConfigError
    from kanmlip.kan.spec import BACKENDS

    if options.frames is not None and options.frames < 1:
        raise ConfigError(f"--frames={options.frames} must be 1 or more")
    choices("--backend", options.backend, BACKENDS)
    for basis in names(options.bases):
        parse_basis(basis)
    plans = []
    for model in choices("--models", options.models, (*MODELS, *TENSOR_MODELS)):
        if model in TENSOR_MODELS and options.part == "trainer":
            raise ConfigError(f"--part=trainer: no upstream package trains {model}; choose --part=kan")
        what = ("training", "md") if options.what == "both" else (options.what,)
        what = ("training",) if model in TENSOR_MODELS and options.what == "both" else what
        dataset = options.dataset or DATASETS.get(model, TOY)
        frames = options.frames or default_frames(model, options.size, dataset)
        plans.append(
            StepPlan(
                model, options.size, names(options.placements), names(options.bases), matches(options.match), what, options.backend,
                options.device, options.rounds, frames, dataset,
            )
        )  # fmt: skip
    return plans


def file_name(plan: StepPlan) -> str:
    """Name of the files without suffix; other data than a model's own show in it, and reports do not take those files."""
    from kanmlip.benchmark.step import DATASETS, TOY

    own = plan.dataset == DATASETS.get(plan.model, TOY)
    return f"step_{plan.model}_{plan.size}" + ("" if own else f"_{plan.dataset}")
