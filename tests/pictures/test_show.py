"""``kanmlip-show``: pictures of a run with a KAN and of one without, the physics report, and W&B."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kanmlip.cli.show import finish, main
from kanmlip.physics.counterpart import find_counterpart
from kanmlip.physics.examination import Examination
from kanmlip.physics.part import Part
from kanmlip.physics.report import render, verdicts
from kanmlip.training.loggers import LoggerConfig
from tests.pictures.fake_runs import train_fake

pytest.importorskip("matplotlib")


@pytest.fixture
def pair() -> tuple[Path, Path]:
    """A run with a KAN and the MLP's, and some that are not its counterpart."""
    runs = [train_fake(f"placement={placement}", "basis=bspline", "seed=3") for placement in ("output", "none")]
    train_fake("placement=none", "seed=4")
    train_fake("placement=none", "seed=3", "trainer.optimizer.lr=0.02")
    return runs[0], runs[1]


def test_every_picture_is_there_as_png_and_svg(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(pair[0]), "--functions", "5"]) == 0
    folder = pair[0] / "pictures"
    names = {path.stem for path in folder.glob("*.png")}
    assert names == {path.stem for path in folder.glob("*.svg")}
    assert names == {"learning", "parity", "elements_forces", "functions_readout_kan_layers_0", "functions_readout_kan_layers_1"}
    assert all(path.stat().st_size > 5000 for path in folder.glob("*.png"))
    errors = json.loads((folder / "elements.json").read_text())["forces"]
    metrics = json.loads((pair[0] / "metrics.json").read_text())
    # One element: its error is the error.
    assert errors["test"]["Ar"]["mae"] == pytest.approx(metrics["test/force_mae_eV_per_A"], rel=1e-6)
    assert errors["val"]["Ar"]["atoms"] == 16
    with np.load(folder / "functions_readout_kan_layers_0.npz") as stored:
        assert stored["y"].shape == (5, 400)
        assert (np.diff(stored["importance"]) <= 0).all()
    assert "not drawn" not in capsys.readouterr().out


def test_a_run_without_a_kan_says_what_it_has_not(capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_fake("placement=none")
    (folder / "history.csv").unlink()
    assert main([str(folder), "--output", str(folder / "elsewhere")]) == 0
    printed = capsys.readouterr().out
    assert "not drawn: learned functions: placement=none has no KAN" in printed
    assert "not drawn: learning curves" in printed
    assert (folder / "elsewhere" / "parity.svg").is_file()


def test_the_physics_of_a_run_stands_beside_its_mlps(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(pair[0]), "--physics", "--nve-steps", "40", "--nve-equilibration", "8", "--nve-temperature", "20"]) == 0
    folder = pair[0] / "physics"
    report = json.loads((folder / "physics.json").read_text())
    assert (report["run"]["run"], report["mlp"]["run"]) == (pair[0].name, pair[1].name)
    printed = capsys.readouterr().out
    assert printed.strip() == (folder / "physics.md").read_text().strip()
    assert "| | output bspline | MLP |" in printed
    # The fake model has no envelope: its energy does jump at its cutoff, and the report says so.
    bars = {bar["text"]: bar for bar in report["bars"]}
    assert bars["no energy jump above 1e-06 eV at the cutoff"]["verdict"] == "missed"
    assert report["run"]["parts"]["consistency"]["values"]["force_scale_eV_per_A"] > 0
    for name in ("run", "mlp"):
        nve = report[name]["parts"]["nve"]
        assert nve["values"]["duration_ps"] == pytest.approx(0.04), nve
    assert (folder / "physics.png").is_file()
    assert len(list((folder / "mlp").glob("nve-20K-e8-s0-*/trajectory.xyz"))) == 1
    assert report["labels"] is None  # nobody says what computed the fake set's labels
    # Weights that were trained again are another potential, with an NVE run of their own.
    best = pair[0] / "checkpoints" / "best.ckpt"
    state = torch.load(best, weights_only=True)
    next(iter(state["model"].values())).mul_(1.01)
    torch.save(state, best)
    assert main([str(pair[0]), "--physics", "--nve-steps", "40", "--nve-equilibration", "8", "--nve-temperature", "20"]) == 0
    again = json.loads((folder / "physics.json").read_text())
    assert again["run"]["parts"]["nve"]["values"] != report["run"]["parts"]["nve"]["values"]
    assert again["mlp"]["parts"]["nve"] == report["mlp"]["parts"]["nve"]


