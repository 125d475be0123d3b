"""Which folders load, which weights come out of them, and what is said of folders that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms

from kanmlip.data.root import data_root
from kanmlip.errors import ConfigError
from kanmlip.experiment import results_root
from kanmlip.experiment.configure import compose_run
from kanmlip.experiment.pipeline import run as train
from kanmlip.experiment.status import Status, write_status
from kanmlip.export import ase as export_ase
from kanmlip.export.loading import load_potential
from tests.export.conftest import Made
from tests.export.runs import make_run


def test_a_trained_run_repeats_its_own_predictions(tmp_path: Path, silver: list[Atoms]) -> None:
    pytest.importorskip("allegro")
    ase.io.write(tmp_path / "silver.xyz", silver, format="extxyz")
    arguments = ["model=allegro", "placement=output", "basis=bspline", "dataset=extxyz", f"dataset.train={tmp_path}/silver.xyz"]
    arguments += ["dataset.val=0.5", "budget=smoke", "placement.head.update_grid=true", "trainer.max_epochs=2", "logger=none"]
    config = compose_run(arguments)
    folder = tmp_path / "allegro-output-bspline-extxyz-s0-0123456789"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config.to_plain()))
    train(folder)
    write_status(folder, Status("done", folder.name))
    atoms = config.dataset.load(data_root()).val[0].copy()
    with np.load(folder / "predictions.npz") as stored:
        energy, forces = stored["val/energy_pred"][0], stored["val/forces_pred"][: len(atoms)]
    atoms.calc = export_ase.load(folder)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-5)
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = next(iter(load_potential(folder, checkpoint="last").potential.parameters()))
    torch.testing.assert_close(weights, state["average"]["average"][0])


@pytest.mark.parametrize("setting", ["match=parameters", "update_grid=true", "norm=layer", "zero_preserving=false", "base=false"])
def test_heads_come_back_whatever_their_settings(setting: str, tmp_path: Path, silver: list[Atoms]) -> None:
    pytest.importorskip("nequip")
    folder, potential, config = make_run(tmp_path, silver, "nequip-output", f"placement.head.{setting}", basis="bspline")
    loaded = load_potential(folder).potential
    assert loaded.state_dict().keys() == potential.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in potential.state_dict().items())
    graph = config.model.collate(silver)
    torch.testing.assert_close(loaded(graph)["forces"], potential(graph)["forces"], rtol=0, atol=1e-9)  # buffers not in the state, too


def test_runs_are_found_by_path_by_name_and_by_the_beginning_of_a_name(run_of: Callable[..., Made]) -> None:
    original, _, _ = run_of("nequip-output")
    runs = results_root() / "runs"
    runs.mkdir(parents=True)
    for name in ("nequip-output-gaussian-toy-s1-aa", "nequip-output-gaussian-toy-s2-bb"):
        (runs / name).symlink_to(original)
    for name in (original, str(original), "nequip-output-gaussian-toy-s1-aa", "nequip-output-gaussian-toy-s1"):
        assert load_potential(name).species == (47,)
    with pytest.raises(ConfigError, match=r"beginning of 2 runs; choose one: .*-s1-aa, .*-s2-bb"):
        load_potential("nequip-output")
    with pytest.raises(ConfigError, match=r"run=nequip-outptu.* is not known.*Did you mean"):
        load_potential("nequip-outptu-gaussian-toy-s1-aa")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": "bets"}, "checkpoint=bets is not known; choose from: best, last. Did you mean 'best'"),
        ({"dtype": "float16"}, "dtype=float16 is not known; choose from: float32, float64"),
        ({"device": "tpu"}, "device=tpu is not known; choose from: auto, cpu, cuda"),
        ({"backend": "fast"}, "backend=fast"),
        ({"checkpoint": "last"}, "last.ckpt is missing or holds no weights"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, str], message: str, run_of: Callable[..., Made]) -> None:
    with pytest.raises(ConfigError, match=message):
        load_potential(run_of("nequip-output")[0], **arguments)


def test_cuda_is_refused_where_there_is_none(run_of: Callable[..., Made], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device=cuda, but torch finds no CUDA device"):
        load_potential(run_of("nequip-output")[0], device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match=r"device=cuda:2, but torch finds 2 CUDA device\(s\), counted from 0"):
        load_potential(run_of("nequip-output")[0], device="cuda:2")


def test_folders_without_a_result_are_refused(tmp_path: Path, silver: list[Atoms]) -> None:
    pytest.importorskip("nequip")
    with pytest.raises(ConfigError, match="is no run folder"):
        load_potential(tmp_path)
    folder, _, config = make_run(tmp_path, silver, "nequip-output")
    done = Status("done", folder.name)
    write_status(folder, replace(done, status="diverged"))
    with pytest.raises(ConfigError, match="is not finished, its status is 'diverged'"):
        load_potential(folder)
    write_status(folder, done)
    plain = config.to_plain()
    (folder / "config.yaml").write_text(yaml.safe_dump(plain | {"model": plain["model"] | {"num_features": 3}}))
    with pytest.raises(ConfigError, match=r"best.ckpt does not fit the model that its config.yaml describes"):
        load_potential(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(plain))
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"best.ckpt cannot be read"):
        load_potential(folder)
