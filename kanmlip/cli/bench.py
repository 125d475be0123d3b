"""``kanmlip-bench``: what KANs cost against MLPs, as a layer and in whole models; Markdown and JSON under results/benchmarks."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from kanmlip.benchmark.md_record import Match, Mode

SHAPES = ("5000:128,32,1", "5000:256,128,128", "500:64,16,1")
# On a CPU; on CUDA the compiled backend is triton.
BASES, FAST = "gaussian,bspline,bspline:grid=20", {"cpu": "cpu,torch", "cuda": "triton,torch"}
MODELS = ("allegro", "nequip", "mace")
# Of molecular dynamics: by the device, and in minutes; a compiler takes half a minute a contender.
MODES, MINUTES = {"cpu": "eager", "cuda": "eager,compile,aot"}, {"cpu": 20.0, "cuda": 0.0}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for wrong input."""
    options = parser().parse_args(arguments)
    from kanmlip.errors import KanmlipError

    try:
        return int(options.run(options))
    except KanmlipError as error:
        sys.stderr.write(f"kanmlip-bench: {error}\n")
        return error.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="kanmlip-bench", description="Measure KANs against MLPs: interleaved, one thread, ratios in rounds.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    kan = commands.add_parser("kan", help="layers: three passes, peak memory, least time possible")
    kan.add_argument("--shapes", nargs="+", default=SHAPES, metavar="ROWS:WIDTHS", help="default: %(default)s")
    kan.add_argument("--bases", default=BASES, help="names of conf/basis, with changes like bspline:grid=20+order=4 (default %(default)s)")
    kan.add_argument("--backends", default=None, help="of our layers (default: cpu,torch; on CUDA triton,torch)")
    kan.add_argument("--contenders", default="efficient-kan,fast-kan", help="others: efficient-kan, fast-kan, pykan (default %(default)s)")
    kan.add_argument("--match", choices=("widths", "parameters", "both"), default="both", help="(default %(default)s)")
    kan.add_argument("--passes", default="forward,gradient,training", help="(default %(default)s)")
    kan.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    kan.add_argument("--first-layer", action="store_true", help="differentiate the training loss by the parameters only, not by the input")
    kan.add_argument("--no-memory", action="store_true", help="leave peak memory out, a process a contender")
    kan.set_defaults(run=bench_kan)
    step = commands.add_parser("step", help="whole models: training step, MD step, our trainer against the upstream one")
    step.add_argument("--models", default="allegro", help=f"of {', '.join(MODELS)} (default %(default)s)")
    step.add_argument("--size", default="gpu", help="column of the sizes in conf/model (default %(default)s)")
    step.add_argument("--placements", default="", help="such as output,all (default: all that a model has)")
    step.add_argument("--bases", default="gaussian,bspline", help="(default %(default)s)")
    step.add_argument("--backend", default="auto", help="of every KAN (default %(default)s)")
    step.add_argument("--match", choices=("widths", "parameters", "both"), default="both", help="(default %(default)s)")
    step.add_argument("--what", choices=("training", "md", "both"), default="both", help="(default %(default)s)")
    step.add_argument(
        "--part", choices=("kan", "trainer", "all"), default="kan", help="trainer: ours against upstream's (default %(default)s)"
    )
    step.add_argument("--frames", type=int, default=4, help="structures in an epoch, two a batch (default %(default)s)")
    step.set_defaults(run=bench_step)
    md = commands.add_parser("md", help="molecular dynamics of 71, 568 and 4,544 atoms: time of a step and memory (Table 4)")
    add_md(md)
    for command in (kan, step, md):
        command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        command.add_argument(
            "--rounds", type=int, default=25 if command is md else 21, help="turns of each contender (default %(default)s)"
        )
        command.add_argument("--output", type=Path, default=None, help="folder (default: benchmarks in the results root)")
    return top


def add_md(md: argparse.ArgumentParser) -> None:
    """Options of ``md``."""
    md.add_argument("--models", default="allegro", help=f"of {', '.join(MODELS)} (default %(default)s)")
    md.add_argument("--size", default="paper", help="column of the sizes in conf/model: small, gpu, ... (default %(default)s)")
    md.add_argument("--placements", default="", help="such as output,all (default: all that a model has); the MLP is always there")
    md.add_argument("--bases", default="gaussian,bspline", help="(default %(default)s)")
    md.add_argument("--backend", default="auto", help="of every KAN but AOTInductor's (default %(default)s)")
    md.add_argument("--match", choices=("widths", "parameters", "both"), default="both", help="(default %(default)s)")
    md.add_argument("--modes", default=None, help="eager, compile, aot (default: eager; on CUDA all)")
    md.add_argument("--sizes", default="71,568,4544", help="numbers of atoms (default %(default)s)")
    md.add_argument("--steps", default=None, help="of each contender: one number, or one for each of --sizes (default: 5000, 500 and 50)")
    md.add_argument("--minutes", type=float, default=None, help="cut steps to what fits; 0 for no bound (default: 20; on CUDA 0)")
    md.add_argument("--ensemble", choices=("langevin", "nose_hoover"), default="langevin", help="(default %(default)s)")
    md.add_argument("--no-memory", action="store_true", help="leave memory out, a process a contender")
    md.set_defaults(run=bench_md)


