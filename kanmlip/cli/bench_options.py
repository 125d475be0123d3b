"""What the commands of ``kanmlip-bench`` share: one thread, lists on the command line, where results go. Loads no torch for --help."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

MODELS = ("allegro", "nequip", "mace")
BASES = "gaussian,bspline"


def add_contenders(parser: argparse.ArgumentParser, models: Iterable[str], size: str) -> None:
    """Options that say which models are compared with which heads."""
    parser.add_argument("--models", default="allegro", help=f"of {', '.join(models)} (default %(default)s)")
    parser.add_argument("--size", default=size, help="column of the sizes in conf/model: small, gpu, ... (default %(default)s)")
    parser.add_argument("--placements", default="", help="such as output,all (default: all that a model has); the MLP is always there")
    parser.add_argument("--bases", default=BASES, help="(default %(default)s)")
    parser.add_argument("--backend", default="auto", help="of every KAN but AOTInductor's (default %(default)s)")
    parser.add_argument("--match", choices=("widths", "parameters", "both"), default="both", help="(default %(default)s)")


def start(options: argparse.Namespace) -> None:
    """One thread, and freed memory kept, as when a model is trained or used; the device is there.

    Raises:
        ConfigError: If it is not, or there are no rounds.
    """
    # Before torch is loaded, so that its maths library makes no threads of its own; children inherit it.
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from kanmlip.errors import ConfigError
    from kanmlip.malloc import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
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
