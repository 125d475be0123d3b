"""NequIP and Allegro compiled with KANs that call kanmlip's own kernels, and the library that has these.

``python -m kanmlip.export.with_kernels …`` is upstream's ``nequip-compile …`` in a process that knows the kernels.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kanmlip.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig
    from kanmlip.export.loading import LoadedRun
    from kanmlip.export.probe import Difference

LIBRARY = "libkanmlip_kernels.so"


def check_kernels(config: RunConfig, target: str, family: str, device: str) -> None:
    """Refuse, before anything is built, what has no kernels to call.

    Args:
        config: Of the run.
        target: Of ``--to``.
        family: Of the model's file formats; see :func:`kanmlip.export.routes.family`.
        device: What the compiled model is made for.

    Raises:
        ConfigError: With what there is instead.
        MissingDependencyError: If the kernels cannot be built here.
    """
    from kanmlip.kan import native

    if target != "lammps" or family not in ("nequip", "allegro"):
        raise ConfigError(f"--kernels: for --to lammps of NequIP and Allegro, not --to {target} of model={config.model.name}; leave it out")
    if config.placement.name == "none":
        raise ConfigError("--kernels: the run has placement=none and no KAN that could call them; leave it out")
    if device != "cpu":
        raise ConfigError(f"--kernels: they are kernels for CPUs, not for --device {device}; leave it out, or give --device cpu")
    if not native.load():
        raise MissingDependencyError("--kernels: they cannot be built here, as the warning says; install a C++20 compiler, or leave it out")


def compile_with_kernels(run: LoadedRun, native: LoadedRun, path: Path, target: str) -> Difference:
    """Compile a run with its KANs as calls of the kernels, and put their library (``LIBRARY``) beside the file.

    Args:
        run: The model in memory that the file is compared with.
        native: The same loaded with ``backend="native"``; its heads are changed.
        path: Must end with ``.nequip.pt2``.
        target: ``pair_allegro`` or ``pair_nequip``.

    Raises:
        KanmlipError: With the last line of upstream's message, or if the file is not the model.
    """
    from kanmlip.export.checked import checked_file
    from kanmlip.export.nequip_compiled import compile_package
    from kanmlip.export.nequip_files import write_package
    from kanmlip.kan.cpu.build import build

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{run.folder.name}.nequip.zip"
        write_package(native, package)
        difference = compile_package(package, path, target, "cpu", run, program="kanmlip.export.with_kernels")
    with checked_file(path.parent / LIBRARY) as part:
        shutil.copyfile(build(), part)
    return difference


def main(arguments: Sequence[str]) -> None:
    """Upstream's command."""
    from nequip.scripts.compile import main as nequip_compile

    from kanmlip.kan import native

    if not native.load():
        raise SystemExit("kanmlip's kernels are not there")
    nequip_compile(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