def bench_kan(options: argparse.Namespace) -> int:
    """Measure layers, write ``kan_layer.md`` and ``kan_layer.json``, print the Markdown."""
    start(options)
    import torch

    from kanmlip.benchmark.bars import layer_bars
    from kanmlip.benchmark.contenders import OTHERS, parse_basis
    from kanmlip.benchmark.kan_layer import Plan, Shape, compare
    from kanmlip.benchmark.machine import Watch
    from kanmlip.benchmark.passes import PASSES
    from kanmlip.benchmark.report import layer_json, layer_markdown, write
    from kanmlip.benchmark.roofline import measure_rates
    from kanmlip.experiment.environment import describe
    from kanmlip.kan.spec import BACKENDS

    plan = Plan(
        shapes=tuple(Shape.parse(text) for text in options.shapes),
        bases=names(options.bases),
        backends=choices("--backends", options.backends or FAST[options.device], BACKENDS),
        others=choices("--contenders", options.contenders, OTHERS),
        matches=matches(options.match),
        passes=choices("--passes", options.passes, PASSES),
        dtype=options.dtype,
        device=options.device,
        rounds=options.rounds,
        through_input=not options.first_layer,
        memory=not options.no_memory,
    )
    for basis in plan.bases:
        parse_basis(basis)
    watch = Watch()
    rates = measure_rates(getattr(torch, plan.dtype), plan.device)
    comparisons = [compare(plan, shape, say) for shape in plan.shapes]
    quietness = watch.stop()
    rates = rates.best(measure_rates(getattr(torch, plan.dtype), plan.device))
    bars = [bar for comparison in comparisons for bar in layer_bars(plan, comparison)]
    content = plan, rates, comparisons, bars, describe(plan.device, 1, "none"), quietness
    markdown = layer_markdown(*content)
    finish(markdown, write(folder(options), "kan_layer", markdown, layer_json(*content)))
    return 0


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
    if not minutes >= 0:
        raise ConfigError(f"--minutes={minutes} must be 0, for no bound, or more")
    models = choices("--models", options.models, MODELS)
    plans = [
        MDPlan(
            model, options.size, names(options.placements), names(options.bases), cast("tuple[Match, ...]", matches(options.match)),
            cast("tuple[Mode, ...]", modes), options.backend, options.device, options.ensemble, systems, steps, options.rounds,
            not options.no_memory,
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


def start(options: argparse.Namespace) -> None:
    """One thread; the device is there.

    Raises:
        ConfigError: If it is not, or there are no rounds.
    """
    # Before torch is loaded, so that its maths library makes no threads of its own; children inherit it.
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from kanmlip.errors import ConfigError

    torch.set_num_threads(1)
    if options.rounds < 1:
        raise ConfigError(f"--rounds={options.rounds} must be 1 or more; 11 give a useful interval")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device=cuda: torch finds no CUDA device here; choose --device=cpu")


def names(text: str) -> tuple[str, ...]:
    """Parts of a comma-separated list, each once."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def choices(key: str, text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Parts of a comma-separated list that must be among ``known``.

    Raises:
        ConfigError: If one is not.
    """
    from kanmlip.errors import ConfigError, describe_choice

    allowed = tuple(known)
    for name in names(text):
        if name not in allowed:
            raise ConfigError(describe_choice(key, name, allowed))
    return names(text)


def matches(match: str) -> tuple[str, ...]:
    """What ``--match`` means."""
    return ("widths", "parameters") if match == "both" else (match,)


def folder(options: argparse.Namespace) -> Path:
    """Where results go."""
    from kanmlip.experiment import results_root

    return options.output if options.output is not None else results_root() / "benchmarks"


def say(text: str) -> None:
    """Progress, apart from the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def finish(markdown: str, paths: list[Path]) -> None:
    """Print the result, and where it is."""
    print(markdown)
    say("written: " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    sys.exit(main())