def test_an_mlp_that_a_user_names_is_called_that(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    other = train_fake("placement=none", "seed=4")
    assert main([str(pair[1]), "--physics", "--nve-steps", "0", "--mlp", str(other)]) == 0
    printed = capsys.readouterr().out
    assert f"Beside it {other.name}, named by --mlp." in printed
    assert "of the same settings" not in printed
    assert f"| | MLP | {other.name} |" in printed
    assert main([str(pair[1]), "--physics", "--nve-steps", "0", "--mlp", str(pair[0])]) == 2
    assert f"{pair[0].name}, which has KANs; name a run with placement=none" in capsys.readouterr().err


def test_the_counterpart_differs_in_the_head_alone(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    from kanmlip.experiment.validation import load_run_config

    assert find_counterpart(pair[0], load_run_config(pair[0])) == pair[1]
    assert find_counterpart(pair[1], load_run_config(pair[1])) is None
    (pair[1] / "status.json").unlink()
    assert main([str(pair[0]), "--physics", "--nve-steps", "0"]) == 0
    printed = capsys.readouterr().out
    assert "no finished MLP run with the settings of" in printed
    assert "left out (--nve-steps 0)" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "run=nothing"),
        (["--functions", "0"], "--functions=0 must be 1 or more"),
        (["--physics", "--nve-steps", "-1"], "--nve-steps=-1"),
        (["--physics", "--crystal", "nowhere.cif"], "--crystal=nowhere.cif"),
        (["--physics", "--mlp", "nobody"], "run=nobody"),
        (["--physics", "--nve-equilibration", "-5"], "--nve-equilibration=-5: input should be greater"),
        (["--physics", "--nve-temperature", "nan"], "--nve-temperature=nan: input should be a finite number"),
        (["--physics", "--nve-temperature", "0"], "--nve-temperature=0 moves nothing"),
    ],
)
def test_wrong_input_is_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = train_fake("placement=none")
    assert main(arguments if arguments[0] == "nothing" else [str(folder), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "physics").exists()


def test_pictures_join_the_wandb_run_of_a_run_that_was_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    opened: list[dict[str, Any]] = []
    logged: dict[str, Any] = {}

    def init(**settings: Any) -> SimpleNamespace:
        opened.append(settings)
        return SimpleNamespace(log=logged.update, finish=lambda: opened.append({"finished": True}))

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "Image", lambda path: Path(path).name)
    folder = tmp_path / "allegro-output-s1"
    pictures = [folder / "parity.png", folder / "parity.svg", folder / "learning.png", folder / "elements.json"]

    def run(logged_to_wandb: bool) -> Any:
        return SimpleNamespace(folder=folder, config=SimpleNamespace(logger=LoggerConfig(wandb=logged_to_wandb)))

    finish(run(False), folder, pictures, no_wandb=False)
    finish(run(True), folder, pictures, no_wandb=True)
    assert opened == []
    finish(run(True), folder, pictures, no_wandb=False)
    assert (opened[0]["id"], opened[0]["mode"], opened[1]) == (folder.name, "offline", {"finished": True})
    assert logged == {"pictures/parity": "parity.png", "pictures/learning": "learning.png"}


@pytest.mark.parametrize(
    ("drift", "error", "mlp", "verdict"),
    [
        (0.01, 0.001, None, "met"),
        (-0.03, 0.001, 0.03, "met"),
        (-0.03, 0.001, 0.01, "missed"),
        (0.03, 0.01, 0.01, "undecided"),
        (None, 0.0, 0.01, "not measured"),
    ],
)
def test_a_drift_is_judged_where_its_error_allows(drift: float | None, error: float, mlp: float | None, verdict: str) -> None:
    def examined(value: float | None) -> Examination:
        nve = (
            Part(missing="it flew apart") if value is None else Part({"drift_meV_per_atom_ps": value, "drift_error_meV_per_atom_ps": error})
        )
        names = ("equation_of_state", "elastic_constants", "phonons", "consistency")
        return Examination(
            "run", "head", {**dict.fromkeys(names, Part(missing="no")), "nve": nve, "cutoff": Part({"largest_jump_eV": 1e-9})}
        )

    run, other = examined(drift), None if mlp is None else examined(mlp)
    assert [bar["verdict"] for bar in verdicts(run, other)] == ["met", verdict]
    assert ("it flew apart" in render(run, other)) == (drift is None)
