"""What is said of a run that will take longer than its budget means it to."""

from __future__ import annotations

import pytest

from kanmlip.training import progress
from kanmlip.training.progress import Progress, too_long


@pytest.mark.parametrize(
    ("spent_s", "epoch_s", "said"),
    [(30.0, 10.0, None), (30.0, 57.0, None), (30.0, 58.0, "takes 10 minutes"), (30.0, 114.0, "trainer.max_epochs=7")],
)
def test_a_run_that_fits_is_not_spoken_of(spent_s: float, epoch_s: float, said: str | None) -> None:
    text = too_long(total=12, done=2, spent_s=spent_s, epoch_s=epoch_s, minutes=10)
    assert (text is None) == (said is None)
    assert said is None or said in (text or "")


def test_even_a_run_that_cannot_fit_names_epochs_that_are_done() -> None:
    assert "trainer.max_epochs=2:" in (too_long(total=12, done=2, spent_s=700, epoch_s=350, minutes=10) or "")


@pytest.mark.parametrize(("minutes", "times"), [(9.0, 1), (90.0, 0), (None, 0)])
def test_it_is_said_once_and_from_an_epoch_without_the_first_ones_delays(
    minutes: float | None, times: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    row = {"train/loss": 0.1, "val/force_mae_eV_per_A": 0.2}
    with Progress(20, 0, True, minutes) as shown:
        for seconds in (300.0, 60.0, 60.0, 60.0):  # the first epoch compiles
            now[0] += seconds
            shown.advance({**row, "time/train_s": now[0]}, "val/force_mae_eV_per_A")
    said = [line for line in capsys.readouterr().out.splitlines() if "meant to take at most" in line]
    assert len(said) == times
    if said:
        assert "training takes 24 minutes" in said[0]  # 6 behind it, 18 to come
        assert "trainer.max_epochs=5:" in said[0]
