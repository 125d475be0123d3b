"""The MD benchmarks of a reproduction: what it measures is what Table 4 of its budget reads, and nothing else counts as done."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kanmlip.benchmark.md_record import SCHEMA_VERSION, MDCase, MDResult, MDTiming, read_md_benchmarks
from kanmlip.cli.bench import parser
from kanmlip.report.md_table import build_md_table
from kanmlip.report.study import default_study_path, load_study
from kanmlip.reproduction.benchmarks import MDBenchmark, md_benchmark
from kanmlip.reproduction.listing import list_runs
from kanmlip.reproduction.spec import Budget, load_runs

SPEC = load_runs(default_study_path()).benchmarks
ROWS = ("none", "besides_output", "output", "all")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def result(placement: str, timed: bool = True) -> MDResult:
    timing = MDTiming(ms_per_step=1.0, ratio=1.0, low=0.9, high=1.1, model_share=0.9, neighbour_share=0.05)
    basis, match = ("", "") if placement == "none" else ("gaussian", "widths")
    return MDResult.model_validate({
        "name": placement, "placement": placement, "basis": basis, "match": match, "mode": "eager", "parameters": 1,
        "head_parameters": (1, 1), "widths": (), "timing": timing if timed else None, "missing": "" if timed else "out of memory",
    })  # fmt: skip


def case(atoms: int, **change: Any) -> MDCase:
    """All steps that budget small asks for."""
    steps = SPEC.steps["small"][atoms]
    plain = {
        "model": "allegro", "size": "small", "device": "cpu", "backend": "auto", "dtype": "float32", "atoms": atoms, "edges": 1,
        "steps_asked": steps, "steps": steps, "rounds": 25, "minutes_a_case": 0.0, "ensemble": "langevin", "temperature_K": 300.0,
        "timestep_fs": 1.0, "environment": {}, "quiet": True, "machine": {}, "results": tuple(map(result, ROWS)),
    }  # fmt: skip
    return MDCase.model_validate({**plain, **change})


def write(folder: Path, name: str, *cases: MDCase) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    plain = {"schema": SCHEMA_VERSION, "cases": [case.model_dump(mode="json", exclude={"file"}) for case in cases]}
    (folder / name).write_text(json.dumps(plain))


def budget(name: Budget, results: Path) -> MDBenchmark:
    return md_benchmark(SPEC, name, results)


@pytest.mark.parametrize("name", ["smoke", "small", "gpu", "paper"])
def test_the_command_measures_what_table_4_of_the_budget_reads(name: Budget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    wanted = budget(name, tmp_path)
    options = parser().parse_args(wanted.command()[3:])
    assert (options.size, options.device, options.models) == (name, "cuda" if name == "gpu" else "cpu", "allegro")
    assert options.minutes == {"small": 12.0}.get(name, 0.0), "a GPU makes all steps"
    measured = tuple(
        case(atoms, size=options.size, device=options.device, steps_asked=steps, steps=steps)
        for atoms, steps in wanted.steps.items()
    )  # fmt: skip
    assert wanted.missing() == sorted(wanted.steps)
    write(options.output, "md.json", *measured)  # of another name: what counts is what is in it
    assert wanted.missing() == sorted(wanted.steps)
    write(options.output, "md_any.json", *measured)
    assert wanted.missing() == []
    rows = build_md_table(load_study(), "4", measured, name).rows[:4]
    assert all(cell.missing is None for row in rows for cell in row.cells if cell.column.key == "ms_per_step")


@pytest.mark.parametrize(
    "change",
    [
        {"size": "gpu"},
        {"device": "cuda"},
        {"model": "mace"},
        {"keep_hidden": False},
        {"results": tuple(map(result, ROWS[:3]))},
        {"results": (*map(result, ROWS[:3]), result("all", timed=False))},
        {"steps_asked": 100, "steps": 100},
        {"steps": 5, "rounds": 5},
        {"steps": 5, "rounds": 5, "minutes_a_case": None},
        {"steps": 1700, "minutes_a_case": 1.0},
    ],
    ids=lambda change: ", ".join(f"{key}={value}" for key, value in change.items() if key != "results") or "contenders",
)
def test_another_size_device_contender_or_length_is_not_done(change: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "benchmarks", "md_small.json", case(71, **change), case(568))
    assert budget("small", tmp_path).missing() == [71, 4544]


def test_steps_that_the_same_limit_cut_are_done(tmp_path: Path) -> None:
    cut = case(71, steps=1727, rounds=11, minutes_a_case=SPEC.minutes["small"])
    write(tmp_path / "benchmarks", "md_small.json", cut, case(568, rounds=11, steps=495))  # 500 in equal rounds
    assert budget("small", tmp_path).missing() == [4544]
    write(tmp_path / "benchmarks", "md_paper.json", cut.model_copy(update={"size": "paper"}))
    assert budget("paper", tmp_path).missing() == [71, 568, 4544], "it has no limit"


def test_what_was_measured_before_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "benchmarks"
    write(folder, "md_small.json", case(71), case(71, model="mace"))
    options = parser().parse_args(budget("small", tmp_path).command()[3:])
    assert (options.sizes, options.steps, options.minutes) == ("568,4544", "500,50", 8.0)
    assert options.output == folder / "568_4544_atoms"
    write(options.output, "md_small.json", case(568))
    options = parser().parse_args(budget("small", tmp_path).command()[3:])
    assert (options.sizes, options.output) == ("4544", folder / "4544_atoms")
    write(options.output, "md_small.json", case(4544))
    assert budget("small", tmp_path).missing() == []


def test_budget_gpu_without_a_gpu_says_what_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "benchmarks", "md_gpu.json", *(case(atoms, size="gpu") for atoms in (71, 568, 4544)))
    here = budget("gpu", tmp_path)
    assert (here.device, here.missing()) == ("cpu", [])
    assert "need a CUDA device" in here.remark
    assert here.remark in list_runs([], [], here, 1, False, tmp_path)
    assert not budget("paper", tmp_path).remark
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    there = budget("gpu", tmp_path)
    assert (there.missing(), there.remark) == ([71, 568, 4544], ""), "a CPU's times are none of a GPU's"
    write(tmp_path / "benchmarks", "md_gpu_cuda.json", *(case(atoms, size="gpu", device="cuda") for atoms in (71, 568, 4544)))
    assert there.missing() == []
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert (budget("gpu", tmp_path).missing(), budget("gpu", tmp_path).remark) == ([], "")


def test_committed_results_count_for_their_budgets_alone(repository: Path, tmp_path: Path) -> None:
    committed = repository / "results"
    missing = [budget("small", committed).missing(), budget("gpu", committed).missing(), budget("paper", committed).missing()]
    assert missing == [[], [4544], []]
    assert {case.minutes_a_case for case in read_md_benchmarks(committed / "benchmarks") if case.size == "small"} == {4.0}
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(committed / "benchmarks" / "md_small.json", tmp_path / "benchmarks")
    assert budget("paper", tmp_path).missing() == budget("gpu", tmp_path).missing() == [71, 568, 4544]


def test_smoke_is_apart_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    smoke = budget("smoke", tmp_path)
    assert (smoke.steps, smoke.folder) == ({71: 100}, tmp_path / "benchmarks" / "smoke")
    made = case(71, size="smoke", steps_asked=100, steps=100, rounds=2)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: write(smoke.folder, "md_smoke.json", made))
    assert smoke.run()
    assert "71 atoms, size smoke, cpu" in capsys.readouterr().out
