"""The embedded and the published sets."""

from __future__ import annotations

import hashlib
import http.server
import lzma
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT

from kanmlip.cli.data import main
from kanmlip.data import carbon, selection
from kanmlip.data.catalogue import catalogue, download, fetch, whole_dataset
from kanmlip.data.checksum import file_sha256
from kanmlip.data.labels import attach
from kanmlip.data.neighbours import build_graphs
from kanmlip.data.root import cache_root, data_root
from kanmlip.data.statistics import check_species, compute_statistics
from kanmlip.data.toy import Toy, silver_with_vacancy, simulate
from kanmlip.data.xyz_file import parse_frame
from kanmlip.errors import DataError
from tests.conftest import rattled_silver

REAL = ("ag", "hfo2", "carbon")


def real(name: str, repository: Path, **settings: int):
    dataset = whole_dataset(repository / "conf", name)
    missing = [path for path in (data_root() / dataset.folder / file for file in dataset.files.values()) if not path.is_file()]
    if missing:
        pytest.skip(f"the data root {data_root()} lacks {missing[0].name} of dataset={name}; set KANMLIP_DATA")
    return dataset.model_copy(update=settings)


def test_toy_is_the_papers_cell_with_consistent_labels_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    toy = Toy(name="toy", n_frames=6, interval=2, equilibration=4)
    splits = toy.load(tmp_path)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [4, 1, 1]
    assert len(silver_with_vacancy()) == 71
    np.testing.assert_allclose(silver_with_vacancy().cell.lengths(), [12.4815, 12.4815, 8.321])
    atoms = splits.train[2].copy()
    atoms.calc = EMT()
    assert atoms.get_potential_energy() == pytest.approx(splits.train[2].get_potential_energy(), abs=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), splits.train[2].get_forces(), atol=1e-6)
    np.testing.assert_allclose(atoms.get_stress(), splits.train[2].get_stress(), atol=1e-6)
    first, second = simulate(toy), simulate(toy)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(first, second, strict=True))
    assert toy.fingerprint(tmp_path) != toy.model_copy(update={"trajectory_seed": 8}).fingerprint(tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_real_sets_load_a_named_subset_with_labels(name: str, repository: Path) -> None:
    dataset = real(name, repository, n_train=4, n_val=3)
    splits = dataset.load(data_root())
    assert len(splits.train) == 4
    assert "4 of" in splits.subset
    assert splits.subset in splits.label
    assert splits.stand_in == (name != "hfo2")
    stats = compute_statistics(build_graphs(splits.train, 4.0), 4.0)
    assert 0.1 < stats.force_rms < 10
    assert dataset.load(data_root()).indices == splits.indices
    other = dataset.model_copy(update={"subset_seed": 1}).load(data_root())
    assert other.indices["train"] != splits.indices["train"]


def test_the_carbon_stand_in_is_a_partition(repository: Path) -> None:
    splits = real("carbon", repository).load(data_root())
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [310, 50, 90]
    parts = [
        {atoms.positions.tobytes() + np.asarray(atoms.cell).tobytes() for atoms in part} for part in (splits.train, splits.val, splits.test)
    ]
    # The source itself has one structure twice (frames 342 and 343 of the training file); across the parts nothing repeats.
    assert len(set.union(*parts)) == sum(map(len, parts)) == 449


def test_a_file_with_another_checksum_is_refused_unless_asked_for(repository: Path, tmp_path: Path, silver) -> None:
    dataset = whole_dataset(repository / "conf", "ag")
    with pytest.raises(DataError, match=r"dataset=ag is not under the data root.*KANMLIP_DATA.*doi"):
        dataset.check(tmp_path)
    for name in dataset.files.values():
        (tmp_path / "ag").mkdir(exist_ok=True)
        (tmp_path / "ag" / name).write_bytes(b"something else")
    with pytest.raises(DataError, match=r"sha256.*dataset.verify=false"):
        dataset.check(tmp_path)
    unverified = dataset.model_copy(update={"verify": False})
    with pytest.raises(DataError, match=r"train.extxyz.xz"):  # its content is looked at before a run starts, then
        unverified.check(tmp_path)
    for name in dataset.files.values():
        ase.io.write(tmp_path / "frames.xyz", silver, format="extxyz")
        (tmp_path / "ag" / name).write_bytes(lzma.compress((tmp_path / "frames.xyz").read_bytes()))
    unverified.check(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_more_structures_than_there_are_is_refused_before_anything_is_made(split: str, repository: Path, tmp_path: Path) -> None:
    toy = whole_dataset(repository / "conf", "toy").model_copy(update={f"n_{split}": 81})
    with pytest.raises(DataError, match=rf"dataset.n_{split}=81, but toy has (80|20) {split} structures; choose at most that many"):
        toy.check(tmp_path)


@pytest.mark.parametrize("name", ["ag", "carbon", "sio2_bec"])
def test_more_structures_than_a_published_set_has_is_refused_before_it_is_loaded(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    dataset = real(name, repository, n_train=2, n_val=100_000)
    for _ in range(2):  # counted, then remembered
        with pytest.raises(DataError, match=rf"dataset.n_val=100000, but {name} has \d+ val structures; choose at most that many"):
            dataset.check(data_root())
        monkeypatch.setattr(type(dataset), "sources", lambda *arguments: pytest.fail("read again"))
    dataset.model_copy(update={"n_val": 3}).check(data_root())
    for note in (tmp_path / "split_sizes").iterdir():
        note.write_text("{not whole")
    monkeypatch.undo()
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    with pytest.raises(DataError, match=r"dataset.n_val=100000"):
        dataset.check(data_root())


def test_reference_energies_are_least_squares_and_of_minimum_norm_for_one_composition(silver) -> None:
    graphs = build_graphs(silver, 3.5)
    stats = compute_statistics(graphs, 3.5)
    assert stats.atomic_numbers == (47,)
    assert stats.reference_energies[47] == pytest.approx(np.mean([a.get_potential_energy() / 16 for a in silver]))
    assert stats.force_rms == pytest.approx(np.sqrt(np.mean([a.get_forces() ** 2 for a in silver])))
    assert stats.avg_num_neighbors == pytest.approx(sum(g.edge_index.shape[1] for g in graphs) / 64)
    mixed = []
    for atoms in silver[:2]:
        other = atoms.copy()
        other.numbers[:8] = 79
        mixed.append(attach(other, {"energy": np.asarray(atoms.get_potential_energy())}))
    energies = compute_statistics(build_graphs(mixed, 3.5), 3.5).reference_energies
    assert energies[47] == pytest.approx(energies[79])
    with pytest.raises(DataError, match=r"frame 0 of the val set has species Z=\[79\]"):
        check_species(build_graphs(mixed, 3.5), stats, "val")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file.xyz").write_bytes(b"content")
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: handler(*args, directory=str(folder))) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_a_download_is_kept_only_with_the_right_checksum(server: str, tmp_path: Path) -> None:
    target = tmp_path / "here" / "file.xyz"
    with pytest.raises(DataError, match="sha256"):
        download(f"{server}/file.xyz", target, "0" * 64)
    with pytest.raises(DataError, match="cannot be fetched"):
        download(f"{server}/absent.xyz", target, "0" * 64)
    assert not target.parent.exists()
    target.parent.mkdir()
    left = target.with_name(".file.xyz.4711")  # by a process that was killed
    left.write_bytes(b"cont")
    os.utime(left, (0, 0))
    download(f"{server}/file.xyz", target, hashlib.sha256(b"content").hexdigest())
    assert target.read_bytes() == b"content"
    assert list(target.parent.iterdir()) == [target]


def test_the_command_lists_describes_and_checks(tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str], silver) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalogue(repository / "conf"))
    assert main(["info", "hfo2"]) == 0
    assert "LGPL" in capsys.readouterr().out
    assert main(["info", "hfo"]) == 2
    assert "Did you mean 'hfo2'" in capsys.readouterr().err
    path = tmp_path / "my.xyz"
    ase.io.write(path, silver, format="extxyz")
    assert main(["check", str(path)]) == 0
    assert "0 problem(s)" in capsys.readouterr().out
    ase.io.write(path, [*silver, silver[1]], format="extxyz")
    assert main(["check", str(path)]) == 2
    assert "frame 4 has the structure of frame 1" in capsys.readouterr().out


