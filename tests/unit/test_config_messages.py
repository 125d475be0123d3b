"""Every kind of wrong configuration gives one readable message, and a right one its values."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from kanmlip.errors import ConfigError, KanmlipError
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.plan import Plan, make_plan
from tests.integration.application import FAKES

FAKE = ["model=fake", "dataset=fake"]


def plan(*arguments: str, multirun: bool = False) -> Plan:
    return make_plan(list(arguments), multirun, Sources(main=conf_dir(), extra=FAKES))


@pytest.mark.parametrize(
    ("argument", "fragments"),
    [
        # misspelt keys
        ("trainer.max_epoch=3", ["trainer.max_epoch=3: there is no key", "Did you mean 'trainer.max_epochs'?"]),
        (
            "trainer.loss.stres=1",
            ["trainer.loss.energy, trainer.loss.forces", "Did you mean 'trainer.loss.stress'?"],
        ),
        ("modl=allegro", ["modl=allegro", "basis, budget, dataset, experiment", "Did you mean 'model'?"]),
        ("+trainer.foo=3", ["trainer.foo=3: there is no key 'trainer.foo'", "trainer.batch_size"]),
        ("+foo=3", ["foo=3: there is no key 'foo'"]),
        ("basis.num_bases=3", ["Did you mean 'basis.num_basis'?"]),
        ("trainer.max_epochs.x=3", ["'trainer.max_epochs' is a value, not a section"]),
        ("trainer.optimizer=adamw", ["'trainer.optimizer' is a section", "trainer.optimizer.name"]),
        # unknown choices
        ("model=alegro", ["model=alegro is not known", "allegro", "mace", "Did you mean 'allegro'?"]),
        ("placement=outputt", ["placement=outputt", "all, besides_output, none, output", "Did you mean 'output'?"]),
        ("placement=null", ["placement=null is not known"]),
        ("experiment=table3_outputt", ["Did you mean 'table3_output'?"]),
        ("hydra/launcher=jolib", ["Did you mean 'joblib'?"]),
        pytest.param(
            "hydra/launcher=ray",
            ["pip install hydra-ray-launcher"],
            marks=pytest.mark.skipif(find_spec("ray") is not None, reason="hydra-ray-launcher is installed"),
        ),
        ("budget.size=huge", ["budget.size=huge is not known; choose from: gpu, paper, small, smoke"]),
        ("trainer.loss.kind=mea", ["trainer.loss.kind=mea is not known; choose from: huber, mae, mse"]),
        ("trainer.monitor=val/force", ["trainer.monitor=val/force", "Did you mean 'val/force_mae_eV_per_A'?"]),
        ("placement.head.norm=batch", ["placement.head.norm=batch is not known; choose from: layer, none, scale"]),
        # wrong types and values
        ("trainer.max_epochs=abc", ["trainer.max_epochs=abc", "valid integer"]),
        ("trainer.max_epochs=0", ["trainer.max_epochs=0", "greater than or equal to 1"]),
        ("trainer.optimizer.lr=-1", ["trainer.optimizer.lr=-1", "greater than 0"]),
        ("seed=x", ["seed=x", "valid integer"]),
        ("force=maybe", ["force=maybe", "valid boolean"]),
        ("timeout_s=0", ["timeout_s=0", "greater than 0"]),
        ("basis.num_basis=x", ["basis.num_basis=x", "valid integer"]),
        ("basis.grid_min=9", ["basis=gaussian", "grid_min"]),
        ("hydra.launcher.n_jobs=two", ["hydra.launcher.n_jobs"]),
        # impossible together
        ("placement=all", ["model=fake: placement=all", "choose from: none, output"]),
        ("model=etgnn", ["model=etgnn dataset=fake is an impossible pair", "born_effective_charges", "models for dataset=fake: allegro"]),
        ("model.name=a-b", ["a-b", "run id"]),
        # unreadable
        ("trainer=[1,2", ["cannot read the argument 'trainer=[1,2'"]),
        ("seed", ["cannot read the argument 'seed'"]),
        ("~seed", ["seed is missing"]),
        ("dataset.n_train=???", ["dataset.n_train must be given"]),
        ("seed=1,2", ["seed=1,2 names several values; add -m"]),
    ],
)
def test_message(argument: str, fragments: list[str]) -> None:
    with pytest.raises(KanmlipError) as caught:
        plan(*FAKE, "model=allegro" if argument == "budget.size=huge" else "model=fake", argument)
    message = str(caught.value)
    for fragment in fragments:
        assert fragment in message
    assert "\n" not in message
    assert caught.value.exit_code == 2


def test_loss_that_the_data_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.integration.fakes import FakeDataset

    monkeypatch.setattr(FakeDataset, "provides", property(lambda self: frozenset({"energy"})))
    with pytest.raises(ConfigError, match=r"loss\.forces=1 needs forces, but dataset=fake provides energy; set trainer\.loss\.forces=0"):
        plan(*FAKE)
    with pytest.raises(ConfigError, match=r"trainer\.monitor=val/force_mae_eV_per_A is not known; choose from: auto, val/energy_mae"):
        plan(*FAKE, "trainer.loss.forces=0", "trainer.monitor=val/force_mae_eV_per_A")
    (job,) = plan(*FAKE, "trainer.loss.forces=0").jobs or []
    assert job.config.trainer.monitor == "val/energy_mae_eV_per_atom"
    with pytest.raises(ConfigError, match="leaves nothing to learn"):
        plan(*FAKE, "trainer.loss.forces=0", "trainer.loss.energy=0")


def test_a_sweep_names_the_job_that_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"placement=all(.|\n)*in job 2: model=fake dataset=fake seed=1 placement=all"):
        plan(*FAKE, "seed=1,2", "placement=none,output,all", multirun=True)


def test_a_sweep_is_expanded_as_hydra_will() -> None:
    jobs = plan(*FAKE, "seed=range(1,3)", "placement=none,output", "trainer.optimizer.lr=choice(0.1,0.2)", multirun=True).jobs
    assert jobs is not None
    found = [(job.config.seed, job.config.placement.name, job.config.trainer.optimizer.lr) for job in jobs]
    assert found == [(seed, placement, lr) for seed in (1, 2) for placement in ("none", "output") for lr in (0.1, 0.2)]


def test_values_arrive() -> None:
    (job,) = plan(*FAKE, "budget=smoke", "timeout_s=60", "force=true", "placement=output", "basis=bspline", "basis.grid=3").jobs or []
    assert job.config.trainer.max_epochs == job.config.budget.max_epochs == 2
    assert job.config.basis.arguments["grid"] == 3
    assert job.config.basis.build().num_basis == 6
    assert (job.options.force, job.options.timeout_s) == (True, 60.0)


def test_missing_upstream_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.integration.fakes import FakeModel

    monkeypatch.setattr(FakeModel, "requires", {"no_such_package_here": "no-such-package"})
    with pytest.raises(KanmlipError, match="pip install no-such-package") as caught:
        plan(*FAKE)
    assert caught.value.exit_code == 2


def test_a_name_of_ours_is_not_free_for_another_class() -> None:
    """Both have the same settings, so that a run of one would be taken for the other's."""
    arguments = [*FAKE, "placement=output", "basis=bspline", "basis._target_=kanmlip.kan.relu.ReLUPower"]
    with pytest.raises(ConfigError, match=r"basis.name=bspline is the name of \S*BSpline, .*relu\.ReLUPower; .*basis.name=<name>"):
        plan(*arguments)
    assert plan(*arguments, "basis.name=mine").jobs


def test_a_style_of_mace_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"placement.mace_style=replace is for model=mace, not fake; leave it out"):
        plan(*FAKE, "placement=output", "basis=bspline", "placement.mace_style=replace")


def test_a_grid_far_from_the_inputs_is_refused() -> None:
    """Its functions are constant there, and their weights were infinite."""
    with pytest.raises(ConfigError, match=r"basis=gaussian: Gaussian\(num_basis=8, grid_min=15.0, grid_max=25.0\).* from -3 to 3"):
        plan(*FAKE, "placement=output", "basis=gaussian", "basis.grid_min=15", "basis.grid_max=25")
    assert plan(*FAKE, "placement=output", "basis=gaussian", "basis.grid_min=3", "basis.grid_max=9").jobs
