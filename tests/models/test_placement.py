"""A placement swaps the modules it names, nothing else, and a head starts where the MLP it replaces starts."""

from __future__ import annotations

import json

import pytest
import torch
from ase import Atoms

from kanmlip.data.graph import Graph
from kanmlip.errors import ConfigError
from kanmlip.kan import KAN, KANLayer, backend_cpu, backends
from kanmlip.models.potential import Potential
from kanmlip.placement.config import HeadConfig, PlacementConfig
from kanmlip.placement.place import place
from kanmlip.placement.report import PlacementReport
from tests.models.cases import Case, NamedBasis, all_cases, build_case, check_heads_start_like_mlps
from tests.models.settings import build, energy_models

SWAPPED = all_cases(with_none=False)
# A basis without parameters of its own and one with.
MATCHED = [case for case in SWAPPED if case.basis in ("bspline", "adaptive_gaussian")]
Built = tuple[Case, Potential, Graph, PlacementReport]


@pytest.fixture(scope="module", params=SWAPPED, ids=str)
def built(request: pytest.FixtureRequest, silver: list[Atoms]) -> Built:
    """A case with the potential, its frames and the report; built once for all tests that change nothing."""
    potential, graph, _, report = build_case(request.param, silver)
    return request.param, potential, graph, report


def test_forces_of_a_swapped_model_start_within_a_factor_of_three_of_the_mlps(built: Built, silver: list[Atoms]) -> None:
    case, swapped, graph, _ = built
    plain, _, _ = build(energy_models()[case.model], silver)
    rms = [potential(graph)["forces"].square().mean().sqrt().item() for potential in (swapped, plain.eval())]
    assert 1 / 3 < rms[0] / rms[1] < 3


def test_each_head_starts_with_the_mean_and_variance_of_the_module_it_replaced(built: Built, silver: list[Atoms]) -> None:
    case, swapped, graph, report = built
    plain, _, _ = build(energy_models()[case.model], silver)
    check_heads_start_like_mlps(swapped, plain, report, graph)


def test_the_report_lists_every_kan_with_its_parameters(built: Built) -> None:
    case, potential, _, report = built
    kans = [module for module in potential.modules() if isinstance(module, KAN)]
    assert len(kans) == len(report.replaced) > 0
    for replaced, kan in zip(report.replaced, (potential.upstream.get_submodule(r.path) for r in report.replaced), strict=True):
        assert replaced.parameters_after == sum(p.numel() for p in kan.parameters())
        assert replaced.parameters_before > 0
    assert report.parameters_total == sum(p.numel() for p in potential.parameters())
    assert report.parameters_head == sum(replaced.parameters_after for replaced in report.replaced)
    assert json.loads(json.dumps(report.to_dict()))["placement"] == case.placement


def test_allegro_placements_are_the_papers_three_blocks_and_spare_the_environment_embedding(silver: list[Atoms]) -> None:
    replaced = {
        p: {r.group for r in build_case(Case("allegro", p, "gaussian"), silver)[3].replaced} for p in ("output", "besides_output", "all")
    }
    assert replaced == {"output": {"output"}, "besides_output": {"two_body", "latent"}, "all": {"two_body", "latent", "output"}}
    potential = build_case(Case("allegro", "all", "gaussian"), silver)[0]
    embeddings = [name for name, module in potential.named_modules() if "env_embed" in name and isinstance(module, KAN)]
    assert embeddings == []


@pytest.mark.parametrize("model", energy_models().values(), ids=energy_models())
def test_none_replaces_nothing(model, silver: list[Atoms]) -> None:
    potential, _, _, report = build_case(Case(model.name, "none", "gaussian"), silver)
    assert report.replaced == ()
    assert not any(isinstance(module, KAN) for module in potential.modules())
    plain, graph, _ = build(model, silver)
    assert torch.equal(potential(graph)["forces"], plain.eval()(graph)["forces"])


def test_mace_keeps_the_linear_map_beside_the_kan_in_earlier_layers_only_in_residual_style(silver: list[Atoms]) -> None:
    residual = build_case(Case("mace", "output", "bspline", "residual"), silver)[0].upstream.readouts
    assert [tuple(readout.kan.widths) for readout in residual] == [(16, 8, 4, 1)] * 2
    assert type(residual[0].linear).__module__.startswith("e3nn")
    replaced = build_case(Case("mace", "output", "bspline", "replace"), silver)[0].upstream.readouts
    assert [tuple(readout.kan.widths) for readout in replaced] == [(8, 1), (8, 16, 1)]


