"""The files of ``kanmlip-bench md`` are read as they are written, and others are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kanmlip.benchmark.md_record import SCHEMA_VERSION, MDCase, MDMemory, MDResult, MDTiming, read_md_benchmarks
from kanmlip.errors import DataError


def result(placement: str, basis: str, match: str, ms: float, allocated: float | None, mode: str = "eager") -> MDResult:
    timing = MDTiming(ms_per_step=ms, ratio=ms / 10, low=ms / 11, high=ms / 9, model_share=0.9, neighbour_share=0.05)
    return MDResult(
        name=f"{placement} {basis} {match} {mode}", placement=placement, basis=basis, match=match, mode=mode, parameters=100,
        head_parameters=(10, 9), widths=((4, 1),), timing=timing, memory=MDMemory(peak_allocated=allocated, process=300.0, empty=250.0),
    )  # fmt: skip


def case(atoms: int = 71, *results: MDResult) -> MDCase:
    return MDCase(
        model="allegro", size="paper", device="cpu", backend="auto", dtype="float32", atoms=atoms, edges=12 * atoms, steps_asked=5000,
        steps=200, rounds=10, ensemble="langevin", temperature_K=300.0, timestep_fs=1.0, environment={"commit": "abc"}, quiet=True,
        machine={}, results=results,
    )  # fmt: skip


def written(folder: Path, name: str, *cases: MDCase, schema: int = SCHEMA_VERSION) -> None:
    plain = {"schema": schema, "cases": [case.model_dump(mode="json", exclude={"file"}) for case in cases]}
    (folder / name).write_text(json.dumps(plain))


def test_cases_come_back_with_their_file(tmp_path: Path) -> None:
    mlp, kan = result("none", "", "", 10.0, 40.0), result("output", "gaussian", "parameters", 12.0, 41.0)
    compiled = result("output", "gaussian", "parameters", 6.0, 42.0, mode="compile")
    written(tmp_path, "md_paper.json", case(71, mlp, kan, compiled), case(568, mlp))
    written(tmp_path, "md_gpu.json", case(71, mlp))
    (tmp_path / "step_allegro_gpu.json").write_text("{}")
    found = read_md_benchmarks(tmp_path)
    assert [(one.file, one.atoms) for one in found] == [("md_gpu.json", 71), ("md_paper.json", 71), ("md_paper.json", 568)]
    first = found[1]
    assert first.find("none") == mlp
    assert first.find("output", "gaussian", "parameters") == kan
    assert first.find("output", "gaussian", "widths") is None
    assert first.us_per_atom_step(kan) == pytest.approx(12e3 / 71)
    assert first.memory_ratio(kan) == pytest.approx(41 / 40)
    assert first.memory_ratio(compiled) is None  # nothing of its own mode to compare with
    assert kan.memory is not None and kan.memory.process_less_empty == 50.0


def test_records_from_before_hidden_values_could_be_recomputed_kept_them(tmp_path: Path) -> None:
    written(tmp_path, "md_paper.json", case(71).model_copy(update={"keep_hidden": False}))
    assert [one.keep_hidden for one in read_md_benchmarks(tmp_path)] == [False]
    plain = json.loads((tmp_path / "md_paper.json").read_text())
    del plain["cases"][0]["keep_hidden"]
    (tmp_path / "md_paper.json").write_text(json.dumps(plain))
    assert [one.keep_hidden for one in read_md_benchmarks(tmp_path)] == [True]


def test_no_file_is_no_case(tmp_path: Path) -> None:
    assert read_md_benchmarks(tmp_path) == []
    assert read_md_benchmarks(tmp_path / "nowhere") == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "cases": [{"model": "allegro"}]}', '{"schema": 1, "cases": 3}'])
def test_another_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "md_paper.json").write_text(text)
    with pytest.raises(DataError, match=r"md_paper\.json is no file of kanmlip-bench md .*make it again"):
        read_md_benchmarks(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "md_paper.json", schema=SCHEMA_VERSION + 1)
    with pytest.raises(DataError, match=f"has schema {SCHEMA_VERSION + 1}, this kanmlip reads {SCHEMA_VERSION}"):
        read_md_benchmarks(tmp_path)


def test_reading_loads_no_torch() -> None:
    code = "import sys; from kanmlip.benchmark import md_record; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
