"""Updates, and time, until a fixed error: a target that all runs reach, drawn anew, and the cost of an update from a benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_report_claims import benchmark, pairs, part, verdict

UPDATES, TIME = part("updates", column="time"), part("time", column="time")
ERROR = "val/force_mae_eV_per_A"


@pytest.mark.parametrize("broken", [{ERROR: "0.1 0.2"}, {ERROR: "0.1 x 0.2 0.3"}, {"updates": "", ERROR: ""}, {ERROR: "nan nan nan nan"}])
def test_a_course_that_is_not_whole_is_said_and_ends_nothing(broken: dict[str, str], tmp_path: Path) -> None:
    runs = pairs(0.8)
    runs[4]["history"] |= broken
    word, reason, _ = verdict(tmp_path, *runs, tested=UPDATES)
    assert word == "undecided"
    assert reason.startswith(f"the course of validation of `{runs[4]['run_id']}` is not")


def test_the_error_to_reach_is_that_of_the_runs_drawn(tmp_path: Path) -> None:
    """One bad MLP's error is reached by all others at once; draws without it have a target that the MLPs take twice as long to."""
    runs = pairs(1.0)
    runs[0]["history"] = {"updates": "10 20 30 40", ERROR: "0.9 0.8 0.7 0.6"}
    for made in runs[1:]:
        of_mlp = made["labels"]["placement"] == "none"
        made["history"] = {"updates": "10 20 30 40", ERROR: "0.5 0.4 0.3 0.2" if of_mlp else "0.5 0.2 0.2 0.2"}
    effect = verdict(tmp_path, *runs, tested=UPDATES)[2]
    assert effect.interval is not None
    assert effect.value == pytest.approx(0.25 ** (1 / 6))  # of six pairs five are even, one has a KAN four times as quick
    # A third of the draws is without the bad run. With its target they would be even, and the interval would end at 1.
    assert effect.interval[1] == pytest.approx(0.25 ** (1 / 6))


def test_updates_to_the_error_that_every_run_reaches(tmp_path: Path) -> None:
    effect = verdict(tmp_path, *pairs(0.8), tested=UPDATES)[2]
    # The largest best error is the MLP's of seed 6, 0.02 · 1.12: it takes that run all 40 updates, the KANs 30 (1.2 · 0.8 < 1).
    by_seed = {line.seed: (line.ours, line.theirs) for line in effect.lines}
    assert by_seed[6] == (30, 40)
    assert "at most 0.02" in effect.remarks[0]


def test_the_time_is_updates_times_the_benchmarked_cost_of_one(tmp_path: Path) -> None:
    word, reason, alone = verdict(tmp_path / "a", *pairs(0.8), tested=TIME)
    assert word == "undecided"
    assert reason == (
        "the cost of a training step of allegro (output gaussian) is not measured (kanmlip-bench step --models allegro --size small), so "
        "that this is updates alone"
    )
    benchmark(tmp_path / "b", ratio=4.0)
    word, _, effect = verdict(tmp_path / "b", *pairs(0.8), tested=TIME)
    assert effect.value == pytest.approx(4 * (alone.value or 0))
    assert word == "refuted"
    assert "(sizes of budget gpu, commit cccccccccc, CPU)" in effect.remarks[-1]
    benchmark(tmp_path / "c", quiet=False)
    assert "not quiet" in verdict(tmp_path / "c", *pairs(0.8), tested=TIME)[1]
    benchmark(tmp_path / "d", ratio=4.0, device="cpu")
    assert verdict(tmp_path / "d", *pairs(0.8), tested=TIME)[:2] == (
        "undecided",
        "measured on a CPU, while the paper's models ran on a GPU",
    )
