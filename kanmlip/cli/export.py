"""``kanmlip-export``: a finished run as files for ASE, LAMMPS, TorchSim, or as upstream's package; each is checked when written."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.cli import answer

if TYPE_CHECKING:
    from kanmlip.export.loading import LoadedRun


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code, 2 for what is wrong in the input or impossible upstream."""
    options = parser().parse_args(arguments)
    return answer("kanmlip-export", lambda: export_run(options))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="kanmlip-export", description="Hand a trained run to another program.")
    top.add_argument(
        "run", metavar="RUN", help="a run folder, the name of a run under the results root, or the beginning of one name there"
    )
    top.add_argument(
        "--to",
        required=True,
        metavar="TARGET",
        help="ase and torchsim: a folder that kanmlip.export loads; lammps: MACE's libtorch and ML-IAP files, or a compiled model for "
        "pair_allegro and pair_nequip; package: .nequip.zip for nequip-compile",
    )
    top.add_argument("--dtype", default=None, metavar="DTYPE", help="float32 or float64 (default: as trained)")
    top.add_argument("--device", default="cpu", help="what a compiled model is made for: cpu, cuda or auto (default %(default)s)")
    top.add_argument(
        "--kernels",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="with --to lammps: whether a model compiled for a CPU holds kanmlip's kernels (default: if it can)",
    )
    top.add_argument("--checkpoint", default="best", help="best or last (default %(default)s)")
    top.add_argument("--output", type=Path, default=None, help="folder (default: exports/<run>/<target> in the results root)")
    return top


def export_run(options: argparse.Namespace) -> int:
    """Write what is asked for and say what was written, how far it is from the model in memory, and how to use it."""
    from kanmlip.dynamics.roughness import describe_roughness
    from kanmlip.experiment import results_root
    from kanmlip.experiment.validation import load_run_config
    from kanmlip.export.checked import check_writable
    from kanmlip.export.loading import check_finished, find_run, load_potential, resolve_device
    from kanmlip.export.portable import check_destination
    from kanmlip.export.routes import PORTABLE, Export, check_route, family, write
    from kanmlip.export.with_kernels import wants_kernels

    run_dir = find_run(options.run)
    check_finished(run_dir)
    config = load_run_config(run_dir)
    output = options.output or results_root() / "exports" / run_dir.name / options.to
    check_route(config, options.to)
    device = resolve_device(options.device)
    kernels = wants_kernels(config, options.to, family(config.model), device, options.kernels)
    check_writable(output)
    if options.to in PORTABLE:
        check_destination(output, run_dir)

    def reload(backend: str) -> LoadedRun:
        return load_potential(run_dir, checkpoint=options.checkpoint, dtype=options.dtype, backend=backend)

    export = Export(reload, output, device, kernels)
    write(export, options.to)
    for path, check in export.written.items():
        sys.stdout.write(f"{path}  ({check})\n")
    rough = describe_roughness(config)
    for note in (*export.notes, *([f"not for molecular dynamics: {rough}"] if rough else [])):
        sys.stdout.write(f"{note}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
