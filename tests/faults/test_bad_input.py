"""Bad input: one message of ours with the way out, exit code 2, no run, and no file changed; never a traceback of a library.

``KANMLIP_BAD_INPUTS`` is the number of generated inputs of each kind (15 unless set).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kanmlip.cli import train
from kanmlip.data.toy import Toy, simulate
from kanmlip.errors import KanmlipError
from kanmlip.experiment.composition import Sources
from kanmlip.experiment.folders import conf_dir
from kanmlip.experiment.pipeline import seed_everything
from kanmlip.experiment.plan import make_plan
from tests.faults.broken_files import BROKEN, FRAMES, broken, frame, write

EXAMPLES = int(os.environ.get("KANMLIP_BAD_INPUTS", "15"))
# The same inputs every time; a set that grows is asked for by the variable.
generated = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FILE = ("model=nequip", "dataset=extxyz", "budget=smoke")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command in this process; the one message that it gave."""
    before = snapshot(folder)
    old = sys.argv
    capsys.readouterr()
    try:
        sys.argv = ["kanmlip-train", *arguments]
        with pytest.raises(SystemExit) as ended:
            train.main()
    finally:
        sys.argv = old
    said = capsys.readouterr()
    assert ended.value.code == 2, said
    assert said.out == ""
    assert said.err.count("kanmlip-train: ") == 1
    assert "Traceback" not in said.err
    assert snapshot(folder) == before
    return said.err


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything that a command could write to, but the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KANMLIP_RESULTS", str(tmp_path / "results"))
    return tmp_path


def good(place: Path, seed: int) -> Path:
    random = np.random.default_rng(seed)
    write(place / "train.xyz", [frame(random) for _ in range(FRAMES)])
    write(place / "val.xyz", [frame(random) for _ in range(FRAMES)])
    return place / "train.xyz"


def test_the_files_are_good_before_they_are_broken(place: Path) -> None:
    path = good(place, 0)
    assert make_plan([*FILE, f"dataset.train={path}", f"dataset.val={place / 'val.xyz'}"], False, Sources(conf_dir())).jobs


@generated
@given(kind=broken(), seed=st.integers(0, 10**6), split=st.sampled_from(["train", "val"]))
def test_a_broken_file_is_refused(kind: str, seed: int, split: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good(place, seed)
    BROKEN[kind](place / f"{split}.xyz", np.random.default_rng(seed))
    said = refused([*FILE, f"dataset.train={place / 'train.xyz'}", f"dataset.val={place / 'val.xyz'}"], place, capsys)
    assert f"{split}.xyz" in said
    assert "PROBLEM" not in said


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_every_kind_of_broken_file_is_refused_on_loading(kind: str, place: Path) -> None:
    good(place, 1)
    BROKEN[kind](place / "train.xyz", np.random.default_rng(2))
    with pytest.raises(KanmlipError) as caught:
        plan(f"dataset.train={place / 'train.xyz'}", f"dataset.val={place / 'val.xyz'}")
    assert caught.value.exit_code == 2
    assert "train.xyz" in str(caught.value)


def plan(*arguments: str) -> None:
    make_plan([*FILE, *arguments], False, Sources(conf_dir()))


def test_frames_shared_between_splits_and_unknown_species_are_refused(place: Path) -> None:
    random = np.random.default_rng(3)
    frames = [frame(random) for _ in range(FRAMES)]
    write(place / "train.xyz", frames)
    write(place / "val.xyz", [frame(random), frames[4]])
    files = (f"dataset.train={place / 'train.xyz'}", f"dataset.val={place / 'val.xyz'}")
    with pytest.raises(KanmlipError, match=r"frame 1 of dataset.val has the structure of frame 4 of dataset.train.*allow_shared=true"):
        plan(*files)
    plan(*files, "dataset.allow_shared=true")
    frames[2].symbols[1] = "Cu"
    write(place / "val.xyz", [frames[2]])
    with pytest.raises(KanmlipError, match=r"the val structures contain Cu, which no training structure has \(Ag\)"):
        plan(*files)


NUMBERS = ("trainer.max_epochs", "trainer.batch_size", "trainer.optimizer.lr", "trainer.eval_batch_size", "seed", "trainer.threads")
CHOICES = ("model", "dataset", "basis", "placement", "budget", "logger", "trainer.precision", "trainer.device", "trainer.schedule.name")
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).map(lambda word: f"z{word}")
WRONG_NUMBERS = st.one_of(
    st.integers(max_value=-1).map(str), st.sampled_from(["nan", "-inf", "null", "[]", "{}", "''", "true.", "1e", "-0.5"]), WORDS
)
KNOWN = [
    "trainer.loss.energy=-1", "trainer.loss.forces=nan", "model.cutoff=0", "model.cutoff=nan", "model.cutoff=-3", "seed=1.5",
    "trainer.monitor=val/nothing", "dataset.n_train=0", "dataset.n_train=100000", "dataset.n_val=100000", "timeout_s=-1", "basis.grid=0",
    "basis.order=-1", "basis.backend=fast", "trainer=null", "model=[allegro]", "dataset.max_force=-1", "trainer.ema_decay=1.5",
    "trainer.gradient_clip=0", "force=perhaps", "model._target_=os.system", "dataset._target_=kanmlip.models.mace.MACE",
    "basis._target_=builtins.print", "trainer.optimizer.lr=inf",
    # Numbers that numpy, torch or the system cannot take.
    f"seed={2**64}", f"dataset.trajectory_seed={2**32}", "dataset.n_frames=1000000000000", "trainer.threads=3000000000",
    "trainer.threads=100000", f"dataset.n_train={2**70}",
]  # fmt: skip
WRONG = st.one_of(
    st.tuples(st.sampled_from(NUMBERS), WRONG_NUMBERS).map("=".join),
    st.tuples(st.sampled_from(CHOICES), WORDS).map("=".join),
    st.tuples(st.sampled_from(["", "trainer.", "model.", "dataset.", "placement.", "basis.", "trainer.loss."]), WORDS, WORDS).map(
        lambda parts: f"{parts[0]}{parts[1]}={parts[2]}"
    ),
    st.sampled_from(KNOWN),
)  # fmt: skip


