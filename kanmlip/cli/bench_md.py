"""``kanmlip-bench md``: molecular dynamics with KANs against the same with MLPs (Table 4)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, cast

from kanmlip.cli.bench_options import MODELS, add_contenders, choices, finish, folder, matches, names, say, start

if TYPE_CHECKING:
    from kanmlip.benchmark.md_record import Match, Mode

# By the device, and in minutes; a compiler takes half a minute a contender.
MODES, MINUTES = {"cpu": "eager", "cuda": "eager,compile,aot"}, {"cpu": 20.0, "cuda": 0.0}


def add_options(md: argparse.ArgumentParser) -> None:
    """Options of ``md``."""
    add_contenders(md, MODELS, "paper")
    md.add_argument(
        "--modes",
        default=None,
        help="eager, compile, aot, native: AOTInductor calling our kernels (default: eager; on CUDA all but native)",
    )
    md.add_argument("--sizes", default="71,568,4544", help="numbers of atoms (default %(default)s)")
    md.add_argument("--steps", default=None, help="of each contender: one number, or one for each of --sizes (default: 5000, 500 and 50)")
    md.add_argument("--minutes", type=float, default=None, help="cut steps to what fits; 0 for no bound (default: 20; on CUDA 0)")
    md.add_argument("--ensemble", choices=("langevin", "nose_hoover"), default="langevin", help="(default %(default)s)")
    md.add_argument("--no-memory", action="store_true", help="leave memory out, a process a contender")
    md.add_argument("--recompute-hidden", action="store_true", help="frozen KANs keep their input alone between the passes: less memory")
    md.set_defaults(run=bench_md)


def bench_md(options: argparse.Namespace) -> int:
    """Measure molecular dynamics, write ``md_<size>.md`` and ``.json`` after each system, print the Markdown."""
    start(options)
    import time

    from kanmlip.benchmark.contenders import parse_basis
    from kanmlip.benchmark.md import Allowance, measure
    from kanmlip.benchmark.md_contenders import MDPlan
    from kanmlip.benchmark.md_modes import MODES as KNOWN_MODES
    from kanmlip.benchmark.md_record import MDCase
    from kanmlip.benchmark.md_report import file_name, md_json, md_markdown
    from kanmlip.benchmark.md_trajectory import STEPS, SYSTEMS
    from kanmlip.benchmark.report import write
    from kanmlip.errors import ConfigError
    from kanmlip.kan.spec import BACKENDS

    choices("--backend", options.backend, BACKENDS)
    for basis in names(options.bases):
        parse_basis(basis)
    modes = choices("--modes", options.modes or MODES[options.device], KNOWN_MODES)
    systems = tuple(int(atoms) for atoms in choices("--sizes", options.sizes, map(str, SYSTEMS)))
    steps = tuple(STEPS[atoms] for atoms in systems) if options.steps is None else steps_of(options.steps, systems)
    minutes = MINUTES[options.device] if options.minutes is None else options.minutes
    if options.recompute_hidden and (options.device != "cpu" or options.backend not in ("auto", "cpu")):
        raise ConfigError(
            f"--recompute-hidden is for compiled kernels on a CPU, not --device={options.device} --backend={options.backend}; "
            f"choose --device=cpu and --backend=auto or cpu, or leave it out"
        )
    if not minutes >= 0:
        raise ConfigError(f"--minutes={minutes} must be 0, for no bound, or more")
    models = choices("--models", options.models, MODELS)
    plans = [
        MDPlan(
            model, options.size, names(options.placements), names(options.bases), cast("tuple[Match, ...]", matches(options.match)),
            cast("tuple[Mode, ...]", modes), options.backend, options.device, options.ensemble, systems, steps, options.rounds,
            not options.no_memory, not options.recompute_hidden,
        )
        for model in models
    ]  # fmt: skip
    for plan in plans:
        plan.prepare()  # a wrong name in the last plan is found before the first is measured
    say(f"{'no bound on the time' if not minutes else f'about {minutes:g} minutes at most'}; compiling comes on top")
    allowance = Allowance(60 * minutes or None, len(plans) * len(systems), time.perf_counter())
    cases: list[MDCase] = []
    markdown, paths = "", []
    for plan in plans:
        for case in measure(plan, allowance, say):
            cases.append(case)
            markdown = md_markdown(cases)
            paths = write(folder(options), file_name(options.size, options.device), markdown, md_json(cases))
    finish(markdown, paths)
    return 0


def steps_of(text: str, systems: tuple[int, ...]) -> tuple[int, ...]:
    """One number for all systems, or one for each.

    Raises:
        ConfigError: If it is neither, or a number is below 1.
    """
    from kanmlip.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    numbers = tuple(int(part) for part in parts if part.isdecimal())
    if len(numbers) != len(parts) or len(parts) not in (1, len(systems)) or min(numbers) < 1:
        raise ConfigError(f"--steps={text}: give one number of steps, 1 or more, or one for each of --sizes={','.join(map(str, systems))}")
    return numbers * len(systems) if len(numbers) == 1 else numbers
