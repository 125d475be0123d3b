"""Verdicts: what a bootstrap over seeds and structures says, what it refuses to say, and what the paper's own values are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kanmlip.evaluation.structure_errors import pack
from kanmlip.report.bootstrap import Sums, draw_log_ratios, draw_means, interval
from kanmlip.report.claims import Part
from kanmlip.report.effect import Effect, Sources
from kanmlip.report.effects import measure, paper_effect
from kanmlip.report.matching import Match
from kanmlip.report.records import read_evidence
from kanmlip.report.study import load_study
from kanmlip.report.verdicts import decide, judge
from tests.unit.test_report_tables import record, write

KAN = Match(model="allegro", placement="output", basis="gaussian")
MLP = Match(model="allegro", placement="none")
STUDY = load_study()
SEEDS = range(1, 7)
OUTPUT = ("output", "gaussian")


def part(kind: str = "error", table: str = "3", column: str = "val_force", direction: str = "lower", **more: Any) -> Part:
    common = {"label": "x", "kind": kind, "table": table, "column": column, "of": KAN, "over": MLP, "direction": direction}
    return Part.model_validate(common | more)


def run(placement: str, seed: int, scale: float, frames: int = 30, dataset: str = "ag", **changes: Any) -> dict[str, Any]:
    """A run whose force error of structure i is ``scale`` times a factor of the structure and one of the seed."""
    basis = None if placement == "none" else "gaussian"
    made = record(placement, basis, seed, scale, hash=dataset, **changes)
    made["labels"]["dataset"] = dataset
    made["config"]["trainer"] = {"monitor": "val/force_mae_eV_per_A"}
    of_structure = 1 + 0.9 * np.sin(np.arange(frames))
    sums = 3 * 71 * scale * of_structure * (1 + 0.02 * seed)
    made["metrics"]["val/force_mae_eV_per_A"] = float(sums.sum() / (3 * 71 * frames))
    columns = {"frame": pack(range(frames)), "num_atoms": pack([71] * frames), "force_abs_eV_per_A": pack(sums)}
    best = made["metrics"]["val/force_mae_eV_per_A"]
    history = {"updates": "10 20 30 40", "val/force_mae_eV_per_A": pack([4 * best, 2 * best, 1.2 * best, best])}
    return made | {"schema_version": 2, "structures": {"val": columns}, "history": history}


def sources(results: Path, *runs: dict[str, Any], budget: str = "small") -> Sources:
    return Sources(STUDY, read_evidence(write(results, *runs)), budget, results / "benchmarks")


def pairs(ratio: float, seeds: Any = SEEDS, **changes: Any) -> list[dict[str, Any]]:
    return [made for seed in seeds for made in (run("none", seed, 0.02, **changes), run("output", seed, 0.02 * ratio, **changes))]


def verdict(results: Path, *runs: dict[str, Any], tested: Part | None = None, budget: str = "small") -> tuple[str, str, Effect]:
    tested = tested or part()
    effect = measure(tested, sources(results, *runs, budget=budget))
    return (*decide(tested, effect, paper_effect(tested, STUDY), budget), effect)


def test_structures_common_to_both_rows_cancel() -> None:
    """Errors spread tenfold over structures, but the ratio is the same in each: drawing them in common gives no width."""
    errors = np.random.default_rng(0).lognormal(0, 1, (6, 40))
    ones = np.ones_like(errors)
    common = interval(draw_log_ratios(Sums(0.9 * errors, ones, False), Sums(errors, ones, False)), 6)
    assert common == pytest.approx((np.log(0.9), np.log(0.9)))
    apart = interval(draw_log_ratios(Sums(0.9 * errors[:, ::-1], ones, False), Sums(errors, ones, False)), 6)
    assert apart is not None
    assert apart[1] - apart[0] > 0.3


def test_seeds_are_drawn_in_pairs() -> None:
    """Runs of different seeds differ twofold, those of one seed by 10 %: only the latter may make the interval wide."""
    errors = np.repeat(np.exp(np.linspace(0, 0.7, 6))[:, None], 5, axis=1)
    ones = np.ones_like(errors)
    found = interval(draw_log_ratios(Sums(0.9 * errors, ones, True), Sums(errors, ones, True)), 6)
    assert found == pytest.approx((np.log(0.9) / 2, np.log(0.9) / 2))


def test_seeds_are_drawn_at_all() -> None:
    """With structures that are all alike the interval is that over seeds alone."""
    logs = np.linspace(-0.3, 0.1, 6)
    ours, ones = np.repeat(np.exp(logs)[:, None], 4, axis=1), np.ones((6, 4))
    found, alone = interval(draw_log_ratios(Sums(ours, ones, False), Sums(ones, ones, False)), 6), interval(draw_means(logs), 6)
    assert found is not None
    assert found == pytest.approx(alone, abs=0.02)
    assert found[1] - found[0] > 0.2


def test_the_interval_covers_95_percent_with_few_seeds() -> None:
    """Plain percentiles cover some 88 % with six values; the expanded ones must do better, and not by being endless."""
    rng = np.random.default_rng(1)
    covered, widths = 0, []
    for _ in range(300):
        found = interval(draw_means(rng.normal(size=6)), 6)
        assert found is not None
        covered += found[0] <= 0 <= found[1]
        widths.append(found[1] - found[0])
    assert 0.92 <= covered / 300 <= 0.99
    assert np.mean(widths) < 2.6  # that of Student's t is 2.0


@pytest.mark.parametrize("seeds", [2, 3, 4])
def test_two_seeds_cover_95_percent_too(seeds: int) -> None:
    """By percentiles, which are within the seeds' own values, two cover half."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        found = interval(draw_means(rng.normal(size=seeds)), seeds)
        assert found is not None
        covered += found[0] <= 0 <= found[1]
    assert 0.92 <= covered / 300 <= 0.98


