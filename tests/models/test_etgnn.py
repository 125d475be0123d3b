"""ETGNN's sizes, settings and placements: what is built, what is swapped, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from kanmlip.data.graph import batch_graphs
from kanmlip.data.neighbours import build_graphs
from kanmlip.errors import ConfigError, DataError
from kanmlip.kan import KAN
from kanmlip.models.etgnn import ETGNN, portions
from kanmlip.models.etgnn.layers import MLP
from kanmlip.models.etgnn.tensor_heads import TensorTarget
from kanmlip.placement.config import HeadConfig, PlacementConfig
from kanmlip.placement.place import place
from tests.models.cases import Case, NamedBasis, check_heads_start_like_mlps
from tests.models.tensors import (
    BORN,
    SIZES,
    STATS,
    build_model,
    build_network,
    build_tensor_case,
    connected,
    etgnn,
    silica,
    tensor_cases,
)

SWAPPED = [case for case in tensor_cases() if case.placement != "none"]
FRAMES = [silica(seed) for seed in range(3)]


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("size", "low", "high"), [("paper", 1.965e6, 1.975e6), ("gpu", 1.61e6, 1.62e6), ("small", 70e3, 78e3)])
def test_sizes_have_the_published_numbers_of_parameters(size: str, low: float, high: float) -> None:
    assert low < parameters(etgnn(size).build(STATS, torch.float32, 0)) < high


def test_the_published_size_carries_a_node_block_that_no_born_charge_reads() -> None:
    lean, graph = build_model(etgnn(), FRAMES)
    full, _ = build_model(etgnn(unread_node_block=True), FRAMES)
    assert parameters(full) - parameters(lean) == parameters(full.upstream.unread) > 0
    assert torch.equal(full(graph)[BORN], lean(graph)[BORN])
    optimizer = torch.optim.AdamW(full.parameters(), weight_decay=0.1)
    before = [p.clone() for p in full.upstream.unread.parameters()]
    full.train()(graph)[BORN].square().sum().backward(inputs=list(full.parameters()))
    optimizer.step()
    assert all(torch.equal(p, was) for p, was in zip(full.upstream.unread.parameters(), before, strict=True))


def test_only_what_a_target_reads_is_built() -> None:
    ranks = {rank: build_network({"tensor": TensorTarget(rank, "atom")}).upstream for rank in range(4)}
    assert [len(network.edge_totals) for network in ranks.values()] == [1, 0, 0, 0]
    assert [len(network.triplet_updates) for network in ranks.values()] == [0, 0, 2, 2]
    for network in ranks.values():
        assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("rank", range(4))
def test_every_weight_has_a_gradient(rank: int) -> None:
    potential = build_network({"tensor": TensorTarget(rank, "atom")}).train()
    potential(connected(FRAMES))["tensor"].square().sum().backward()
    # Whatever the last residual layers of x and the first of t are made of, nothing is left out.
    assert [name for name, p in potential.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_rank_of_a_tensor_is_at_most_three() -> None:
    with pytest.raises(ConfigError, match=r"rank 4.*choose from: 0, 1, 2, 3"):
        TensorTarget(4, "atom")


def test_labels_are_chosen_among_those_that_the_registry_knows() -> None:
    assert etgnn().predicts == {BORN}
    assert etgnn(labels=["dielectric_tensor", BORN]).predicts == {BORN, "dielectric_tensor"} <= ETGNN.predicts
    with pytest.raises(ValidationError, match=r"model.labels=born_effective_charge is not known.*Did you mean 'born_effective_charges'"):
        etgnn(labels=["born_effective_charge"])
    with pytest.raises(ValidationError, match="labels"):
        etgnn(labels=[])


def test_a_model_returns_the_labels_that_it_predicts_and_ignores_stress() -> None:
    model = etgnn(labels=[BORN, "dielectric_tensor"])
    potential, graph = build_model(model, FRAMES, torch.float32)
    output = model.forward(potential, graph, compute_stress=True)
    assert {name: tuple(value.shape) for name, value in output.items()} == {BORN: (27, 3, 3), "dielectric_tensor": (3, 3, 3)}
    assert not any(value.requires_grad for value in output.values())
    assert all(value.requires_grad for value in potential.train()(graph).values())


def test_weights_depend_on_the_seed_alone_and_precisions_agree() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    single, double, other = (
        build_model(etgnn(), FRAMES, dtype, seed)[0] for dtype, seed in ((torch.float32, 7), (torch.float64, 7), (torch.float32, 8))
    )
    assert torch.equal(torch.rand(3), expected), "the global random state changed"
    graph = etgnn().collate(FRAMES)
    charges = double(graph)[BORN]
    torch.testing.assert_close(single(graph)[BORN], charges, rtol=0, atol=1e-5 * float(charges.abs().max()))
    assert float((other(graph)[BORN] - charges).abs().max()) > 1e-2
    assert torch.equal(single(graph)[BORN], single(graph)[BORN])


@pytest.mark.parametrize("most", [1, 500, 10**9])
def test_portions_change_nothing_but_the_order_of_sums(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [*FRAMES, silica(4).repeat((2, 1, 1))]
    potential = build_network({BORN: TensorTarget(2, "atom")}).train()
    graph = connected(frames)

    def evaluate() -> list[torch.Tensor]:
        charges = potential(graph)[BORN]
        return [charges.detach(), *torch.autograd.grad(charges.square().sum(), list(potential.parameters()))]

    whole = evaluate()
    monkeypatch.setattr(portions, "CPU_FEATURES", most * SIZES.triplet_features)
    for made, expected in zip(evaluate(), whole, strict=True):
        torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()) + 1e-15)


def test_a_checkpoint_restores_tensors_to_the_last_bit_and_names_no_buffers() -> None:
    potential, graph = build_model(etgnn("small"), FRAMES, torch.float32)
    fresh, _ = build_model(etgnn("small"), FRAMES, torch.float32, seed=8)
    state = potential.state_dict()
    assert set(state) == {name for name, _ in potential.named_parameters()}
    fresh.load_state_dict(state)
    assert torch.equal(fresh(graph)[BORN], potential(graph)[BORN])


@pytest.mark.parametrize(
    "case", [tensor_cases()[0], Case("etgnn", "output", "bspline"), Case("etgnn", "output_literal", "gaussian")], ids=str
)
def test_a_few_updates_lower_the_error(case: Case) -> None:
    potential, graph, _ = build_tensor_case(case, FRAMES, torch.float32)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(27, 3, 3, generator=generator, dtype=torch.float64)
    target -= target.view(3, 9, 3, 3).mean(1).repeat_interleave(9, 0)
    optimizer = torch.optim.Adam(potential.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = (potential(graph)[BORN] - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("case", SWAPPED, ids=str)
def test_a_swapped_model_starts_near_the_one_with_mlps(case: Case) -> None:
    swapped, graph, report = build_tensor_case(case, FRAMES, torch.float32)
    plain, _ = build_model(etgnn(), FRAMES, torch.float32)
    rms = [float(potential(graph)[BORN].square().mean().sqrt()) for potential in (swapped, plain)]
    assert 1 / 3 < rms[0] / rms[1] < 3
    check_heads_start_like_mlps(swapped, plain, report, graph)


@pytest.mark.parametrize("case", SWAPPED, ids=str)
def test_a_checkpoint_restores_a_swapped_model(case: Case) -> None:
    trained, graph, report = build_tensor_case(case, FRAMES, torch.float32)
    fresh, _, _ = build_tensor_case(case, FRAMES, torch.float32, seed=12)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(graph)[BORN], trained(graph)[BORN])
    assert sum(isinstance(module, KAN) for module in trained.modules()) == len(report.replaced)
    assert report.parameters_total == parameters(trained)
    assert report.parameters_head == sum(replaced.parameters_after for replaced in report.replaced)


def swapped_paths(placement: str, **changes: object) -> dict[str, tuple[int, ...]]:
    report = build_tensor_case(Case("etgnn", placement, "bspline"), FRAMES, model=etgnn("small", **changes))[2]
    return {replaced.path: replaced.widths for replaced in report.replaced}


def test_output_is_the_mlps_on_edges_and_triplets_of_every_tensor() -> None:
    assert swapped_paths("output") == {f"heads.{BORN}.{part}": (32, 32, 32, 1) for part in ("edge", "triplet")}
    both = swapped_paths("output", labels=[BORN, "dielectric_tensor"])
    assert set(both) == {f"heads.{name}.{part}" for name in (BORN, "dielectric_tensor") for part in ("edge", "triplet")}


def test_output_literal_is_the_projections_of_the_edge_update() -> None:
    down, up = {f"edge_updates.{n}.message.down": (32, 48) for n in range(2)}, {f"edge_updates.{n}.up": (48, 32) for n in range(2)}
    assert swapped_paths("output_literal") == down | up
    assert swapped_paths("output_literal", unread_node_block=True) == down | up


def test_a_scalar_is_read_from_nodes_and_both_placements_reach_its_block() -> None:
    graph = connected(FRAMES)
    for name, expected in {
        "output": {"heads.scalar.node": (12, 12, 12, 1)},
        "output_literal": {
            **{f"edge_updates.{n}.message.down": (16, 8) for n in range(2)},
            **{f"edge_updates.{n}.up": (8, 16) for n in range(2)},
            "edge_totals.0.up": (16, 12),
        },
    }.items():
        potential = build_network({"scalar": TensorTarget(0, "atom")})
        plain = potential(graph)["scalar"]
        report = place(potential, etgnn(), PlacementConfig(name=name), NamedBasis("gaussian"), graph)
        assert {replaced.path: replaced.widths for replaced in report.replaced} == expected
        assert plain.shape == potential(graph)["scalar"].shape == (27,)


def test_heads_at_equal_parameters_have_no_more_than_the_mlps() -> None:
    case = Case("etgnn", "output", "bspline")
    report = build_tensor_case(case, FRAMES, model=etgnn("small"), head=HeadConfig(match="parameters"))[2]
    for replaced in report.replaced:
        assert replaced.parameters_after <= replaced.parameters_before


def test_nothing_is_swapped_without_a_placement() -> None:
    potential, _, report = build_tensor_case(tensor_cases()[0], FRAMES)
    assert report.replaced == ()
    assert report.parameters_head == sum(parameters(m) for m in potential.modules() if isinstance(m, MLP)) > 0


def test_a_species_unknown_to_the_model_is_refused() -> None:
    potential, graph = build_model(etgnn(), FRAMES)
    stranger = replace(graph, atomic_numbers=torch.full_like(graph.atomic_numbers, 22))
    with pytest.raises(DataError, match=r"Z=\[22\].*Z=\[8, 14\]"):
        potential(stranger)


def test_a_batch_without_its_triplets_is_refused() -> None:
    potential, _ = build_model(etgnn(), FRAMES)
    bare = batch_graphs(build_graphs(FRAMES, 6.0))
    with pytest.raises(DataError, match=r"no triplets; build it with ModelConfig\.graphs"):
        potential(bare)
    assert build_network({"vector": TensorTarget(1, "atom")})(bare)["vector"].shape == (27, 3)
