"""NequIP and Allegro compiled with KANs that are kanmlip's own kernels, which the compiled file then holds.

``python -m kanmlip.export.with_kernels …`` is upstream's ``nequip-compile …`` in a process that knows the kernels and links them.
"""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from kanmlip.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from kanmlip.experiment.config import RunConfig
    from kanmlip.export.loading import LoadedRun
    from kanmlip.export.probe import Difference

_OPTIONAL = "AtenTensorHandle*, AtenTensorHandle*, AtenTensorHandle*, const char*, AtenTensorHandle*"
# The functions of kan/cpu/linked.cpp by operator.
DECLARATIONS = {
    "kan": f"AOTITorchError aoti_torch_cpu_kan(AtenTensorHandle, AtenTensorHandle, {_OPTIONAL})",
    "kan_slope": f"AOTITorchError aoti_torch_cpu_kan_slope(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle, {_OPTIONAL})",
}


def wants_kernels(config: RunConfig, target: str, family: str, device: str, asked: bool | None) -> bool:
    """Whether compiled models are to hold the kernels: where they can, unless it is refused.

    Args:
        config: Of the run.
        target: Of ``--to``.
        family: Of the model's file formats; see :func:`kanmlip.export.routes.family`.
        device: What the compiled model is made for.
        asked: ``--kernels``, ``--no-kernels`` or neither.

    Raises:
        ConfigError: Before anything is built, if they are asked for where there is nothing that could hold or call them.
        MissingDependencyError: If they are asked for and cannot be built here.
    """
    from kanmlip.kan import native

    if asked is False:
        return False
    problem = _obstacle(config, target, family, device)
    if problem is None and native.load():
        return True
    if asked and problem is None:
        raise MissingDependencyError("--kernels: they cannot be built, as the warning says; install a C++20 compiler, or leave it out")
    if asked:
        raise ConfigError(f"--kernels: {problem}")
    return False


def _obstacle(config: RunConfig, target: str, family: str, device: str) -> str | None:
    """Why no file of an export could hold kernels, and what to do."""
    if target != "lammps" or family not in ("nequip", "allegro"):
        return f"for --to lammps of NequIP and Allegro, not --to {target} of model={config.model.name}; leave it out"
    if config.placement.name == "none":
        return "the run has placement=none and no KAN that could call them; leave it out"
    if device != "cpu":
        return f"they are kernels for CPUs, not for --device {device}; leave it out, or give --device cpu"
    return None


def compile_with_kernels(run: LoadedRun, native: LoadedRun, path: Path, target: str) -> Difference:
    """Compile a run with its KANs as calls of kernels that the file holds.

    Args:
        run: The model in memory that the file is compared with.
        native: The same loaded with ``backend="native"``; its heads are changed.
        path: Must end with ``.nequip.pt2``.
        target: ``pair_allegro`` or ``pair_nequip``.

    Raises:
        KanmlipError: With the last line of upstream's message, or if the file is not the model.
    """
    from kanmlip.export.nequip_compiled import compile_package
    from kanmlip.export.nequip_files import write_package

    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{run.folder.name}.nequip.zip"
        write_package(native, package)
        return compile_package(package, path, target, "cpu", run, program="kanmlip.export.with_kernels")


@contextmanager
def kernels_linked() -> Iterator[None]:
    """While this lasts, models that AOTInductor compiles call the kernels as C functions, and are linked with them.

    Raises:
        BuildError: If the kernels cannot be built.
    """
    import torch
    from torch._inductor import config

    from kanmlip.kan.cpu.build import build_object

    built = build_object()
    operators = cast("Any", torch.ops).kanmlip_cpu
    calls = {getattr(operators, name).default: [declaration] for name, declaration in DECLARATIONS.items()}
    where = f":{built.name} -L{shlex.quote(str(built.parent))}"  # after -l, of whichever compiler
    with config.patch({"aot_inductor.custom_ops_to_c_shims": calls, "aot_inductor.custom_op_libs": [where]}):
        yield


def main(arguments: Sequence[str]) -> None:
    """Upstream's command."""
    from nequip.scripts.compile import main as nequip_compile

    from kanmlip.kan import native

    if not native.load():
        raise SystemExit("kanmlip's kernels are not there")
    with kernels_linked():
        nequip_compile(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
