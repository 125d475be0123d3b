from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from kanmlip.benchmark.interleave import interleave, ratios


def test_contenders_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    interleave(contenders, rounds=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_ratio_is_paired_and_its_interval_brackets_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own, with noise of a tenth: a loaded machine would decide, not the code."""
    now, noise = [0.0], np.random.default_rng(0)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def takes(seconds: float) -> Callable[[], None]:
        return lambda: now.__setitem__(0, now[0] + seconds * noise.uniform(0.9, 1.1))

    seconds = interleave({"one": takes(0.002), "three": takes(0.006)}, rounds=9, warmup=0)
    assert 0.002 * 0.9 <= seconds["one"].min() <= seconds["one"].max() <= 0.002 * 1.1
    ratio = ratios(seconds, "one")["three"]
    assert ratio.low <= 3 <= ratio.high
    assert ratio.median == pytest.approx(3, rel=0.1)


def test_drift_that_hits_both_alike_leaves_the_ratio() -> None:
    drift = np.linspace(1, 2, 7)
    ratio = ratios({"mlp": drift, "kan": 1.4 * drift}, "mlp")["kan"]
    assert ratio.median == pytest.approx(1.4)
    assert ratio.high - ratio.low < 1e-12


def test_a_contender_may_measure_itself() -> None:
    seconds = interleave({"own": lambda: 0.25, "mine": lambda: None}, rounds=3, warmup=0)
    assert seconds["own"].tolist() == [0.25] * 3
    assert seconds["mine"].max() < 0.25
