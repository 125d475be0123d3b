"""Bars and reports of the MD benchmark say what was measured, in files that are written as soon as a system is done."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kanmlip.benchmark import md
from kanmlip.benchmark.bars import md_bars
from kanmlip.benchmark.md_contenders import MDPlan
from kanmlip.benchmark.md_record import MDCase, MDMemory, MDResult, MDTiming, read_md_benchmarks
from kanmlip.benchmark.md_report import PAPER, file_name, md_json, md_markdown
from kanmlip.benchmark.report import write
from kanmlip.cli.bench import main
from kanmlip.errors import KanmlipError

ENVIRONMENT = {
    "hardware": "a CPU", "threads": 1, "device": "cpu", "commit": "abc", "dirty": False, "versions": {"torch": "2", "python": "3"},
}  # fmt: skip


def result(placement: str, basis: str, match: str, ratio: float, allocated: float, mode: str = "eager", missing: str = "") -> MDResult:
    timing = MDTiming(ms_per_step=20 * ratio, ratio=ratio, low=ratio - 0.01, high=ratio + 0.01, model_share=0.9, neighbour_share=0.06)
    return MDResult(
        name="MLP" if placement == "none" else f"{placement} {basis}, equal {match}, {mode}", placement=placement, basis=basis, match=match,
        mode=mode, parameters=30336, head_parameters=(10, 9), widths=((4, 1),), timing=None if missing else timing,
        memory=None if missing else MDMemory(weights=0.125, peak_allocated=allocated, process=300.0, empty=250.0), missing=missing,
    )  # fmt: skip


def case(*results: MDResult, model: str = "allegro", atoms: int = 71, steps: int = 5000) -> MDCase:
    return MDCase(
        model=model, size="paper", device="cpu", backend="auto", dtype="float32", atoms=atoms, edges=898, steps_asked=5000, steps=steps,
        rounds=25, ensemble="langevin", temperature_K=300.0, timestep_fs=1.0, environment=ENVIRONMENT, quiet=True,
        machine={"load_start": 0.1, "load_end": 1.1, "others": 0.02}, results=results,
    )  # fmt: skip


MLP = result("none", "", "", 1.0, 40.0)
GAUSSIAN, SPLINE = result("output", "gaussian", "parameters", 1.06, 40.1), result("output", "bspline", "parameters", 1.04, 40.3)
ALL, WIDE = result("all", "gaussian", "parameters", 1.5, 40.0), result("output", "gaussian", "widths", 1.09, 44.0)


def test_bars_are_of_allegro_at_equal_parameters_and_71_atoms() -> None:
    found = {bar.text: (bar.limit, bar.verdict) for bar in md_bars([case(MLP, GAUSSIAN, SPLINE, ALL, WIDE)])}
    at = "at equal parameters, eager:"
    assert found == {
        f"MD step {at} output gaussian / MLP": (1.05, "met with margin"),
        f"MD step {at} output bspline / MLP": (1.05, "met"),
        f"MD step {at} all gaussian / MLP": (1.15, "missed"),
        f"MD step {at} all bspline / MLP": (1.15, "not measured"),
        f"peak allocated memory {at} output gaussian / MLP": (1.005, "met"),
        f"peak allocated memory {at} output bspline / MLP": (1.005, "missed"),  # by 0.0025: memory has no margin
        f"peak allocated memory {at} all gaussian / MLP": (1.005, "met"),
        f"peak allocated memory {at} all bspline / MLP": (1.005, "not measured"),
    }
    assert md_bars([case(MLP, GAUSSIAN, model="mace"), case(MLP, GAUSSIAN, atoms=568)]) == []
    compiled = [result("none", "", "", 1.0, 40.0, "compile"), result("all", "bspline", "parameters", 1.1, 41.0, "compile")]
    both = md_bars([case(MLP, GAUSSIAN, *compiled)])
    assert len(both) == 16
    assert {bar.text: bar.verdict for bar in both}["MD step at equal parameters, compile: all bspline / MLP"] == "met"


def test_markdown_holds_the_papers_numbers_beside_ours_and_what_is_missing() -> None:
    failed = result("output", "gaussian", "parameters", 1.0, 1.0, "aot", missing="AOTInductor failed: no compiler")
    text = md_markdown([case(MLP, GAUSSIAN, WIDE, failed, steps=200), case(MLP, model="mace", atoms=4544)])
    assert "| output | 8.92 | 1.085 | 1945 | 1.0021 | 1.090 [1.080, 1.100] | 1.1000 | 1.060 [1.050, 1.070] | 1.0025 |" in text
    assert "| all | 9.44 | 1.148 | 1963 | 1.0113 | – | – | – | – |" in text
    assert "200 steps of each (5,000 were asked for; fewer fit the time allowed)" in text
    timing, memory = "1.060 [1.050, 1.070] | 21.2 | 299 | 90 % | 6 %", "1.0025 | 0.12 | 40.1 | 300.0 | 50.0"
    assert f"| output gaussian, equal parameters, eager | 30,336 | {timing} | {memory} |" in text
    assert "Not measured: output gaussian, equal parameters, aot: AOTInductor failed: no compiler" in text
    assert "## mace, 4,544 atoms" in text and "commit abc" in text and "The machine was quiet" in text
    assert "| ≤ 1.005 | no margin | 1.0025 |" in text
    assert text.count("## The paper's Table 4") == 1  # MACE has no row in it
    assert "reserved" not in text.split("## ", 1)[1]  # a CPU's allocator reserves nothing
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert PAPER["none"] == (8.22, 1941)


def test_the_report_says_if_hidden_values_were_not_kept() -> None:
    kept, recomputed = case(MLP, GAUSSIAN), case(MLP, GAUSSIAN).model_copy(update={"keep_hidden": False})
    assert "KAN backend auto, for AOTInductor" in md_markdown([kept]) and "hidden" not in md_markdown([kept])
    assert "KAN backend auto (in eager mode hidden values are worked out again in the backward pass), for AOT" in md_markdown([recomputed])


def test_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    cases = [case(MLP, GAUSSIAN), case(MLP, atoms=568)]
    write(tmp_path, file_name("paper", "cpu"), md_markdown(cases), md_json(cases))
    write(tmp_path, file_name("paper", "cuda"), md_markdown(cases), md_json(cases[:1]))
    assert [(one.file, one.atoms) for one in read_md_benchmarks(tmp_path)] == [
        ("md_paper.json", 71), ("md_paper.json", 568), ("md_paper_cuda.json", 71),
    ]  # fmt: skip
    assert read_md_benchmarks(tmp_path)[0].model_copy(update={"file": ""}) == cases[0]


def test_what_is_done_is_on_disk_before_the_next_system_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("allegro")

    def fails_later(*_: object) -> Iterator[MDCase]:
        yield case(MLP, GAUSSIAN)
        yield case(MLP, atoms=568)
        raise KanmlipError("the machine went away")

    monkeypatch.setattr(md, "measure", fails_later)
    assert main(["md", "--size", "smoke", "--output", str(tmp_path)]) == 1
    assert "the machine went away" in capsys.readouterr().err
    assert [one.atoms for one in read_md_benchmarks(tmp_path)] == [71, 568]
    assert "## allegro, 568 atoms" in (tmp_path / "md_smoke.md").read_text()


@pytest.mark.parametrize("options", [(), ("--recompute-hidden",)])
def test_the_command_says_whether_hidden_values_are_kept(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("allegro")

    def measure(plan: MDPlan, *_: object) -> Iterator[MDCase]:
        yield case(MLP, GAUSSIAN).model_copy(update={"keep_hidden": plan.keep_hidden})

    monkeypatch.setattr(md, "measure", measure)
    assert main(["md", "--size", "smoke", *options, "--output", str(tmp_path)]) == 0
    (found,) = read_md_benchmarks(tmp_path)
    assert found.keep_hidden != bool(options)
    assert ("worked out again" in capsys.readouterr().out) == bool(options)


def test_the_command_measures_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("allegro")
    arguments = "md --size smoke --placements output --bases gaussian --match parameters --backend torch --sizes 71 --steps 4 --rounds 2"
    assert main([*arguments.split(), "--ensemble", "nose_hoover", "--no-memory", "--output", str(tmp_path)]) == 0
    (found,) = read_md_benchmarks(tmp_path)
    assert [one.name for one in found.results] == ["MLP", "output gaussian, equal parameters"]
    assert all(one.timing is not None and one.memory is None for one in found.results)
    assert (found.ensemble, found.steps, found.rounds, found.backend) == ("nose_hoover", 4, 2, "torch")
    printed = capsys.readouterr()
    assert printed.out.strip() == (tmp_path / "md_smoke.md").read_text().strip()
    assert "about 20 minutes at most" in printed.err and "2 contenders, 2 rounds of 2 steps (4 steps each were asked for)" in printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "allegro,etgnn"), "--models=etgnn is not known; choose from: allegro, mace, nequip"),
        (("--models", "allegro,nequip", "--placements", "all"), "--placements=all is not known; choose from: none, output"),
        (("--sizes", "72"), "--sizes=72 is not known; choose from: 4544, 568, 71"),
        (("--modes", "jit"), "--modes=jit is not known; choose from: aot, compile, eager"),
        (("--bases", "bspine"), "--bases=bspine is not known.*Did you mean 'bspline'"),
        (("--backend", "cuda"), "--backend=cuda is not known"),
        (("--size", "giant"), "giant"),
        (("--steps", "0"), "--steps=0: give one number of steps, 1 or more, or one for each of --sizes=71,568,4544"),
        (("--steps", "100,10"), "--steps=100,10: give one number"),
        (("--steps", "many"), "--steps=many: give one number"),
        (("--minutes", "-1"), "--minutes=-1.0 must be 0, for no bound, or more"),
        (("--minutes", "nan"), "--minutes=nan must be 0"),
        (("--rounds", "0"), "--rounds=0 must be 1 or more"),
        (("--recompute-hidden", "--backend", "torch"), "--recompute-hidden is for compiled kernels on a CPU, not .*--backend=torch"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("nequip")
    assert main(["md", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