def test_one_seed_has_no_interval() -> None:
    assert interval(draw_means(np.array([1.0])), 1) is None


@pytest.mark.parametrize(("ratio", "word"), [(0.9, "supported"), (1.1, "refuted")])
def test_six_seeds_support_or_refute(tmp_path: Path, ratio: float, word: str) -> None:
    found, reason, effect = verdict(tmp_path, *pairs(ratio))
    assert (found, reason) == (word, "")
    assert effect.value == pytest.approx(ratio, rel=1e-4)
    assert (effect.seeds, effect.structures) == ((6,), (30,))


def test_fewer_than_six_seeds_are_undecided_with_the_effect_all_the_same(tmp_path: Path) -> None:
    found, reason, effect = verdict(tmp_path, *pairs(0.9, range(1, 6)))
    assert (found, reason) == ("undecided", "5 seeds; a verdict needs 6")
    assert effect.value == pytest.approx(0.9, rel=1e-4)
    assert effect.interval is not None


def test_an_interval_around_the_threshold_is_undecided(tmp_path: Path) -> None:
    runs = [run(p, seed, 0.02 * (1 if p == "none" else 0.8 if seed % 2 else 1.25)) for seed in SEEDS for p in ("none", "output")]
    assert verdict(tmp_path, *runs)[:2] == ("undecided", "the interval allows both")


def test_runs_that_do_not_compare_support_nothing(tmp_path: Path) -> None:
    other = {"config": {"model": {"num_layers": 2}}}
    runs = [run("none", seed, 0.02) for seed in SEEDS] + [run("output", seed, 0.01, **other) for seed in SEEDS]
    assert "settings besides the head (model.num_layers)" in verdict(tmp_path / "a", *runs)[1]
    dirty = [run(p, seed, s, **{"environment.dirty": True}) for seed in SEEDS for p, s in (("none", 0.02), ("output", 0.01))]
    assert "uncommitted changes" in verdict(tmp_path / "b", *dirty)[1]
    late = pairs(0.5)
    for made in late:
        made["config"]["trainer"] |= {"max_epochs": 40, "max_minutes": 8}
    assert "ended by trainer.max_minutes" in verdict(tmp_path / "c", *late)[1]
    smoke = pairs(0.5, **{"labels.budget": "smoke"})
    assert "smoke" in verdict(tmp_path / "c", *smoke, budget="smoke")[1]
    assert verdict(tmp_path / "d", *(run("none", seed, 0.02) for seed in SEEDS))[1] == "no record of allegro (output, gaussian) on ag"
    for number, (key, what) in enumerate({"environment.dataset_sha256": "different data", "science_version": "different versions"}.items()):
        changed = [run(p, seed, s, **({key: 7} if p == "none" else {})) for seed in SEEDS for p, s in (("none", 0.02), ("output", 0.01))]
        if key == "environment.dataset_sha256":
            for made in changed:
                made["environment"]["dataset_sha256"] = str(made["environment"].get("dataset_sha256"))
        word, reason, _ = verdict(tmp_path / f"other{number}", *changed)
        assert (word, what in reason) == ("undecided", True)
    apart = [run("none", 1, 0.02), run("output", 2, 0.02)]
    assert "no seed in common" in verdict(tmp_path / "e", *apart)[1]


