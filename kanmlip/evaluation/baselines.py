"""What needs no network: predictions of tensors from training means and polynomials, measured like those of a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from kanmlip.data.graph import Graph, batch_graphs
from kanmlip.data.labels import Label, tensors_in
from kanmlip.evaluation.i42d import Sites, find_sites
from kanmlip.evaluation.polynomial import SitePolynomial, has_scikit_learn
from kanmlip.evaluation.tensor_metrics import TensorMetrics

POLYNOMIAL_DEGREES = (3, 7)
# Of a baseline as of a model; by species and by place it would only make records longer.
RECORDED = ("mae", "rmse", "mae_free")
# Makes predictions for every split, knowing the labels of the training set alone.
Baseline = Callable[[], Mapping[str, Tensor]]


def baseline_metrics(graphs: Mapping[str, Sequence[Graph]], predicts: frozenset[str]) -> dict[str, float]:
    """Fit every baseline on the training set and measure it on all sets.

    Args:
        graphs: Split → structures, one a graph; ``train`` is there.
        predicts: Labels that the model predicts; of these the tensors are looked at.

    Returns:
        ``baseline/<name>/<split>/<metric>`` and ``baseline/<name>/time/train_s`` (seconds to fit and predict), the names being
        ``species_mean`` (over structures for a label per structure) and, for Born charges of I-42d SiO2, ``polynomial_3`` and
        ``polynomial_7``. Empty for a model of energies.
    """
    wanted = tensors_in(predicts)
    batches = {split: join(members) for split, members in graphs.items() if members} if wanted else {}
    found: dict[str, float] = {}
    for label in wanted:
        if any(label.name not in batch.labels for batch in batches.values()):
            continue
        for name, predict in _baselines(label, batches).items():
            start = time.perf_counter()
            predictions = predict()
            seconds = f"baseline/{name}/time/train_s"
            found[seconds] = found.get(seconds, 0.0) + time.perf_counter() - start
            for split, prediction in predictions.items():
                metrics = TensorMetrics(label, prediction.device)
                metrics.update(prediction, batches[split].labels[label.name], batches[split].atomic_numbers)
                values = metrics.compute()
                found |= {f"baseline/{name}/{split}/{key}": values[key] for key in map(label.key, RECORDED) if key in values}
    return found


def join(graphs: Sequence[Graph]) -> Graph:
    """A whole set as one batch, without the triplets, which no baseline looks at and which are most of it."""
    return batch_graphs(
        [replace(graph, triplets=graph.triplets[:, :0], num_triplets=torch.zeros_like(graph.num_triplets)) for graph in graphs]
    )


def _baselines(label: Label, batches: Mapping[str, Graph]) -> dict[str, Baseline]:
    chosen: dict[str, Baseline] = {"species_mean": partial(species_mean, label, batches)}
    if label.name != "born_effective_charges":
        return chosen
    sites = {split: found for split, batch in batches.items() if (found := find_sites(batch)) is not None}
    if len(sites) < len(batches):
        return chosen
    if not has_scikit_learn():
        print("no polynomial baselines in this record: they need scikit-learn (pip install scikit-learn)", flush=True)
        return chosen
    regressions = {degree: SitePolynomial(degree) for degree in POLYNOMIAL_DEGREES}
    return chosen | {f"polynomial_{degree}": partial(polynomial, regressions[degree], batches, sites) for degree in regressions}


def species_mean(label: Label, batches: Mapping[str, Graph]) -> dict[str, Tensor]:
    """Predict the mean tensor of a species over the training set, in the axes of the cell; per structure, the mean of all.

    A species that the training set lacks gets zero.
    """
    train = batches["train"]
    target = train.labels[label.name].double()
    if label.per == "structure":
        mean = target.mean(0)
        return {split: mean.expand(batch.num_structures, *mean.shape) for split, batch in batches.items()}
    highest = max(int(batch.atomic_numbers.max()) for batch in batches.values())
    table = torch.zeros(highest + 1, *target.shape[1:], dtype=torch.float64)
    for z in torch.unique(train.atomic_numbers).tolist():
        table[z] = target[train.atomic_numbers == z].mean(0)
    return {split: table[batch.atomic_numbers] for split, batch in batches.items()}


def polynomial(regression: SitePolynomial, batches: Mapping[str, Graph], sites: Mapping[str, Sites]) -> dict[str, Tensor]:
    """Fit a polynomial and predict Born charges of I-42d SiO2 by it."""
    train = batches["train"]
    charges = train.labels["born_effective_charges"].double().numpy()
    regression.fit(sites["train"], train.atomic_numbers.numpy(), train.batch.numpy(), charges)
    return {
        split: torch.from_numpy(regression.predict(sites[split], batch.atomic_numbers.numpy(), batch.batch.numpy()))
        for split, batch in batches.items()
    }
