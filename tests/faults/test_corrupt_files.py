"""Files of a run that were cut off, changed or mixed up: what is said, and that the same command makes the record all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kanmlip.experiment import supervisor
from tests.faults import forked
from tests.faults.conftest import RUN, Scene, in_epoch


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit of one weight, which torch.load does not notice."""
    content = bytearray(path.read_bytes())
    state = torch.load(path, weights_only=True)
    value = next(v for v in state["model"].values() if v.is_floating_point() and v.numel() > 3)
    place = bytes(content).index(value.numpy().tobytes())
    content[place] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    """The end of a file that says where its parts are, and other bytes in their place."""
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(bytes(half) + content[half:])


def bomb(path: Path) -> None:
    """A pickle that writes a file when it is loaded as one."""

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (path.with_name("exploded"),))

    torch.save({"schema": 1, "metadata": {}, "model": {}, "tally": {"best_epoch": 0}, "bomb": Bomb()}, path)


@pytest.mark.parametrize("damage", [cut, flip, empty, bomb, Path.unlink])
def test_a_corrupt_last_checkpoint_falls_back_to_the_one_before(damage: Callable[[Path], None], scene: Scene) -> None:
    assert scene.start(in_epoch(4, lambda session: os.abort())) == 1
    assert (scene.epoch(), scene.epoch("last.ckpt.prev")) == (3, 2)
    damage(scene.last)
    # Killed once more before a new checkpoint is written, and the good one is there still.
    assert scene.start(in_epoch(3, lambda session: os.abort())) == 1
    assert scene.start() == 0, scene.said
    assert "resuming after epoch 2" in scene.said
    assert not scene.last.with_name("exploded").exists()
    scene.assert_as_undisturbed()


@pytest.mark.parametrize(
    ("names", "epoch"),
    [
        (("best.ckpt",), 2),
        (("last.ckpt", "best.ckpt"), 2),
        (("last.ckpt", "last.ckpt.prev"), 0),
        (("best.ckpt", "best.ckpt.prev"), 0),
    ],
)
def test_corrupt_checkpoints_fall_back_as_far_as_must_be(names: tuple[str, ...], epoch: int, scene: Scene) -> None:
    assert scene.start(in_epoch(4, lambda session: os.abort())) == 1
    for name in names:
        cut(scene.last.with_name(name))
    assert scene.start() == 0, scene.said
    assert ("resuming" in scene.said) == bool(epoch)
    assert f"resuming after epoch {epoch}" in scene.said or not epoch
    scene.assert_as_undisturbed()


def test_best_weights_of_an_epoch_that_is_done_again_are_not_mixed_up(scene: Scene) -> None:
    """Killed between best.ckpt and last.ckpt of an epoch: the best weights are then of an epoch that last.ckpt does not know."""

    def patch() -> None:
        from kanmlip.training.checkpoints import CheckpointStore

        original = CheckpointStore._replace

        def replace(store: CheckpointStore, path: Path, previous: Path, state: dict[str, Any]) -> None:
            if path == store.last and state["tally"]["epoch"] == 4:
                os.abort()
            original(store, path, previous, state)

        CheckpointStore._replace = replace  # type: ignore[method-assign]

    def stop_after_resuming() -> None:
        from kanmlip.training import loop

        loop.epochs = lambda *arguments: os.abort()  # type: ignore[assignment, return-value]

    assert scene.start(patch) == 1
    assert (scene.epoch(), scene.epoch("best.ckpt"), scene.epoch("best.ckpt.prev")) == (3, 4, 3)
    assert scene.start(stop_after_resuming) == 1
    assert scene.epoch("best.ckpt") == 3
    assert scene.start() == 0, scene.said
    scene.assert_as_undisturbed()


def test_a_checkpoint_of_another_run_is_refused(scene: Scene) -> None:
    assert scene.start(in_epoch(4, lambda session: os.abort())) == 1
    state = torch.load(scene.last, weights_only=True)
    state["metadata"]["run_id"] = "mace-output-bspline-ag-s1-0123456789"
    torch.save(state, scene.last)
    before = scene.last.read_bytes()
    scene.start()
    assert scene.status["exit_code"] == 2
    assert "is a checkpoint of another run (mace-output-bspline-ag-s1-0123456789)" in scene.said
    assert "force=true" in scene.said
    assert "Traceback" not in scene.said
    assert scene.last.read_bytes() == before


@pytest.mark.parametrize("name", ["record", "metrics.json", "placement.json", "config.yaml", "status.json"])
def test_a_file_cut_off_is_made_again_without_training(name: str, scene: Scene) -> None:
    assert scene.start() == 0
    cut(scene.record if name == "record" else scene.run / name)
    if name == "config.yaml":
        scene.record.unlink()  # else nothing would read it
    assert scene.start() == 0, scene.said
    assert "epoch 1/" not in scene.said
    scene.assert_as_undisturbed()
    assert scene.start() == 0
    assert "finished before, skipped" in scene.said


def keyless(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("predictions.npz", cut), ("predictions.npz", empty), ("predictions.npz", garble), ("history.csv", cut), ("metrics.json", keyless),
        ("placement.json", empty),
    ],
)  # fmt: skip
def test_a_finished_run_without_record_whose_files_are_damaged_is_evaluated_again(
    name: str, damage: Callable[[Path], None], scene: Scene
) -> None:
    assert scene.start() == 0
    scene.record.unlink()
    damage(scene.run / name)
    assert scene.start() == 0, scene.said
    assert "Traceback" not in scene.said
    assert "epoch 1/" not in scene.said
    scene.assert_as_undisturbed()


def test_a_record_that_cannot_be_written_is_a_fault_of_the_machine(scene: Scene) -> None:
    assert scene.start() == 0
    scene.record.unlink()

    def full() -> None:
        def write_record(run_dir: Path) -> Path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        supervisor.write_record = write_record

    scene.start(full)
    assert "No space left on device" in scene.said
    assert scene.status["attempts"] == 1


def test_a_sweep_whose_launcher_gave_up_has_failed_whatever_its_folders_say(scene: Scene) -> None:
    assert scene.start() == 0

    def give_up() -> None:
        def supervise(*arguments: Any, **keywords: Any) -> None:
            raise RuntimeError("no more jobs")

        supervisor.supervise = supervise  # type: ignore[assignment]

    code, said = forked.train("-m", *RUN, output=scene.results.with_suffix(".out"), before=give_up, KANMLIP_RESULTS=str(scene.results))
    assert "the launcher gave up (RuntimeError: no more jobs)" in said
    assert "1 of 1 runs done" in said
    assert code == 1
