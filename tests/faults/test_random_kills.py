"""Ten kills at random moments of sweeps of four runs: the records are those of a sweep that was left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from kanmlip.experiment.composition import Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.plan import make_plan
from tests.faults import forked, kills
from tests.integration.application import FAKES

script = kills.load()


@pytest.mark.slow
def test_records_after_ten_kills_are_those_without(tmp_path: Path) -> None:
    lines: list[str] = []
    jobs = make_plan(script.SWEEP[1:], True, Sources(conf_dir(), FAKES)).jobs
    assert jobs is not None
    assert len({job.run_id for job in jobs}) == 4

    def start(results: Path, output: Path) -> forked.Forked:
        return forked.start_planned(jobs, output, KANMLIP_RESULTS=str(results), KANMLIP_TEST_DELAY=script.DELAY_S)

    tally = script.disturb(10, 1, tmp_path, start, 2.0, lines.append)
    print("\n".join(lines))
    assert tally.problems == []
    assert tally.kills == 10
    assert tally.sweeps >= 1


def test_the_comparison_sees_a_last_bit_and_a_lost_epoch() -> None:
    record = {"run_id": "a", "metrics": {"val/force_mae_eV_per_A": 0.1, "time/train_s": 1.0}, "environment": {"started": "x"}}
    later = {"run_id": "a", "metrics": {"val/force_mae_eV_per_A": 0.1, "time/train_s": 2.0}, "environment": {"started": "y"}}
    other = {"run_id": "a", "metrics": {"val/force_mae_eV_per_A": 0.1 + 2e-17, "time/train_s": 1.0}, "environment": {"started": "x"}}
    tally = script.Tally(lambda text: None)
    script.compare({"a": record}, {"a": later}, tally)
    assert tally.problems == []
    script.compare({"a": record}, {"a": other}, tally)
    script.compare({"a": record}, {}, tally)
    assert len(tally.problems) == 2
    said = "a: resumed\nresuming after epoch 4\nb: resumed\nresuming after epoch 3\nc: resumed\nepoch 1/12  loss 1\nd: resumed\n"
    script._check_progress(said, dict.fromkeys("abcd", 5), tally)
    assert [problem.partition(";")[0] for problem in tally.problems[2:]] == ["b lost 2 epochs", "c lost 5 epochs"]