def test_records_without_structures_use_seeds_alone_and_say_so(tmp_path: Path) -> None:
    runs = pairs(0.9)
    del runs[3]["structures"]
    word, _, effect = verdict(tmp_path / "old", *runs)
    assert (word, effect.structures) == ("supported", (0,))
    assert effect.remarks == ("interval over seeds alone: older records do not keep errors by structure",)
    runs = [*pairs(0.9, range(1, 6)), run("none", 6, 0.02), run("output", 6, 0.018, frames=29)]
    assert "different structures" in verdict(tmp_path / "other", *runs)[2].remarks[0]


def test_the_gain_is_a_difference_between_two_sets(tmp_path: Path) -> None:
    tested = part("gain", "5", direction="higher", against="3")
    runs = [*pairs(0.9), *pairs(0.7, dataset="hfo2")]
    word, _, effect = verdict(tmp_path / "more", *runs, tested=tested)
    assert (word, effect.value) == ("supported", pytest.approx(0.2, abs=1e-3))
    assert effect.seeds == (6, 6)
    assert {line.table for line in effect.lines} == {"3", "5"}
    runs = [*pairs(0.7), *pairs(0.9, dataset="hfo2")]
    assert verdict(tmp_path / "less", *runs, tested=tested)[0] == "refuted"


def test_the_gain_on_the_same_structures_is_drawn_in_common(tmp_path: Path) -> None:
    """Learning curves share their validation set and seeds: what these do to both gains alike is no uncertainty of the difference."""
    study, small = load_study(), part("gain", "learning_curve_950", direction="higher", against="learning_curve_50")
    runs = []
    for dataset in ("ag_50", "ag_950"):
        for seed in SEEDS:
            runs += [run("none", seed, 0.02, dataset=dataset), run("output", seed, 0.02 * (0.7 + 0.05 * seed), dataset=dataset)]
    assert {"learning_curve_50", "learning_curve_950"} <= set(study.tables)
    effect = verdict(tmp_path, *runs, tested=small)[2]
    assert effect.interval == pytest.approx((0, 0))
    assert effect.seeds == (6, 6)


def benchmark(
    results: Path,
    ratio: float = 1.1,
    quiet: bool = True,
    rounds: int = 9,
    head: tuple[str, str] = ("output", "gaussian"),
    device: str = "cuda",
) -> None:
    placement, basis = head
    timing = {"median": ratio, "low": 0.98 * ratio, "high": 1.02 * ratio}
    entry = {"placement": placement, "basis": basis, "match": "widths", "ratios": {"training": timing}}
    content = {
        "environment": {"commit": "c" * 40, "hardware": "CPU"},
        "quiet": quiet,
        "plan": {"rounds": rounds, "device": device},
        "kan": {"x": entry},
    }
    (results / "benchmarks").mkdir(parents=True, exist_ok=True)
    (results / "benchmarks" / "step_allegro_gpu.json").write_text(json.dumps(content))


