"""The benchmark of batches by size: the limit is that of equal memory, and a gain bought with memory does not count."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from kanmlip.benchmark import batching
from kanmlip.benchmark.batching import Contest, Outcome, Side, compare, plain, report
from kanmlip.benchmark.interleave import Ratio
from kanmlip.benchmark.training_step import Setting
from kanmlip.data.batching import Limits, Sizes
from kanmlip.data.neighbours import build_graphs
from kanmlip.training.config import TrainerConfig
from tests.fakes import PairPotential, pair_frames

CONTEST = Contest("pair", "small", "silver", None, 3, "cpu", 3)


class PairSetting(Setting):
    """Pairs of silver, sizes of 4 to 16 atoms, in the place of a model of conf/model."""

    def build(self, *arguments: Any) -> Any:
        return PairPotential()


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    graphs = build_graphs(pair_frames(14, sizes=(1, 2, 4)), 3.5)
    trainer = TrainerConfig(precision="float64", device="cpu", progress_bar=False)
    made = PairSetting(model=None, stats=None, graphs=graphs, trainer=trainer)  # type: ignore[arg-type]
    monkeypatch.setattr(batching, "prepare", lambda contest: made)
    return made


def outcome(peaks: tuple[float | None, float | None], gain: float = 1.4) -> Outcome:
    limits = Limits(3), Limits(atoms=60, edges=900)
    sides = [Side(each, 5.0, (0.5, 0.8), peak, 0.01) for each, peak in zip(limits, peaks, strict=True)]
    return Outcome(sides[0], sides[1], Ratio(gain, gain - 0.1, gain + 0.1, 0.01), 14)


def test_the_limit_is_lowered_until_memory_is_that_of_fixed_batches(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def peak(contest: Contest, limits: Limits) -> float:
        asked.append(limits)
        return 100.0 if limits.structures else 0.2 * (limits.edges or 0)

    monkeypatch.setattr(batching, "_peak", peak)
    found = compare(CONTEST)
    assert asked[0] == Limits(3)
    assert found.by_size.peak_mib is not None
    assert found.by_size.peak_mib <= 100
    assert found.by_size.limits == asked[-1]
    sizes = Sizes.of(setting.graphs)
    assert (found.by_size.limits.edges or 0) >= sizes.edges.max()
    assert (found.by_size.limits.atoms or 0) >= sizes.atoms.max()
    assert found.gain.median > 0
    assert found.by_size.fill[1] > found.fixed.fill[1]
    assert json.loads(json.dumps(plain(CONTEST, found, {}, {})))["outcome"]["structures"] == 14


def test_a_gain_at_more_memory_does_not_count() -> None:
    assert outcome((100.0, 100.0)).bar.verdict == "met"
    assert outcome((100.0, 100.0), gain=1.05).bar.verdict == "missed"
    assert outcome((100.0, 130.0)).bar.verdict == "not measured"
    assert outcome((None, 100.0)).bar.verdict == "not measured"
    text = report(CONTEST, outcome((100.0, 99.0)), "a header")
    assert "1.40 [1.30, 1.50]" in text
    assert "≤ 60 atoms, ≤ 900 edges" in text


def test_what_the_process_that_measures_memory_does(setting: Setting) -> None:
    torch.set_num_threads(1)
    contest = {"model": "pair", "size": "small", "dataset": "silver", "frames": None, "batch_size": 3, "device": "cpu", "rounds": 3}
    limits = {"structures": 3, "atoms": None, "edges": None}
    peak = batching._child({"contest": contest, "limits": limits})
    if peak is None:
        pytest.skip("this system does not let a process reset its high-water mark")
    assert 0 <= peak < 500
