"""Bars are judged as the issue states them, and reports say what was measured and what was not."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pytest

from kanmlip.benchmark.bars import Bar, layer_bars, step_bars
from kanmlip.benchmark.contenders import Contender
from kanmlip.benchmark.interleave import Ratio, ratios, repeated
from kanmlip.benchmark.kan_layer import Comparison, Plan, Result, Shape
from kanmlip.benchmark.machine import Quietness, Watch
from kanmlip.benchmark.report import bars_table, layer_json, layer_markdown, step_json, step_markdown, table
from kanmlip.benchmark.roofline import Rates
from kanmlip.benchmark.step import StepPlan, StepResult
from kanmlip.errors import ConfigError

SHAPE = Shape(5000, (128, 32, 1))
QUIET = Quietness(0.1, 1.1, 0.02)
ENVIRONMENT = {
    "hardware": "a CPU", "threads": 1, "device": "cpu", "commit": "abc", "dirty": False, "versions": {"torch": "2", "python": "3"},
}  # fmt: skip
FACTORS = {"mlp": 1.0, "bspline": 6.0, "bspline:grid=20": 8.0, "gaussian": 9.0, "efficient-kan": 60.0}


def plan(**changes) -> Plan:
    settings = {"shapes": (SHAPE,), "bases": ("bspline", "bspline:grid=20", "gaussian"), "backends": ("cpu",), "others": ("efficient-kan",)}
    return Plan(**{**settings, "passes": ("training",), **changes})


def comparison(shape: Shape = SHAPE) -> Comparison:
    """Contenders whose times are known multiples of the MLP's."""
    chosen = plan()
    noise = 1e-3 * np.array([1.0, 1.5, 1.2])
    contenders = {c.name: c for c in chosen.contenders(shape)}
    seconds = {name: FACTORS[c.basis or c.kind] * noise for name, c in contenders.items()}
    timed = ratios(seconds, "MLP")
    peaks = {"mlp": 20.0, "bspline": 21.0, "bspline:grid=20": 23.0, "gaussian": 20.0}
    results = {name: Result(c, c.parameters(), {"training": timed[name]}, peaks.get(c.basis or c.kind)) for name, c in contenders.items()}
    return Comparison(shape, results, {"training": seconds}, {"pykan": "not installed", "pykan, 128→3→1": "not installed"})


def test_layer_bars_of_the_first_shape() -> None:
    bars = {bar.text.partition(": ")[2] + bar.text[-14:]: bar for bar in layer_bars(plan(), comparison())}
    found = {bar.text.split(": ", 1)[1]: (bar.limit, bar.verdict) for bar in bars.values() if "memory" not in bar.text}
    assert found == {
        "B-spline / MLP": (6.5, "met"),
        "Gaussian / MLP": (8.6, "met with margin"),
        "B-spline, plain PyTorch / MLP": (15.0, "not measured"),
        "Gaussian, plain PyTorch / MLP": (15.0, "not measured"),
        "efficient-kan's algorithm / B-spline": (11.0, "met with margin"),
        "B-spline G = 20 / G = 5": (1.15, "missed"),
    }
    memory = {bar.text.split(": ", 1)[1]: bar for bar in bars.values() if "memory" in bar.text}
    assert {name: bar.verdict for name, bar in memory.items()} == {
        "bspline / MLP": "met", "bspline:grid=20 / MLP": "missed", "gaussian / MLP": "met",
    }  # fmt: skip
    assert memory["bspline / MLP"].lenient == 1.1  # no margin for memory


def test_bars_of_each_shape_are_its_own() -> None:
    limits = {
        str(shape): next(bar.limit for bar in layer_bars(plan(), comparison(shape)))
        for shape in (SHAPE, Shape(5000, (256, 128, 128)), Shape(500, (64, 16, 1)))
    }
    assert list(limits.values()) == [6.5, 7.0, 3.6]
    assert not any("memory" in bar.text for bar in layer_bars(plan(), comparison(Shape(500, (64, 16, 1)))))
    assert layer_bars(plan(), comparison(Shape(10, (4, 2)))) == []
    assert layer_bars(plan(dtype="float64"), comparison()) == []


def test_a_lower_bound_is_judged_from_below() -> None:
    verdicts = [Bar("faster", 11.0, value, at_least=True).verdict for value in (12.0, 10.0, 9.0)]
    assert verdicts == ["met", "met with margin", "missed"]
    assert Bar("faster", 11.0, None).verdict == "not measured"
    assert Bar("memory", 1.1, 1.11, margin=1.0).verdict == "missed"


def test_step_bars_are_allegros() -> None:
    measured = {("output", "gaussian"): Ratio(1.08, 1.0, 1.1, 0.1), ("all", "bspline"): Ratio(1.6, 1.5, 1.7, 0.2)}
    found = {bar.text: (bar.limit, bar.verdict) for bar in step_bars("allegro", "cpu", "training", "parameters", measured)}
    assert found["training step at equal parameters: output gaussian / MLP"] == (1.1, "met")
    assert found["training step at equal parameters: all bspline / MLP"] == (1.3, "missed")
    assert found["training step at equal parameters: all gaussian / MLP"] == (1.3, "not measured")
    assert len(step_bars("allegro", "cpu", "md", "parameters", {})) == 4
    assert step_bars("mace", "cpu", "training", "widths", measured) == []