@pytest.mark.parametrize("backend", ["auto", "torch", "reference", "triton"])
def test_kernels_are_compiled_only_where_they_are_asked_for(backend: str, silver: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(backend_cpu, "available", lambda: asked.append(backend) or False)
    backends._resolve.cache_clear()  # what other tests compiled is there already
    model = energy_models()["allegro"]
    potential, graph, _ = build(model, silver)
    place(potential, model, PlacementConfig(name="all"), NamedBasis("bspline", backend), graph)
    backends._resolve.cache_clear()  # and forget that there are none here
    assert bool(asked) == (backend == "auto")
    layers = [module for module in potential.modules() if isinstance(module, KANLayer)]
    assert layers
    assert {layer.backend for layer in layers} == {backend}


def test_a_placement_the_model_lacks_names_those_it_has(silver: list[Atoms]) -> None:
    model = energy_models()["nequip"]
    potential, graph, _ = build(model, silver)
    with pytest.raises(ConfigError, match=r"model=nequip.*besides_output.*none, output"):
        place(potential, model, PlacementConfig(name="besides_output"), NamedBasis("gaussian"), graph)


def test_a_glob_that_matches_nothing_lists_what_is_there(silver: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    model = energy_models()["nequip"]
    potential, graph, _ = build(model, silver)
    monkeypatch.setattr(type(model), "targets", {"output": ("model.func.moved_away",)})
    with pytest.raises(ConfigError, match=r"model.func.moved_away.*model.func.per_atom_energy_readout"):
        place(potential, model, PlacementConfig(name="output"), NamedBasis("gaussian"), graph)


def test_a_checkpoint_restores_a_swapped_model_with_its_frozen_input_scales(built: Built, silver: list[Atoms]) -> None:
    case, trained, graph, _ = built
    fresh, _, _, _ = build_case(case, silver, seed=12)
    assert not torch.equal(fresh(graph)["forces"], trained(graph)["forces"])
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(graph)["forces"], trained(graph)["forces"])


def test_fastkans_literal_head_can_be_selected_with_a_warning(silver: list[Atoms]) -> None:
    head = HeadConfig(zero_preserving=False, norm="layer")
    with pytest.warns(UserWarning, match=r"placement.head.norm=layer.*jump when a neighbour crosses the cutoff"):
        potential, graph, _, _ = build_case(Case("allegro", "output", "gaussian"), silver, head=head)
    assert torch.isfinite(potential(graph)["forces"]).all()


@pytest.mark.parametrize("case", MATCHED, ids=str)
def test_heads_at_equal_parameters_have_no_more_than_what_they_replace_and_are_no_wider(case: Case, silver: list[Atoms]) -> None:
    wide = build_case(case, silver)[3].replaced
    potential, graph, _, report = build_case(case, silver, head=HeadConfig(match="parameters"))
    for before, after in zip(wide, report.replaced, strict=True):
        assert (after.widths[0], after.widths[-1]) == (before.widths[0], before.widths[-1])
        kan = next(module for module in potential.upstream.get_submodule(after.path).modules() if isinstance(module, KAN))
        assert tuple(kan.widths) == after.widths
        narrowest = all(width == 1 for width in after.widths[1:-1])
        assert after.parameters_after <= after.parameters_before or narrowest, after
        assert after.parameters_after <= before.parameters_after
    assert torch.isfinite(potential(graph)["forces"]).all()


@pytest.mark.parametrize("case", [case for case in SWAPPED if case.basis in ("bspline", "truncated_power")], ids=str)
def test_a_grid_update_before_training_keeps_the_model_and_its_checkpoints(case: Case, silver: list[Atoms]) -> None:
    plain, graph, _, _ = build_case(case, silver, torch.float64)
    updated, _, _, _ = build_case(case, silver, torch.float64, head=HeadConfig(update_grid=True))
    before, after = plain(graph), updated(graph)
    assert any("grid" in name for name in updated.state_dict())
    # To the calibration frames' inputs the first head is the same; the rounding of truncated powers is the largest part.
    torch.testing.assert_close(after["energy"], before["energy"], rtol=0, atol=1e-6)
    torch.testing.assert_close(after["forces"], before["forces"], rtol=0, atol=1e-6)
    fresh, _, _, _ = build_case(case, silver, torch.float64, head=HeadConfig(update_grid=True), seed=12)
    fresh.load_state_dict(updated.state_dict())
    assert torch.equal(fresh(graph)["forces"], after["forces"])


def test_a_grid_update_of_a_basis_without_a_grid_is_refused(silver: list[Atoms]) -> None:
    with pytest.raises(ConfigError, match=r"update_grid=true basis=gaussian: .*choose from: BSpline, TruncatedPower.*update_grid=false"):
        build_case(Case("allegro", "output", "gaussian"), silver, head=HeadConfig(update_grid=True))
    with pytest.raises(ValueError, match="choose one of them"):
        HeadConfig(update_grid=True, match="parameters")
