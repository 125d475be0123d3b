from __future__ import annotations

import time

import numpy as np
import pytest

from kanmlip.benchmark.interleave import interleave, ratios


def test_contenders_take_turns_in_alternating_order() -> None:
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    interleave(contenders, rounds=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_ratio_is_paired_and_its_interval_brackets_the_truth() -> None:
    seconds = interleave({"one": lambda: time.sleep(0.002), "three": lambda: time.sleep(0.006)}, rounds=9, warmup=0)
    ratio = ratios(seconds, "one")["three"]
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.median == pytest.approx(3, rel=0.3)


def test_drift_that_hits_both_alike_leaves_the_ratio() -> None:
    drift = np.linspace(1, 2, 7)
    ratio = ratios({"mlp": drift, "kan": 1.4 * drift}, "mlp")["kan"]
    assert ratio.median == pytest.approx(1.4)
    assert ratio.high - ratio.low < 1e-12


def test_a_contender_may_measure_itself() -> None:
    seconds = interleave({"own": lambda: 0.25, "mine": lambda: None}, rounds=3, warmup=0)
    assert seconds["own"].tolist() == [0.25] * 3
    assert seconds["mine"].max() < 0.25
