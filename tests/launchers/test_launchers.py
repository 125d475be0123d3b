"""Four jobs of which one is killed with its launcher's process: the others stay, and the same command ends what is left."""

from __future__ import annotations

import os
import re
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kanmlip.errors import MissingDependencyError
from kanmlip.experiment.composition import EXTENDED, Composer, Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.lock import is_locked
from tests.faults import forked
from tests.integration.application import records, results, statuses
from tests.launchers.one_node_slurm import until
from tests.launchers.sweep_of_four import FOUR, assert_same, epochs, parent, started, taken, under_way, worker

# Launcher → its arguments, the package it needs, and how many runs the sweep ends with: joblib gives all up, Ray tries again.
LAUNCHERS = {
    "local": (("hydra/launcher=local",), "hydra_plugins.hydra_submitit_launcher", 3),
    "joblib": (("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), "hydra_plugins.hydra_joblib_launcher", None),
    "ray": (
        ("hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2", "+hydra.launcher.ray.init.include_dashboard=false"),
        "hydra_plugins.hydra_ray_launcher",
        4,
    ),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_one_of_four_jobs_is_killed(launcher: str, undisturbed: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    arguments, package, done = LAUNCHERS[launcher]
    pytest.importorskip(package, reason=f"{package.partition('.')[2].replace('_', '-')} is not installed")
    with (
        tempfile.TemporaryDirectory(prefix="ray") as temporary,  # Ray's sockets want a short path
        started(*arguments, RAY_TMPDIR=temporary, RAY_USAGE_STATS_ENABLED="0") as sweep,
    ):
        until(lambda: len(under_way()) > 1 or sweep.process.poll() is not None, "two runs")
        assert sweep.process.poll() is None, sweep.said
        victim = under_way()[0]
        reached = epochs(victim)
        job = parent(worker(victim))
        assert job != sweep.process.pid, "jobs are in processes of the launcher's"
        os.kill(job, signal.SIGKILL)
        until(lambda: taken(victim), "the run to notice")
        if done is not None:
            sweep.release()
        code, said = sweep.wait(), sweep.said
        until(lambda: not any(map(is_locked, results().glob("runs/*"))), "runs that lost their launcher")
    assert code == int(done != 4), said
    assert "Traceback" not in said or launcher == "ray", said  # Ray passes on what its own processes print
    ended = {name for name, status in statuses().items() if status["status"] == "done"}
    assert set(records()) == ended
    if done is not None:
        assert f"{done} of 4 runs done" in said
        assert len(ended) == done
    if done != 4:
        assert "kanmlip-train: the launcher gave up (" in said
        assert f"not done: {victim.name}" in said or launcher == "joblib", said
        code, again = forked.train(*FOUR, output=tmp_path / "again.log")
        assert code == 0, again
        assert again.count("finished before, skipped") == len(ended)
        said = again.partition(f"{victim.name}: resumed\n")[2]
    assert_same(undisturbed)
    assert statuses()[victim.name]["attempts"] == 2
    resumed = re.search(r"resuming after epoch (\d+)", said)
    assert resumed is not None, said
    assert int(resumed[1]) >= reached >= 2, "nothing that was on disk is computed again"
    cores = len(os.sched_getaffinity(0))
    for record in records().values():
        crowd = record["environment"]
        assert crowd["shared"] == (crowd["runs_at_once"] > cores), "one thread a run"
    assert max(record["environment"]["runs_at_once"] for record in records().values()) > 1


@pytest.mark.parametrize("preset", EXTENDED)
def test_a_preset_without_its_package_is_one_message(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTENDED, preset, "not_installed")
    composer = Composer(Sources(conf_dir()))
    with pytest.raises(MissingDependencyError, match=f"hydra/launcher={preset} needs a package: pip install hydra-submitit-launcher"):
        composer.parse([f"hydra/launcher={preset}"])


@pytest.mark.parametrize("preset", EXTENDED)
def test_a_preset_keeps_every_field_of_its_package(preset: str) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="hydra-submitit-launcher is not installed")
    composer = Composer(Sources(conf_dir()))
    ours = composer.compose([f"hydra/launcher={preset}"]).hydra.launcher
    theirs = composer.compose([f"hydra/launcher={EXTENDED[preset]}"]).hydra.launcher
    assert ours._target_ == theirs._target_
    assert set(ours) == set(theirs)
    # Their defaults would end a run after an hour, for good.
    assert ours.timeout_min >= 1440
    if "max_num_timeout" in ours:
        assert ours.max_num_timeout >= 100
        assert ours.additional_parameters.requeue
        assert [line for line in ours.setup if "scontrol requeue" in line]
        assert ours.gpus_per_node == (1 if preset == "slurm_gpu" else None)