def test_files_that_measured_something_else_are_no_cost_of_a_training_step(tmp_path: Path) -> None:
    tested = part("step", "2", "time", "about", tolerance=0.25).model_copy(update={"of": KAN})
    wanted = "the cost of a training step of allegro (output gaussian) is not measured (kanmlip-bench step --models allegro --size small)"
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    timing = {"median": 1.1, "low": 1.0, "high": 1.2, "seconds": 1.0}
    # Of a script that is gone; of other data; of molecular dynamics alone.
    old = {"size": "small", "rounds": 9, "environment": {}, "kan/allegro": {"MLP": timing, "output gaussian": timing}}
    (folder / "step_ratios_small_size.json").write_text(json.dumps(old))
    benchmark(tmp_path)
    (folder / "step_allegro_gpu.json").rename(folder / "step_allegro_small_carbon.json")
    assert verdict(tmp_path, tested=tested)[:2] == ("undecided", wanted)
    benchmark(tmp_path)
    content = json.loads((folder / "step_allegro_gpu.json").read_text())
    content["kan"]["x"]["ratios"] = {"md": timing}
    (folder / "step_allegro_gpu.json").write_text(json.dumps(content))
    assert verdict(tmp_path, tested=tested)[:2] == ("undecided", wanted)


@pytest.mark.parametrize(
    ("ratio", "word"), [(5.0, "supported"), (1.2, "refuted"), (4.691 * 0.75, "undecided")]
)  # about 4.7, within a quarter
def test_about_the_papers_factor(tmp_path: Path, ratio: float, word: str) -> None:
    benchmark(tmp_path, ratio, head=("all", "bspline"))
    everywhere = Match(model="allegro", placement="all", basis="bspline")
    tested = part("step", "2", "time", "about", tolerance=0.25).model_copy(update={"of": everywhere})
    assert verdict(tmp_path, tested=tested)[0] == word
    benchmark(tmp_path, ratio, rounds=5, head=("all", "bspline"))
    assert verdict(tmp_path, tested=tested)[:2] == ("undecided", "5 rounds; a verdict needs 6")
    benchmark(tmp_path, ratio, head=("all", "bspline"), device="cpu")
    assert verdict(tmp_path, tested=tested)[:2] == ("undecided", "measured on a CPU, while the paper's models ran on a GPU")


def test_a_claim_needs_all_its_parts(tmp_path: Path) -> None:
    good, bad = [part(), part(column="train_force")], pairs(0.9)
    for made in bad:
        made["metrics"]["train/force_mae_eV_per_A"] = 0.02 * (1 if made["labels"]["placement"] == "none" else 1.2)
    claim = STUDY.claims[0]
    both = claim.model_copy(update={"parts": tuple(good)})
    aside = claim.model_copy(update={"parts": (good[0], good[1].model_copy(update={"counts": False}))})
    missing = claim.model_copy(update={"parts": (good[0], part(table="5"))})
    words = [found.word for found in judge([both, aside, missing], sources(tmp_path, *bad))]
    assert words == ["refuted", "supported", "undecided"]


def test_the_papers_own_effects_come_from_its_printed_values() -> None:
    found = {(claim.key, tested.label): paper_effect(tested, STUDY) for claim in STUDY.claims for tested in claim.parts}
    assert len(STUDY.claims) == 7
    expected = {
        ("accuracy", "force error, Ag"): 0.014 / 0.016,
        ("accuracy", "energy error, HfO2"): 0.104 / 0.164,
        ("training_time", "time to a fixed error, HfO2"): (4 * 24 * 60 + 11 * 60 + 40) / (7 * 24 * 60 + 3),
        ("basis_cost", "time of an update, B-spline KANs everywhere"): (22 * 60 + 45) / (4 * 60 + 51),
        ("md_cost", "time of an MD step"): 8.92 / 8.22,
        ("md_cost", "memory on a GPU, MiB more"): 4.0,
        ("complexity", "relative gain in force error, HfO2 less Ag"): 0.014 / 0.016 - 0.054 / 0.074,
        ("mace_accuracy", "force error no more than 5 % higher, carbon"): (309.4 / 307.6 * 305.1 / 306.5 * 320.8 / 309.2) ** (1 / 3),
        ("born_charges", "test error of the charges"): 0.00450 / 0.00502,
    }
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key