@pytest.mark.parametrize("argument", KNOWN)
def test_each_argument_that_is_known_to_be_wrong_is_refused(argument: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["model=nequip", "dataset=toy", "budget=smoke", "placement=output", argument], place, capsys)
    assert argument.partition("=")[0].split(".")[-1] in said


@pytest.mark.parametrize("argument", ["trainer.batch_atoms=1", "trainer.batch_edges=1"])
def test_batches_that_are_too_small_for_a_structure_are_refused(argument: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = (f"dataset.train={good(place, 0)}", f"dataset.val={place / 'val.xyz'}")
    said = refused([*FILE, *files, argument], place, capsys)
    found = re.search(
        rf"{argument}, but frame \d+ of the training set alone has (\d+) (atoms|edges); set trainer.batch_\2=\1 or more", said
    )
    assert found is not None
    plan(*files, f"{argument.partition('=')[0]}={found[1]}")
    refused([*FILE, *files, f"{argument.partition('=')[0]}={int(found[1]) - 1}"], place, capsys)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
@pytest.mark.parametrize("argument", ["trainer.device=cuda", "trainer.devices=100000", "basis.backend=triton"])
def test_what_this_machine_lacks_is_refused(argument: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["model=nequip", "dataset=toy", "budget=smoke", "placement=output"]
    assert argument in refused([*run, argument], place, capsys)
    assert argument in refused(["-m", *run, "seed=1,2", argument], place, capsys)


def test_the_largest_seeds_are_taken(place: Path) -> None:
    for argument in (f"seed={2**64 - 1}", "dataset.trajectory_seed=4294967295"):
        make_plan(["model=nequip", "dataset=toy", argument], False, Sources(conf_dir()))
    seed_everything(2**64 - 1)
    simulate(Toy(name="toy", trajectory_seed=2**32 - 1, equilibration=0, interval=1, n_frames=3))


@generated
@given(argument=WRONG)
def test_a_wrong_argument_is_refused(argument: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    placement = () if argument.startswith("placement=") else ("placement=output",)
    said = refused(["model=nequip", "dataset=toy", "budget=smoke", *placement, argument], place, capsys)
    assert argument.partition("=")[0].split(".")[-1] in said


@generated
@given(argument=st.text(max_size=30))
def test_any_text_as_an_argument_is_planned_or_refused(argument: str, place: Path) -> None:
    try:
        make_plan(["model=nequip", "dataset=toy", argument], False, Sources(conf_dir()))
    except KanmlipError as error:
        assert error.exit_code == 2
        assert str(error)