def test_a_dataset_file_with_wrong_values_is_described_line_by_line(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "dataset").mkdir()
    text = (repository / "conf" / "dataset" / "toy.yaml").read_text().replace("interval: 10", "interval: none") + "colour: blue\n"
    (tmp_path / "dataset" / "toy.yaml").write_text(text)
    with pytest.raises(DataError) as caught:
        whole_dataset(tmp_path, "toy")
    file, *lines = str(caught.value).splitlines()
    assert file == f"{tmp_path / 'dataset' / 'toy.yaml'}:"
    assert len(lines) == 2
    assert lines[0].startswith("dataset.interval=none: ")
    assert lines[1].startswith("dataset.colour=blue: there is no key 'dataset.colour'; choose from: ")


def test_fetching_a_set_without_a_direct_address_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KANMLIP_DATA", str(tmp_path))
    assert main(["fetch", "ag"]) == 2
    said = capsys.readouterr().err
    assert "doi 10.24435/materialscloud:fr-ts" in said
    assert str(tmp_path / "ag" / "train.extxyz.xz") in said
    assert "e62d46b12e4a300257feaef6e1a75149" in said
    assert main(["fetch", "toy"]) == 2


def test_fetch_places_the_missing_files_of_a_set_with_an_address(server: str, repository: Path, tmp_path: Path) -> None:
    checksum = hashlib.sha256(b"content").hexdigest()
    settings = {"address": server, "files": {"train": "file.xyz"}, "sha256": {"train": checksum}}
    dataset = whole_dataset(repository / "conf", "ag").model_copy(update=settings)
    assert fetch(dataset, tmp_path / "root") == [tmp_path / "root" / "ag" / "file.xyz"]
    assert fetch(dataset, tmp_path / "root") == []
    dataset.check(tmp_path / "root")


