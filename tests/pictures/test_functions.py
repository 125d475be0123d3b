"""The learned functions that are drawn are the layer: their sum is its output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kanmlip.kan import BSpline, Gaussian, KANLayer
from kanmlip.pictures.functions import learned_functions
from kanmlip.pictures.predictions import errors_by_element, pairs_in


@pytest.mark.parametrize("basis", [BSpline(grid=5, order=3), Gaussian()], ids=["bspline", "gaussian"])
def test_the_functions_of_an_output_add_up_to_it(basis: torch.nn.Module) -> None:
    torch.manual_seed(0)
    layer = KANLayer(3, 2, basis, backend="torch").double()  # type: ignore[arg-type]
    x = torch.randn(500, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5])
    layer.calibrate_scale(x)
    inputs = layer.normalise(x)
    functions = learned_functions(layer, inputs, 6)
    assert {(f.source, f.target) for f in functions} == {(i, o) for i in range(3) for o in range(2)}
    total = np.zeros((500, 2))
    for f in functions:
        seen = inputs[:, f.source].numpy()
        values = np.interp(seen, f.x, f.y)
        total[:, f.target] += values
        assert f.importance == pytest.approx(values.std(), rel=0.02)
        assert np.array_equal(f.inputs, seen)
    np.testing.assert_allclose(total, layer(x).detach().numpy(), atol=5e-3)
    assert [f.importance for f in functions] == sorted((f.importance for f in functions), reverse=True)


def test_energies_are_compared_per_atom_and_errors_by_species() -> None:
    predictions = {
        "val/energy_true": np.array([10.0, 40.0]),
        "val/energy_pred": np.array([12.0, 36.0]),
        "val/num_atoms": np.array([2, 4]),
        "val/forces_true": np.zeros((6, 3)),
        "val/forces_pred": np.repeat([[1.0], [-2.0], [1.0], [1.0], [-2.0], [-2.0]], 3, axis=1),
    }
    energy, forces = pairs_in(predictions)
    assert (energy.mae, energy.unit, forces.unit) == (1.0, "eV/atom", "eV/Å")
    numbers = np.array([8, 72, 8, 8, 72, 72])
    table = errors_by_element(predictions, "val", "forces", numbers)
    assert table == {"O": {"mae": 1.0, "rmse": 1.0, "atoms": 3.0}, "Hf": {"mae": 2.0, "rmse": 2.0, "atoms": 3.0}}


def test_a_picture_that_cannot_be_finished_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from kanmlip.pictures.learning import draw_learning

    history = {"epoch": np.arange(1.0, 5), "lr": np.full(4, 0.01), "train/loss": np.ones(4)}
    before = {path: path.read_bytes() for path in draw_learning(history, 3, tmp_path)}

    def fill_disk(self: Figure, file: object, **settings: object) -> None:
        if hasattr(file, "write"):
            file.write(b"half")
        else:
            Path(str(file)).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Figure, "savefig", fill_disk)
    with pytest.raises(OSError, match="no space"):
        draw_learning(history, 3, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_pictures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from kanmlip.pictures.learning import draw_learning

    history = {"epoch": np.arange(1.0, 5), "lr": np.full(4, 0.01), "train/loss": np.array([1, 0.1, np.nan, 0.01]), "val/x": np.arange(4.0)}
    first, second = (draw_learning(history, 3, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
