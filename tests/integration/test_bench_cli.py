"""``kanmlip-bench`` as a user calls it, on networks small enough for a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kanmlip.cli.bench import main
from tests.integration.application import environment, results


def bench(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kanmlip.cli.bench", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_layers_are_measured_and_written(tmp_path: Path) -> None:
    done = bench(
        "kan", "--shapes", "300:12,8,1", "--bases", "bspline:grid=4", "--backends", "torch,triton", "--contenders",
        "efficient-kan,fast-kan", "--rounds", "3", "--output", str(tmp_path / "out"), folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads((tmp_path / "out" / "kan_layer.json").read_text())
    shape = plain["shapes"]["(300; 12→8→1)"]
    results = {result["name"]: result for result in shape["results"]}
    assert {"MLP", "bspline:grid=4 torch", "bspline:grid=4 torch, 12→1→1", "efficient-kan", "fast-kan"} <= results.keys()
    for result in results.values():
        assert set(result["ratios"]) == {"forward", "gradient", "training"}
        for name, ratio in result["ratios"].items():
            assert ratio["low"] <= ratio["median"] <= ratio["high"]
            assert result["least"][name]["reached"] > 0
    assert results["MLP"]["ratios"]["training"]["median"] == 1
    assert results["bspline:grid=4 torch"]["ratios"]["training"]["median"] > 1
    assert len(shape["seconds"]["forward"]["MLP"]) == 3
    assert any("triton" in name for name in shape["missing"])  # no GPU here, and not measured under another backend's name
    markdown = (tmp_path / "out" / "kan_layer.md").read_text()
    assert markdown.strip() == done.stdout.strip()
    assert "fast-kan's algorithm (own reference)" in markdown
    assert plain["environment"]["threads"] == 1


@pytest.mark.slow
def test_steps_are_measured_and_written(tmp_path: Path) -> None:
    pytest.importorskip("allegro")
    done = bench(
        "step", "--size", "smoke", "--placements", "output", "--bases", "bspline", "--backend", "torch", "--rounds", "2", "--frames", "2",
        "--part", "all", folder=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads((results() / "benchmarks" / "step_allegro_smoke.json").read_text())
    assert set(plain["kan"]) == {"MLP", "output bspline, equal widths", "output bspline, equal parameters"}
    equal = plain["kan"]["output bspline, equal parameters"]
    before, after = equal["head_parameters"]
    assert 0 < after <= before
    assert plain["kan"]["output bspline, equal widths"]["head_parameters"][1] == 9 * before
    assert set(equal["ratios"]) == {"training", "md"}
    assert all(ratio["seconds"] > 0 for ratio in equal["ratios"].values())
    assert set(plain["trainer"]) == {"nequip-train", "kanmlip"}
    bars = {bar["text"]: bar["verdict"] for bar in plain["bars"]}
    assert bars["MD step at equal parameters: output bspline / MLP"] != "not measured"
    assert bars["MD step at equal parameters: all bspline / MLP"] == "not measured"
    assert "step_allegro_smoke.md" in done.stderr


def test_a_model_of_tensors_is_measured_in_training_alone(tmp_path: Path) -> None:
    arguments = ["step", "--models", "etgnn", "--size", "smoke", "--dataset", "toy_bec", "--placements", "output", "--bases", "bspline"]
    arguments += ["--backend", "torch", "--match", "widths", "--rounds", "2", "--frames", "2", "--part", "all", "--output", str(tmp_path)]
    assert main(arguments) == 0
    # Not the files of its own data, which reports read.
    assert {path.name for path in tmp_path.iterdir()} == {"step_etgnn_smoke_toy_bec.md", "step_etgnn_smoke_toy_bec.json"}
    plain = json.loads((tmp_path / "step_etgnn_smoke_toy_bec.json").read_text())
    assert plain["plan"]["what"] == ["training"]
    assert (plain["bars"], "trainer" in plain) == ([], False)
    assert set(plain["kan"]) == {"MLP", "output bspline, equal widths"}
    assert all(set(result["ratios"]) == {"training"} and result["ratios"]["training"]["seconds"] > 0 for result in plain["kan"].values())
    markdown = (tmp_path / "step_etgnn_smoke_toy_bec.md").read_text()
    assert "Structures of dataset=toy_bec" in markdown
    assert "Ag" not in markdown
    assert "MD step" not in markdown


def test_data_that_are_not_there_are_named_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KANMLIP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr("kanmlip.benchmark.step.kan_against_mlp", lambda *_: pytest.fail("the first model was measured"))
    assert main(["step", "--models", "allegro,etgnn", "--size", "smoke", "--output", str(tmp_path / "out")]) == 2
    assert "all_3992.extxyz.xz" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kan", "--shapes", "5000"), "--shapes=5000 is not understood"),
        (("kan", "--bases", "bspine"), "--bases=bspine is not known.*Did you mean 'bspline'"),
        (("kan", "--backends", "cuda"), "--backends=cuda is not known; choose from: auto"),
        (("kan", "--contenders", "fastkan"), "--contenders=fastkan is not known.*Did you mean 'fast-kan'"),
        (("kan", "--passes", "backward"), "--passes=backward is not known"),
        (("kan", "--rounds", "0"), "--rounds=0 must be 1 or more"),
        (("step", "--models", "allegra"), "--models=allegra is not known.*Did you mean 'allegro'"),
        (("step", "--placements", "outputs"), "--placements=outputs is not known.*Did you mean 'output'"),
        (("step", "--size", "giant"), "giant"),
        (("step", "--frames", "0"), "--frames=0 must be 1 or more"),
        (("step", "--dataset", "toi"), "dataset=toi is not known.*Did you mean 'toy'"),
        (("step", "--dataset", "toy_bec"), "born_effective_charges"),
        (("step", "--models", "etgnn", "--dataset", "toy_bec", "--what", "md"), "--what=md: etgnn has no forces; choose --what=training"),
        (("step", "--models", "etgnn", "--part", "trainer"), "--part=trainer: no upstream package trains etgnn; choose --part=kan"),
        (("step", "--models", "etgnn", "--size", "giant"), "budget=giant is not known"),
    ],
)
def test_wrong_input_is_named_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_help_does_not_load_torch(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from kanmlip.cli.bench import main\n"
        "try:\n    main(['kan', '--help'])\n"
        "except SystemExit:\n    print('torch' in sys.modules)"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert "bspline:grid=20" in done.stdout
    assert done.stdout.strip().endswith("False")