def test_check_names_outliers_and_structures_that_two_files_share(tmp_path: Path, capsys: pytest.CaptureFixture[str], silver) -> None:
    frames = [rattled_silver(seed=seed) for seed in range(20, 30)]
    frames[6].calc.results["energy"] += 500.0
    one, other = tmp_path / "train.xyz", tmp_path / "val.xyz"
    ase.io.write(one, frames, format="extxyz")
    ase.io.write(other, [*silver, frames[4]], format="extxyz")
    assert main(["check", str(one)]) == 0
    assert "energy: frames 6 lie more than 10 robust standard deviations" in capsys.readouterr().out
    assert main(["check", str(one), str(other)]) == 2
    assert "have 1 structures in common (the first: frame 4 of the second)" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "absent.xyz")]) == 2


def test_only_the_frames_of_the_subset_are_parsed(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silver) -> None:
    (tmp_path / "ag").mkdir()
    for name in ("train.extxyz", "val.extxyz"):
        ase.io.write(tmp_path / "ag" / name, silver * 5, format="extxyz")
    parsed: list[int] = []

    def counting(text: str, path: Path, index: int):
        parsed.append(index)
        return parse_frame(text, path, index)

    monkeypatch.setattr(selection, "parse_frame", counting)
    settings = {"verify": False, "files": {"train": "train.extxyz", "val": "val.extxyz"}, "n_train": 3, "n_val": 2}
    splits = whole_dataset(repository / "conf", "ag").model_copy(update=settings).load(tmp_path)
    assert parsed == [*splits.indices["train"], *splits.indices["val"]]
    assert len(parsed) == 5


def test_carbon_uses_the_papers_split_where_its_training_frames_are(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "carbon"
    folder.mkdir()
    frames = [rattled_silver((1, 1, 1), seed=seed) for seed in range(36)]
    for index, atoms in enumerate(frames):
        atoms.info["config_type"] = "surf_amo" if index % 3 == 0 else "bulk_amo"
    ase.io.write(folder / "train.extxyz", frames[:30], format="extxyz")
    dataset = whole_dataset(repository / "conf", "carbon").model_copy(update={"n_held_out": 6})
    with pytest.raises(DataError, match=r"paper's test set .*test_450.extxyz.xz is missing"):
        dataset.check(tmp_path)
    ase.io.write(tmp_path / "test.xyz", frames[30:], format="extxyz")
    (folder / "test_450.extxyz.xz").write_bytes(lzma.compress((tmp_path / "test.xyz").read_bytes()))
    with pytest.raises(DataError, match=r"test_450.extxyz.xz has sha256"):
        dataset.check(tmp_path)
    monkeypatch.setattr(carbon, "PAPER_TEST_SHA256", hashlib.sha256((folder / "test_450.extxyz.xz").read_bytes()).hexdigest())
    with pytest.raises(DataError, match=r"has 30 frames, not the paper's 4080"):
        dataset.load(tmp_path)
    monkeypatch.setattr(carbon, "PAPER_TRAIN_FRAMES", 30)
    splits = dataset.load(tmp_path)
    assert not splits.stand_in
    assert "stand-in" not in splits.label
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [24, 6, 6]
    parts = [{atoms.positions.tobytes() for atoms in part} for part in (splits.train, splits.val, splits.test)]
    assert len(set.union(*parts)) == 36
    # Ten of the thirty are of one kind: two of the six held out.
    assert sum(index % 3 == 0 for index in splits.indices["val"]) == 2
    assert splits.sha256 == dataset.fingerprint(tmp_path)


def test_checksums_are_remembered_by_size_and_time_but_not_of_young_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    assert not (tmp_path / "cache").exists()
    os.utime(path, (1e9, 1e9))
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    (note,) = (tmp_path / "cache" / "checksums").iterdir()
    note.write_text("f" * 64)
    assert file_sha256(path) == "f" * 64
    note.write_text("cut off")
    assert file_sha256(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    assert file_sha256(path) == hashlib.sha256(b"two").hexdigest()


def test_the_cache_is_beside_the_data_only_where_it_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KANMLIP_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KANMLIP_DATA", str(tmp_path))
    assert cache_root() == tmp_path / ".cache"
    monkeypatch.setattr("kanmlip.data.root.os.access", lambda *_: False)
    assert cache_root() == tmp_path / "home" / "kanmlip"
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path / "chosen"))
    assert cache_root() == tmp_path / "chosen"


def test_a_broken_toy_cache_is_made_anew_and_one_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANMLIP_CACHE", str(tmp_path))
    toy = Toy(name="toy", n_frames=3, interval=1, equilibration=0)
    toy.load(tmp_path)
    (file,) = (tmp_path / "toy").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    toy.load(tmp_path)
    assert file.read_bytes() == content
    monkeypatch.setenv("KANMLIP_CACHE", str(file))
    with pytest.raises(DataError, match="KANMLIP_CACHE"):
        toy.load(tmp_path)
