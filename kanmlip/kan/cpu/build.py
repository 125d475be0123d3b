"""Build the C++ kernels once for this machine, and load them."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch

SOURCES = Path(__file__).parent
_TIMEOUT_S = 600


class BuildError(RuntimeError):
    """The kernels cannot be built here; the message says why."""


@functools.cache
def available() -> bool:
    """Whether the kernels are loaded, building them the first time; if they cannot be, one warning says why."""
    try:
        cast("Any", torch.ops).load_library(str(build()))
    except (BuildError, OSError) as error:
        warnings.warn(
            f"KAN layers run in plain PyTorch on the CPU, about half as fast as compiled: {error}. Install a C++20 compiler (g++ 11 or "
            "clang 14 and newer; CXX names another), or set basis.backend=torch to run so without this warning",
            stacklevel=2,
        )
        return False
    return True


def build() -> Path:
    """Path of the shared library, compiled unless the cache has it for these sources, this compiler, torch and processor.

    The cache is ``$KANMLIP_CACHE/kernels`` (default ``~/.cache/kanmlip/kernels``). Of processes that want the same library at once, as
    the jobs of a sweep do, one builds it and the others wait.

    Raises:
        BuildError: Without a compiler, or if it fails.
    """
    torch_lib = Path(torch.__file__).parent / "lib"
    return _build("bind.cpp", ".so", ["-shared"], [f"-L{torch_lib}", f"-Wl,-rpath,{torch_lib}", "-lc10", "-ltorch_cpu"])


def build_object() -> Path:
    """Path of an object file with the kernels of exported models as C functions (``linked.cpp``), built and kept as the library is.

    Nothing in it is seen outside of what it is linked into: a process may hold several models, of several versions of the kernels.

    Raises:
        BuildError: Without a compiler, or if it fails.
    """
    return _build("linked.cpp", ".o", ["-c", "-fvisibility=hidden", "-fvisibility-inlines-hidden"], [])


def _build(source: str, suffix: str, kind: list[str], links: list[str]) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or ""
    if not compiler or shutil.which(compiler) is None:
        raise BuildError(f"no C++ compiler {compiler!r} is on the PATH" if compiler else "no C++ compiler (g++, clang++) is on the PATH")
    command = [*_command(compiler), *kind]
    built = _cache() / f"kanmlip-{_key([*command, *links])}{suffix}"
    if not built.exists():
        with _only_builder(built):
            if not built.exists():
                _compile([*command, str(SOURCES / source), *links], built)
    return built


def _compile(command: list[str], built: Path) -> None:
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        target = Path(folder) / built.name
        try:
            done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BuildError(f"{command[0]} did not finish: {error}") from error
        if done.returncode != 0:
            raise BuildError(f"{command[0]} failed: {' '.join(done.stderr.split())[:400]}")
        target.replace(built)


@contextmanager
def _only_builder(built: Path) -> Iterator[None]:
    """Hold the lock on building a file, which ends with the process; where the system has none, everybody builds."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with built.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _command(compiler: str) -> list[str]:
    torch_root = Path(torch.__file__).parent
    include = [torch_root / "include", torch_root / "include" / "torch" / "csrc" / "api" / "include"]
    native = "-mcpu=native" if platform.machine() in ("arm64", "aarch64", "ppc64le") else "-march=native"
    wide = ["-mprefer-vector-width=512"] if platform.machine() in ("x86_64", "AMD64") else []
    # No -ffast-math: NaN must stay NaN, and a row's result must not depend on its neighbours.
    flags = ["-std=c++20", "-O3", native, *wide, "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-w"]
    threads = (
        ["-fopenmp", "-DAT_PARALLEL_OPENMP=1"] if cast("Any", torch.backends.openmp).is_available() and platform.system() == "Linux" else []
    )
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    return [compiler, *flags, *threads, abi, *(f"-I{path}" for path in include)]


def _key(command: list[str]) -> str:
    # Without the sources' folder: checkouts of the same ones share what is built.
    digest = hashlib.sha256(" ".join([*command, torch.__version__, _processor()]).encode())
    version = subprocess.run([command[0], "--version"], capture_output=True, check=False, timeout=60)
    digest.update(version.stdout)
    for source in sorted([*SOURCES.glob("*.h"), *SOURCES.glob("*.cpp")]):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _cache() -> Path:
    root = os.environ.get("KANMLIP_CACHE")
    path = Path("kernels")
    try:
        path = (Path(root) if root else Path.home() / ".cache" / "kanmlip") / path
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # the latter where there is no home directory
        raise BuildError(f"the cache {path} cannot be made ({error}); KANMLIP_CACHE names another place") from error
    return path
