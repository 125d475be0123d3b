"""``kanmlip-bench kan``: layers of KANs against MLPs and other libraries' algorithms."""

from __future__ import annotations

import argparse

from kanmlip.cli.bench_options import choices, finish, folder, matches, names, say, start

SHAPES = ("5000:128,32,1", "5000:256,128,128", "500:64,16,1")
# On a CPU; on CUDA the compiled backend is triton.
BASES, FAST = "gaussian,bspline,bspline:grid=20", {"cpu": "cpu,torch", "cuda": "triton,torch"}


def add_options(kan: argparse.ArgumentParser) -> None:
    """Options of ``kan``."""
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
