"""Errors of tensors against their formulas, over batches of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kanmlip.data.graph import Graph
from kanmlip.data.labels import LABELS
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.toy_bec import ToyBEC
from kanmlip.evaluation import evaluate
from kanmlip.evaluation.tensor_metrics import TensorMetrics
from tests.fakes import PairPotential, pair_frames
from tests.tensor_fakes import SpeciesTensors


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> list[Graph]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KANMLIP_CACHE", str(tmp_path_factory.mktemp("cache")))
        splits = ToyBEC(name="toy_bec", n_frames=9).load(tmp_path_factory.getbasetemp())
    return build_graphs([*splits.train, *splits.val, *splits.test], 3.5)


def test_every_key_is_its_formula(graphs: list[Graph]) -> None:
    found = evaluate(SpeciesTensors(), graphs, batch_size=4, device="cpu")
    p = found.predictions
    true, error = p["born_effective_charges_true"], p["born_effective_charges_pred"] - p["born_effective_charges_true"]
    numbers, diagonal = p["atomic_numbers"], np.eye(3, dtype=bool)
    constant = p["dielectric_tensor_pred"] - p["dielectric_tensor_true"]
    expected = {
        "bec_mae_e": np.abs(error).mean(),
        "bec_rmse_e": np.sqrt((error**2).mean()),
        "bec_mae_free_e": np.abs(error[np.abs(true) > 1e-5]).mean(),
        "bec_mae_O_e": np.abs(error[numbers == 8]).mean(),
        "bec_mae_Mg_e": np.abs(error[numbers == 12]).mean(),
        "bec_mae_diagonal_e": np.abs(error[:, diagonal]).mean(),
        "bec_mae_off_diagonal_e": np.abs(error[:, ~diagonal]).mean(),
        "dielectric_mae": np.abs(constant).mean(),
        "dielectric_rmse": np.sqrt((constant**2).mean()),
        "dielectric_mae_free": np.abs(constant[np.abs(p["dielectric_tensor_true"]) > 1e-5]).mean(),
        "dielectric_mae_diagonal": np.abs(constant[:, diagonal]).mean(),
        "dielectric_mae_off_diagonal": np.abs(constant[:, ~diagonal]).mean(),
    }
    assert found.metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert found.metrics[key] == pytest.approx(value, rel=1e-10), key
    assert true.shape == (72, 3, 3)
    assert p["num_atoms"].tolist() == [8] * 9


def test_components_that_symmetry_forbids_do_not_dilute_the_free_ones() -> None:
    target = torch.zeros(2, 3, 3)
    target[0] = torch.diag(torch.tensor([1.0, 1.0, 2.0]))
    target[1, 0, 1] = -3.0
    target[1, 2, 2] = 1e-7  # noise of a symmetrised calculation
    prediction = target + 0.5 * (target.abs() > 1e-5)
    metrics = TensorMetrics(LABELS["born_effective_charges"], torch.device("cpu"))
    metrics.update(prediction, target, torch.tensor([8, 14]))
    values = metrics.compute()
    assert values["bec_mae_free_e"] == pytest.approx(0.5)
    assert values["bec_mae_e"] == pytest.approx(0.5 * 4 / 18)


def test_a_set_of_nothing_but_zeros_has_no_free_components_and_a_missing_species_no_key() -> None:
    metrics = TensorMetrics(LABELS["born_effective_charges"], torch.device("cpu"))
    metrics.update(torch.ones(2, 3, 3), torch.zeros(2, 3, 3), torch.tensor([8, 8]))
    values = metrics.compute()
    assert "bec_mae_free_e" not in values
    assert "bec_mae_Si_e" not in values
    assert values["bec_mae_O_e"] == 1.0


def test_only_what_a_potential_predicts_is_compared(graphs: list[Graph]) -> None:
    """A set may have energies as well, and a potential of energies may meet a set with tensors."""
    both = build_graphs(pair_frames(3), 3.5)
    charges = torch.zeros(len(both[0].positions), 3, 3, dtype=torch.float64)
    with_charges = [both[0].__class__(**{**vars(both[0]), "labels": {**both[0].labels, "born_effective_charges": charges}})]
    assert set(evaluate(PairPotential(), with_charges, 1, "cpu").predictions) == {
        "energy_true", "energy_pred", "forces_true", "forces_pred", "stress_true", "stress_pred", "num_atoms", "frame",
    }  # fmt: skip
    assert {key.split("_")[0] for key in evaluate(SpeciesTensors(), with_charges, 1, "cpu").metrics} == {"bec"}