def test_markdown_of_layers_holds_bars_numbers_environment_and_what_is_missing() -> None:
    chosen, measured = plan(), comparison()
    bars = layer_bars(chosen, measured)
    content = chosen, Rates(1e11, 1e30), [measured], bars, ENVIRONMENT, QUIET
    text = layer_markdown(*content)
    assert "| MLP (SiLU, no bias) | 128→32→1 | 4,128 | 1.00 [1.00, 1.00] | 1.2 | 20.0 | 1.00 |" in text
    assert "efficient-kan's algorithm (own reference)" in text
    assert "6.00 [6.00, 6.00]" in text
    flops = 2 * 5000 * (128 * 32 + 32)
    spline = 7 * 5 * flops / 1e11 / 7.2e-3
    results = {result["name"]: result for result in layer_json(*content)["shapes"][str(SHAPE)]["results"]}
    assert results["bspline cpu"]["least"]["training"]["reached"] == pytest.approx(spline)
    assert f"| {100 * results['MLP']['least']['training']['reached']:.0f} % |" in text
    assert results["MLP"]["least"]["training"]["flops"] == 6 * flops
    assert "Not measured: pykan, pykan, 128→3→1: not installed" in text
    assert "commit abc" in text and "1 thread(s)" in text and "3 rounds" not in text and "21 rounds" in text
    assert "The machine was quiet" in text
    widths = {line.count(" | ") for line in bars_table(bars).splitlines()}
    assert len(widths) == 1
    plain = json.loads(json.dumps(layer_json(*content)))
    assert len(plain["shapes"][str(SHAPE)]["results"]) == 5
    assert len(plain["shapes"][str(SHAPE)]["seconds"]["training"]["MLP"]) == 3


def test_markdown_of_steps() -> None:
    chosen = StepPlan("allegro", "gpu", (), ("bspline",), ("parameters",), ("training",), "auto", "cpu", 5, 4)
    one, twice = Ratio(1.0, 1.0, 1.0, 0.1), Ratio(1.05, 1.0, 1.1, 0.105)
    results = {
        "MLP": StepResult("none", "", "", 9304, (0, 0), (), {"training": one}),
        "output bspline": StepResult("output", "bspline", "parameters", 8979, (2080, 1755), ((64, 3, 1),), {"training": twice}),
    }
    part = {"kan": results, "trainer": {"nequip-train": one, "kanmlip": twice}}
    text = step_markdown(chosen, part, [], ENVIRONMENT, QUIET)
    assert "| output bspline | 64→3→1 | 2,080 → 1,755 | 8,979 | 1.05 [1.00, 1.10] | 105 |" in text
    assert "| kanmlip | 1.05 [1.00, 1.10] | 105 |" in text
    assert json.loads(json.dumps(step_json(chosen, part, [], ENVIRONMENT, QUIET)))["kan"]["MLP"]["parameters"] == 9304


def test_cells_may_hold_a_bar() -> None:
    assert table(["a"], [["|x|"]]).splitlines()[-1] == "| \\|x\\| |"


@pytest.mark.parametrize("text", ["5000", "5000:", "5000:128", "0:4,2", "a:4,2", "5:4,0", "5:4,b"])
def test_a_wrong_shape_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--shapes={text} is not understood"):
        Shape.parse(text)
    assert Shape.parse("500:64,16,1") == Shape(500, (64, 16, 1))


def test_the_plan_puts_the_mlp_first_and_names_every_contender_once() -> None:
    contenders = plan(backends=("cpu", "torch"), matches=("widths", "parameters")).contenders(SHAPE)
    assert contenders[0] == Contender("mlp", SHAPE.widths)
    assert len({contender.name for contender in contenders}) == len(contenders) == 1 + 2 * (3 * 2 + 1)


def test_a_busy_machine_is_called_so() -> None:
    assert Quietness(3.0, 4.0, 0.1).quiet  # the load average is of the minute before
    assert not Quietness(0.1, 1.0, 0.9).quiet
    assert not Quietness(0.1, 2.0, None).quiet
    assert Quietness(0.1, 1.2, None).quiet
    assert str(Quietness(0.1, 2.0, 0.9)).startswith("WARNING")


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="CPU time of others is read from /proc")  # noqa: PTH110
def test_ones_own_work_is_not_others() -> None:
    watch = Watch()
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    found = watch.stop()
    assert found.others is not None
    busy = Watch()
    busy.own += 1.0  # as if this process had used a second less than the machine has
    assert (busy.stop().others or 0) > found.others


def test_a_short_call_is_repeated_and_its_seconds_are_one_calls() -> None:
    took: list[float] = []

    def short() -> None:
        start = time.perf_counter()
        time.sleep(1e-3)
        took.append(time.perf_counter() - start)

    turn = repeated(short, turn_s=0.05)
    before = len(took)
    seconds = turn()
    assert len(took) - before > 1
    assert seconds == pytest.approx(sum(took[before:]) / len(took[before:]), rel=0.2)
    once = repeated(short, turn_s=0.0)
    before = len(took)
    once()
    assert len(took) - before == 1
