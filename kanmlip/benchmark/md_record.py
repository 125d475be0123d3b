"""What ``kanmlip-bench md`` leaves behind, typed: one file a command, in it one case a model and number of atoms. Loads no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from kanmlip.errors import DataError

SCHEMA_VERSION = 1
Mode = Literal["eager", "compile", "aot", "native"]
Match = Literal["", "widths", "parameters"]


class _Part(BaseModel):
    """A part of a record; unknown keys are left alone, so that a newer writer may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class MDMemory(_Part):
    """What one process needed that ran one contender alone, MiB; none where the system does not tell.

    Attributes:
        weights: Of the model's parameters and buffers.
        peak_allocated: Most that tensors held at a time during steps of molecular dynamics, weights included: CUDA's
            ``max_memory_allocated``; on a CPU what torch's allocator handed out.
        peak_reserved: What CUDA's caching allocator took from the device; none on a CPU.
        process: On a CPU the peak resident set; on CUDA the device memory in use.
        empty: The same of a process that has loaded the same libraries, on CUDA also opened a context, and done nothing else.
    """

    weights: float | None = None
    peak_allocated: float | None = None
    peak_reserved: float | None = None
    process: float | None = None
    empty: float | None = None

    @property
    def process_less_empty(self) -> float | None:
        """What the process needs beyond being there: the paper's numbers contain the CUDA context, these do not."""
        return None if self.process is None or self.empty is None else self.process - self.empty


class MDTiming(_Part):
    """How long a step took.

    Attributes:
        ms_per_step: Median over the rounds.
        ratio: Median over the rounds of the ratio to the MLP of the same mode within a round; none if that MLP was not timed.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        model_share: Part of all timed seconds spent in the model: graph to the device, energy and forces, forces back.
        neighbour_share: Part spent in the neighbour list and the graph made of it. What is left is integrator and ASE.
    """

    ms_per_step: float
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    model_share: float
    neighbour_share: float


class MDResult(_Part):
    """One contender.

    Attributes:
        name: Unique within a case.
        placement: ``none`` for the MLP.
        basis: Empty for the MLP.
        match: What it has in common with the MLP; empty for the MLP.
        mode: ``eager``, ``compile`` (torch.compile), ``aot`` (AOTInductor) or ``native`` (that, with kanmlip's kernels).
        parameters: Of the whole model.
        head_parameters: Of the replaced MLPs, and of the KANs that stand there.
        widths: Of the KANs, in the order in which the model calls them.
        timing: None if it could not be timed.
        memory: None if it was not measured.
        missing: Why there is no timing, or no memory, in one line; else empty.
    """

    name: str
    placement: str
    basis: str
    match: Match
    mode: Mode
    parameters: int
    head_parameters: tuple[int, int]
    widths: tuple[tuple[int, ...], ...]
    timing: MDTiming | None = None
    memory: MDMemory | None = None
    missing: str = ""


class MDCase(_Part):
    """Every contender of one model on one system.

    Attributes:
        model: Name in conf/model.
        size: Column of its sizes.
        device: ``cpu`` or ``cuda``.
        backend: Of the KANs.
        portable_backend: Of those that AOTInductor compiled; the default is that of files from before there was a choice.
        keep_hidden: Whether the KANs keep their hidden values for the backward pass or work them out again.
        dtype: Precision of the networks.
        atoms: Number of atoms.
        edges: Directed edges of the structure at the start.
        steps_asked: Steps of each contender that were asked for.
        steps: Steps of each contender that were timed; fewer where the time allowed was short.
        rounds: Turns that they were made in.
        minutes_a_case: The limit that cut them: its share of ``--minutes``. 0 for no bound; none in files from before it was recorded.
        ensemble: Integrator.
        temperature_K: Of the thermostat.
        timestep_fs: fs.
        environment: Commit, versions, hardware; see :func:`kanmlip.experiment.environment.describe`.
        quiet: Whether the machine was left alone.
        machine: The loads that say so.
        results: The contenders, the MLP first in each mode.
        seconds: By name, seconds of a step in each round.
        file: Where it was read from: its name, after that of its folder if it lies in one within the folder of benchmarks.
    """

    model: str
    size: str
    device: str
    backend: str
    portable_backend: str = "reference"
    keep_hidden: bool = True
    dtype: str
    atoms: int
    edges: int
    steps_asked: int
    steps: int
    rounds: int
    minutes_a_case: float | None = None
    ensemble: str
    temperature_K: float  # noqa: N815 - the unit's own case
    timestep_fs: float
    environment: dict[str, Any]
    quiet: bool
    machine: dict[str, Any]
    results: tuple[MDResult, ...]
    seconds: dict[str, list[float]] = {}
    file: str = ""

    def find(self, placement: str, basis: str = "", match: str = "", mode: str = "eager") -> MDResult | None:
        """A contender, none if it is not there; the MLP is ``find("none")``."""
        wanted = (placement, basis, match, mode)
        return next((r for r in self.results if (r.placement, r.basis, r.match, r.mode) == wanted), None)

    def us_per_atom_step(self, result: MDResult) -> float | None:
        """Microseconds of one atom in one step."""
        return None if result.timing is None else 1e3 * result.timing.ms_per_step / self.atoms

    def memory_ratio(self, result: MDResult) -> float | None:
        """Peak allocated memory over that of the MLP of the same mode."""
        mlp = self.find("none", mode=result.mode)
        ours = result.memory.peak_allocated if result.memory else None
        theirs = mlp.memory.peak_allocated if mlp and mlp.memory else None
        return ours / theirs if ours is not None and theirs else None


def read_md_benchmarks(folder: Path) -> list[MDCase]:
    """Every case of every ``md_*.json`` of a folder, by file name and then in the order they were measured; none if there is no file.

    Raises:
        DataError: If a file is not one that ``kanmlip-bench md`` wrote, or of another version.
    """
    return [case for path in sorted(folder.glob("md_*.json")) for case in read_md_file(path)]


def read_md_file(path: Path, folder: Path | None = None) -> list[MDCase]:
    """The cases of one file, named as it lies within ``folder``; for what is raised see :func:`read_md_benchmarks`."""
    name = path.relative_to(folder).as_posix() if folder else path.name
    way_out = "delete it, or make it again with kanmlip-bench md"
    try:
        plain = json.loads(path.read_text())
        if plain["schema"] != SCHEMA_VERSION:
            raise DataError(f"{path} has schema {plain['schema']}, this kanmlip reads {SCHEMA_VERSION}; {way_out}")
        return [MDCase.model_validate({**case, "file": name}) for case in plain["cases"]]
    except ValidationError as error:
        fault = error.errors()[0]
        raise DataError(f"{path} is no file of kanmlip-bench md ({'.'.join(map(str, fault['loc']))}: {fault['msg']}); {way_out}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of kanmlip-bench md ({type(error).__name__}: {error}); {way_out}") from error
